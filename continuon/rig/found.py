"""What a scan says of one place."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from continuon.errors import HardwareError, MissingPackageError

__all__ = ["ESSENTIAL", "Found", "RigScan", "ask"]

# Without these there is no robot to drive.
ESSENTIAL = ("camera", "pca9685")


@attrs.frozen(kw_only=True)
class Found:
    """One place that was looked at.

    Attributes:
        kind: what was looked for: "pca9685", "ina219", "max17048", "camera", ...
        where: path or address.
        present: whether it answered.
        detail: what it said, or why it is not there.
        hint: what is likely wrong and what to do; None where nothing is.
    """

    kind: str
    where: str
    present: bool
    detail: str
    hint: str | None = None


@attrs.frozen(kw_only=True)
class RigScan:
    """Everything that was looked at, in a fixed order.

    Attributes:
        found: places.
        origin: "real", or "simulated" for a scan of the robot on the desk.
    """

    found: tuple[Found, ...]
    origin: str = "real"

    @property
    def missing(self) -> tuple[str, ...]:
        """The essential kinds of which none answered."""
        there = {each.kind for each in self.found if each.present}
        return tuple(kind for kind in ESSENTIAL if kind not in there)

    @property
    def exit_code(self) -> int:
        """0 with everything essential there, else 4: a person must connect it."""
        return 4 if self.missing else 0

    def as_dict(self) -> dict[str, object]:
        """Return it for machines."""
        return {
            "schema": "continuon.rig-scan/1",
            "origin": self.origin,
            "missing": list(self.missing),
            "exit_code": self.exit_code,
            "found": [attrs.asdict(each) for each in self.found],
        }


def ask(kind: str, where: str, question: Callable[[], str]) -> Found:
    """Return what a device says, or the error that tells why it does not."""
    try:
        return Found(kind=kind, where=where, present=True, detail=question())
    except (HardwareError, MissingPackageError) as error:
        return Found(
            kind=kind, where=where, present=False, detail=str(error), hint=error.hint
        )
