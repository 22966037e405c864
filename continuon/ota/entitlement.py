"""Who may have a bundle. It gates fetching and activating new ones, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import attrs

from continuon.bundle.keys import VerifyingKey
from continuon.errors import ContinuonError, TrustError
from continuon.ota.grant import (
    MAX_GRANT_BYTES,
    Ask,
    Grant,
    RobotIdentity,
    check_grant,
    now_seconds,
    open_grant,
)
from continuon.ota.record import Record

__all__ = ["Entitlement", "GrantEntitlement", "Learned", "OpenEntitlement"]


@attrs.frozen(kw_only=True)
class Learned:
    """What a signed grant told: floors for the record, each of which only rises.

    `fresh` says that this is the first sight of it: the robot was in touch.
    """

    t_floor_ns: int
    grant_seq: int
    owner_epoch: int
    fresh: bool


class Entitlement(Protocol):
    """Decides whether this robot may fetch or activate a bundle."""

    def admit(self, record: Record, ask: Ask, *, wall_ns: int) -> Learned | None:
        """Return what was learned, or None.

        Raises:
            TrustError: E-OTA-GRANT-..., this robot may not have it now.
        """
        ...

    def describe(self, record: Record, *, wall_ns: int) -> str:
        """Return one line for a person."""
        ...


@attrs.frozen
class OpenEntitlement:
    """No grants are asked for: whoever has the files may install them."""

    def admit(self, record: Record, ask: Ask, *, wall_ns: int) -> None:
        """Admit every bundle."""
        del record, ask, wall_ns

    def describe(self, record: Record, *, wall_ns: int) -> str:
        """Return one line for a person."""
        del record, wall_ns
        return "no grants are asked for on this device"


@attrs.frozen
class GrantEntitlement:
    """Asks the signed grant at `path`, each time anew, so that a swap is noticed."""

    path: Path
    grant_keys: tuple[VerifyingKey, ...]
    identity: RobotIdentity
    threshold: int = 1

    @classmethod
    def at(
        cls, path: Path, grant_keys: Sequence[VerifyingKey], identity: RobotIdentity
    ) -> GrantEntitlement:
        """Return the entitlement that reads its grant from `path`."""
        return cls(path, tuple(grant_keys), identity)

    def admit(self, record: Record, ask: Ask, *, wall_ns: int) -> Learned:
        """See `Entitlement`."""
        grant = self._grant()
        check_grant(grant, ask, self.identity, record, wall_ns=wall_ns)
        return Learned(
            t_floor_ns=grant.issued_at_s * 10**9,
            grant_seq=grant.grant_seq,
            owner_epoch=grant.owner_epoch,
            fresh=grant.grant_seq > record.grant_seq,
        )

    def describe(self, record: Record, *, wall_ns: int) -> str:
        """See `Entitlement`."""
        try:
            grant = self._grant()
        except ContinuonError as error:
            return f"{error.code}: {error.what}"
        left_s = grant.not_after_s - now_seconds(record, grant, wall_ns)
        days = left_s / 86_400
        state = f"fresh for {days:.1f} days" if left_s >= 0 else "in its grace or over"
        return f"grant {grant.grant_seq} for {grant.robot_id}, {state}"

    def _grant(self) -> Grant:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_GRANT_BYTES + 1)
        except OSError as error:
            raise TrustError(
                "E-OTA-GRANT-011",
                "this robot has no grant",
                seen=error.strerror,
                where=self.path,
                hint="claim the robot in its owner's app; what runs is not touched",
            ) from error
        return open_grant(data, self.grant_keys, threshold=self.threshold)
