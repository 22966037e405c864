"""A rig's outputs and senses proven by what comes back: `continuon rig validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from continuon.errors import ContinuonError
from continuon.health.check import check_health
from continuon.health.levels import EXIT_CODES, Level, worst
from continuon.health.report import Check, HealthReport
from continuon.home import Home
from continuon.rig.calibration import CarCalibration
from continuon.rig.protocols import Rig, Servos

__all__ = ["RigValidation", "rig_validate"]

WIGGLE = 0.15
HOLD_NS = 300_000_000
TOLERANCE_US = 6.0


@attrs.frozen(kw_only=True)
class RigValidation:
    """Health, and what the outputs did.

    Attributes:
        health: every check of the rig at rest.
        outputs: checks of the outputs.
        moved: whether anything was driven.
    """

    health: HealthReport
    outputs: tuple[Check, ...]
    moved: bool

    @property
    def verdict(self) -> Level:
        """The worst of both."""
        levels = [check.level for check in self.outputs]
        return worst([self.health.verdict, *levels])

    @property
    def exit_code(self) -> int:
        """The process exit status that carries the verdict."""
        return EXIT_CODES[self.verdict]

    @property
    def origin(self) -> str:
        """The rig's label."""
        return self.health.origin

    def as_dict(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "schema": "continuon.rig-validation/1",
            "rig": self.health.rig,
            "origin": self.origin,
            "verdict": str(self.verdict),
            "exit_code": self.exit_code,
            "moved": self.moved,
            "outputs": [check.as_dict() for check in self.outputs],
            "health": self.health.as_dict(),
        }


def rig_validate(
    rig: Rig,
    *,
    move: bool = False,
    calibration: CarCalibration | None = None,
    home: Home | Path | None = None,
) -> RigValidation:
    """Check a rig; with `move` also turn the steering a little and read it back.

    A person must have agreed to `move`; the throttle is never driven. Outputs end fully
    off in either case.

    Args:
        rig: to look at.
        move: whether the steering may be turned.
        calibration: of the car; the rig's own when None.
        home: where recordings go.
    """
    health = check_health(rig, home=home)
    if rig.servos is None:
        return RigValidation(health=health, outputs=(), moved=False)
    steering = (rig.calibration if calibration is None else calibration).steering
    outputs = []
    moved = False
    try:
        if move:
            for position in (-WIGGLE, WIGGLE, 0.0):
                wanted = steering.pulse_us(position)
                moved = True
                rig.servos.set_pulses_us({steering.channel: wanted})
                rig.clock.sleep_until_ns(rig.clock.monotonic_ns() + HOLD_NS)
                outputs.append(_read_back(rig, rig.servos, steering.channel, wanted))
    except ContinuonError as error:
        outputs.append(_broken("steering", rig, error))
    finally:
        outputs.append(_stop(rig, rig.servos))
    return RigValidation(health=health, outputs=tuple(outputs), moved=moved)


def _read_back(rig: Rig, servos: Servos, channel: int, wanted_us: float) -> Check:
    seen_us = servos.read_pulses_us()[channel]
    fits = abs(seen_us - wanted_us) <= TOLERANCE_US
    return Check(
        name="steering",
        level=Level.OK if fits else Level.CRITICAL,
        text=f"asked {wanted_us:.0f} us, registers say {seen_us:.1f} us",
        figures={"asked_us": wanted_us, "read_back_us": round(seen_us, 2)},
        origin=rig.origin,
    )


def _stop(rig: Rig, servos: Servos) -> Check:
    try:
        servos.full_off()
    except ContinuonError as error:
        return _broken("stop", rig, error)
    return Check(
        name="stop",
        level=Level.OK,
        text="every channel reads back as fully off",
        figures={"channels_driven": 0},
        origin=rig.origin,
    )


def _broken(name: str, rig: Rig, error: ContinuonError) -> Check:
    return Check(
        name=name,
        level=Level.CRITICAL,
        text=str(error),
        origin=rig.origin,
        hint=error.hint,
    )
