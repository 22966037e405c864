"""When outputs may be driven: the guard's decisions as a pure function."""

from __future__ import annotations

from enum import StrEnum

import attrs

from continuon.robot.board import Command, Permit

__all__ = [
    "BY_ITSELF",
    "REASONS",
    "Act",
    "GuardLimits",
    "GuardMemory",
    "OffReason",
    "decide",
    "trip",
]


class Act(StrEnum):
    """What the guard does at one poll."""

    APPLY = "apply"
    KEEP = "keep"
    OFF = "off"


class OffReason(StrEnum):
    """Why outputs are off; NONE while they are driven."""

    NONE = "none"
    STARTING = "starting"
    NO_COMMAND = "no_command"
    DISABLED = "disabled"
    NOT_PERMITTED = "not_permitted"
    E_STOP = "e_stop"
    STALE_HEARTBEAT = "stale_heartbeat"
    FUTURE_HEARTBEAT = "future_heartbeat"
    STALE_PERMIT = "stale_permit"
    ILLEGAL_PULSE = "illegal_pulse"
    TRIPPED = "tripped"
    BUS_ERRORS = "bus_errors"
    TERMINATED = "terminated"
    ORPHANED = "orphaned"
    FAULT = "fault"
    GUARD_DIED = "guard_died"


REASONS = tuple(OffReason)
BY_ITSELF = frozenset(
    {
        OffReason.STALE_HEARTBEAT,
        OffReason.FUTURE_HEARTBEAT,
        OffReason.STALE_PERMIT,
        OffReason.ILLEGAL_PULSE,
        OffReason.BUS_ERRORS,
    }
)
"""Stops that nobody asked for."""

_TRIPS = BY_ITSELF | {OffReason.E_STOP}


@attrs.frozen(kw_only=True)
class GuardLimits:
    """Bounds that no command may widen."""

    heartbeat_timeout_ns: int = 500_000_000
    permit_timeout_ns: int = 450_000_000
    future_tolerance_ns: int = 50_000_000
    min_pulse_us: float = 400.0
    max_pulse_us: float = 2600.0
    max_bus_errors: int = 3


@attrs.frozen(kw_only=True)
class GuardMemory:
    """What the guard remembers between two polls.

    Attributes:
        driving: pulses may be on the outputs.
        proven_off: every channel was read back as 0 since the last pulse.
        tick: the tick that was last applied.
        heartbeat_ns: the heartbeat last seen whole.
        tripped_epoch: motion of this epoch or an older one is over.
        bus_errors: refusals in a row.
        reason: why outputs are off.
    """

    driving: bool = False
    proven_off: bool = False
    tick: int = -1
    heartbeat_ns: int | None = None
    tripped_epoch: int = -1
    bus_errors: int = 0
    reason: OffReason = OffReason.STARTING


def decide(
    limits: GuardLimits,
    memory: GuardMemory,
    *,
    now_ns: int,
    command: Command | None,
    permit: Permit | None,
) -> tuple[GuardMemory, Act]:
    """Return the next memory and what to do; the shell adds what the bus answered."""
    if command is not None:
        memory = attrs.evolve(memory, heartbeat_ns=command.heartbeat_ns)
    reason = _why_off(limits, memory, now_ns=now_ns, command=command, permit=permit)
    if reason is not OffReason.NONE:
        return _off(memory, reason, command, permit)
    if command is None or (memory.driving and command.tick == memory.tick):
        return memory, Act.KEEP
    driving = attrs.evolve(
        memory,
        driving=True,
        proven_off=False,
        tick=command.tick,
        reason=OffReason.NONE,
    )
    return driving, Act.APPLY


def trip(memory: GuardMemory, reason: OffReason, epoch: int) -> GuardMemory:
    """Return the memory after a stop that only a newer epoch ends."""
    return attrs.evolve(
        memory,
        driving=False,
        tripped_epoch=max(epoch, memory.tripped_epoch),
        reason=reason,
        tick=-1,
    )


def _off(
    memory: GuardMemory,
    reason: OffReason,
    command: Command | None,
    permit: Permit | None,
) -> tuple[GuardMemory, Act]:
    epochs = [memory.tripped_epoch]
    if reason in _TRIPS or (memory.driving and reason is OffReason.NOT_PERMITTED):
        epochs += [item.epoch for item in (command, permit) if item is not None]
    told = memory.reason if reason is OffReason.TRIPPED else reason
    if told is OffReason.NONE:
        told = reason
    after = attrs.evolve(
        memory, driving=False, tripped_epoch=max(epochs), reason=told, tick=-1
    )
    return after, Act.KEEP if memory.proven_off else Act.OFF


def _why_off(
    limits: GuardLimits,
    memory: GuardMemory,
    *,
    now_ns: int,
    command: Command | None,
    permit: Permit | None,
) -> OffReason:
    if permit is not None and permit.e_stop:
        return OffReason.E_STOP
    if permit is None or not permit.allowed:
        return OffReason.NOT_PERMITTED
    if permit.renewed_ns and now_ns - permit.renewed_ns > limits.permit_timeout_ns:
        return OffReason.STALE_PERMIT
    if memory.bus_errors >= limits.max_bus_errors:
        return OffReason.BUS_ERRORS
    if memory.heartbeat_ns is None or (command is None and not memory.driving):
        return OffReason.NO_COMMAND
    if command is not None and not command.enabled:
        return OffReason.DISABLED
    if command is not None and command.epoch != permit.epoch:
        return OffReason.NOT_PERMITTED
    if permit.epoch <= memory.tripped_epoch:
        return OffReason.TRIPPED
    return _why_doubtful(limits, memory.heartbeat_ns, now_ns, command)


def _why_doubtful(
    limits: GuardLimits, heartbeat_ns: int, now_ns: int, command: Command | None
) -> OffReason:
    age_ns = now_ns - heartbeat_ns
    if age_ns > limits.heartbeat_timeout_ns:
        return OffReason.STALE_HEARTBEAT
    if age_ns < -limits.future_tolerance_ns:
        return OffReason.FUTURE_HEARTBEAT
    if command is not None and not all(
        us == 0.0 or limits.min_pulse_us <= us <= limits.max_pulse_us
        for us in command.pulses_us
    ):
        return OffReason.ILLEGAL_PULSE
    return OffReason.NONE
