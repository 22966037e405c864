"""Who may have a bundle. It gates fetching and activating new ones, nothing else."""

from __future__ import annotations

from typing import Protocol

import attrs

from continuon.ota.record import Record

__all__ = ["Entitlement", "Learned", "OpenEntitlement"]


@attrs.frozen(kw_only=True)
class Learned:
    """What a signed grant told: floors for the record, each of which only rises."""

    t_floor_ns: int
    grant_seq: int
    owner_epoch: int


class Entitlement(Protocol):
    """Decides whether this robot may fetch or activate a bundle."""

    def admit(
        self, record: Record, bundle: str, release_counter: int, *, wall_ns: int
    ) -> Learned | None:
        """Return what was learned, or None.

        Raises:
            TrustError: E-OTA-GRANT-..., this robot may not have it now.
        """
        ...

    def describe(self, record: Record) -> str:
        """Return one line for a person."""
        ...


@attrs.frozen
class OpenEntitlement:
    """No grants are asked for: whoever has the files may install them."""

    def admit(
        self, record: Record, bundle: str, release_counter: int, *, wall_ns: int
    ) -> None:
        """Admit every bundle."""
        del record, bundle, release_counter, wall_ns

    def describe(self, record: Record) -> str:
        """Return one line for a person."""
        del record
        return "no grants are asked for on this device"
