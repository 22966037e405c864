"""What entitlement and uptime leave in the record: floors that only rise."""

from __future__ import annotations

from continuon.ota.entitlement import Entitlement
from continuon.ota.grant import Ask
from continuon.ota.slots import Slots
from continuon.ota.stager import Contact

__all__ = ["ask_for", "note_uptime"]


def ask_for(
    slots: Slots, entitlement: Entitlement, ask: Ask, *, wall_ns: int
) -> Contact | None:
    """Return what was signed if this robot may have the bundle.

    The caller remembers it with the next record that it writes anyway.

    Raises:
        TrustError: E-OTA-GRANT-..., it may not.
    """
    told = entitlement.admit(slots.load(), ask, wall_ns=wall_ns)
    if told is None:
        return None
    return Contact(
        t_floor_ns=told.t_floor_ns,
        grant_seq=told.grant_seq,
        owner_epoch=told.owner_epoch,
        offline_ns=0 if told.fresh else None,
    )


def note_uptime(slots: Slots, powered_on_s: float) -> None:
    """Raise the time floor by powered-on time, and count it as time offline."""
    record = slots.load()
    passed_ns = max(0, int(powered_on_s * 1e9))
    floor_ns = record.t_floor_ns + passed_ns if record.t_floor_ns else 0
    slots.contact(t_floor_ns=floor_ns, offline_ns=record.offline_ns + passed_ns)
