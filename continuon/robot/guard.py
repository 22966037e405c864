"""The guard: a process of its own, the only owner of the servos.

It looks at the board every 2 ms, writes pulses while it may, and otherwise turns every
output off and reads that back. It depends on neither the loop nor the service being
alive, and imports little so that little can break it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import attrs

from continuon.clock import Clock, SystemClock
from continuon.errors import ContractError
from continuon.robot.board import CHANNELS, Board, GuardStatus
from continuon.robot.factory import Factory
from continuon.robot.guard_gauge import GuardGauge
from continuon.robot.guard_rules import (
    BY_ITSELF,
    REASONS,
    Act,
    GuardLimits,
    GuardMemory,
    OffReason,
    decide,
    trip,
)
from continuon.robot.guard_second import start_second
from continuon.robot.realtime import Wishes, make_real_time

if TYPE_CHECKING:
    # The rig's own modules bring numpy along, which the guard itself does not need.
    from continuon.rig.protocols import Servos

__all__ = ["Guard", "main", "run_guard", "servos_of", "stop_outputs"]

POLL_NS = 2_000_000
_STOP_TRIES = 200


class Guard:
    """One guard's polling; `poll` does one look at the board.

    Args:
        servos: the outputs, owned by this object alone.
        board: the shared records.
        clock: the host's clock.
        limits: bounds that no command may widen.
        gauge: looks at the battery on the same bus; None where nobody asks for it.
    """

    def __init__(
        self,
        servos: Servos,
        board: Board,
        clock: Clock,
        limits: GuardLimits,
        gauge: GuardGauge | None = None,
    ) -> None:
        self._servos = servos
        self._board = board
        self._clock = clock
        self._limits = limits
        self._gauge = gauge
        self._memory = GuardMemory()
        self._driven: set[int] = set()
        self._tripped_since_ns = 0
        self.status = GuardStatus(
            poll_ns=0,
            polls=0,
            applied=0,
            stops=0,
            bus_errors=0,
            trips=0,
            max_gap_ns=0,
            off_ns=0,
            off_delay_ns=0,
            epoch=-1,
            reason=REASONS.index(OffReason.STARTING),
            driving=False,
        )

    def poll(self) -> None:
        """Look once and act."""
        now_ns = self._clock.monotonic_ns()
        command = self._board.read_command()
        before = self._memory
        self._memory, act = decide(
            self._limits,
            before,
            now_ns=now_ns,
            command=command,
            permit=self._board.read_permit(),
        )
        if before.driving and not self._memory.driving:
            self._tripped_since_ns = now_ns
            self._count(trips=int(self._memory.reason in BY_ITSELF))
        if act is Act.APPLY and command is not None:
            self._apply(command.pulses_us, command.epoch)
        elif act is Act.OFF:
            self._turn_off()
        self._publish(now_ns)
        self._look_at_battery(act)

    def stop(self, reason: OffReason) -> bool:
        """Turn every output off for good; returns whether that was proven."""
        self._memory = attrs.evolve(self._memory, driving=False, reason=reason)
        for _ in range(_STOP_TRIES):
            self._turn_off()
            if self._memory.proven_off:
                break
            self._clock.sleep_until_ns(self._clock.monotonic_ns() + POLL_NS)
        self._publish(self._clock.monotonic_ns())
        return self._memory.proven_off

    def _apply(self, pulses_us: tuple[float, ...], epoch: int) -> None:
        wanted = {channel: us for channel, us in enumerate(pulses_us) if us > 0.0}
        try:
            if self._driven - wanted.keys():
                self._servos.full_off()
            self._servos.set_pulses_us(wanted)
        except OSError:
            errors = self._memory.bus_errors + 1
            self._memory = attrs.evolve(self._memory, bus_errors=errors, tick=-1)
            self._count(bus_errors=1)
            return
        except ContractError:
            self._memory = trip(self._memory, OffReason.ILLEGAL_PULSE, epoch)
            self._count(trips=1)
            self._turn_off()
            return
        self._driven = set(wanted)
        self._memory = attrs.evolve(self._memory, bus_errors=0)
        self._count(applied=1)
        self.status = attrs.evolve(self.status, epoch=epoch)

    def _turn_off(self) -> None:
        try:
            self._servos.full_off()
            read_back = dict(self._servos.read_pulses_us())
        except OSError:
            self._count(bus_errors=1, stops=1)
            return
        proven = bool(read_back) and all(us == 0.0 for us in read_back.values())
        now_ns = self._clock.monotonic_ns()
        self._memory = attrs.evolve(self._memory, proven_off=proven, bus_errors=0)
        self._driven = set()
        delay_ns = now_ns - self._tripped_since_ns if self._tripped_since_ns else 0
        self._count(stops=1)
        self.status = attrs.evolve(
            self.status,
            off_ns=now_ns if proven else self.status.off_ns,
            off_delay_ns=delay_ns if proven else self.status.off_delay_ns,
            read_back_us=tuple(read_back.get(i, 0.0) for i in range(CHANNELS)),
        )
        if proven:
            self._tripped_since_ns = 0

    def _look_at_battery(self, act: Act) -> None:
        """Look where no stop waits: right after an update, or while all is off."""
        memory = self._memory
        updated = act is Act.APPLY and memory.driving and memory.bus_errors == 0
        if self._gauge is None or not (updated or memory.proven_off):
            return
        seen = self._gauge.look(driving=memory.driving)
        if seen is not None:
            self._board.write_supply(seen)

    def _count(self, **more: int) -> None:
        now = {name: getattr(self.status, name) + n for name, n in more.items()}
        self.status = attrs.evolve(self.status, **now)

    def _publish(self, now_ns: int) -> None:
        gap_ns = now_ns - self.status.poll_ns if self.status.poll_ns else 0
        self.status = attrs.evolve(
            self.status,
            poll_ns=now_ns,
            polls=self.status.polls + 1,
            max_gap_ns=max(self.status.max_gap_ns, gap_ns),
            reason=REASONS.index(self._memory.reason),
            driving=not self._memory.proven_off,
        )
        self._board.write_status(self.status)


def run_guard(
    guard: Guard, clock: Clock, why_end: Callable[[], OffReason | None]
) -> bool:
    """Poll until `why_end` gives a reason; returns whether the stop was proven.

    A fault of the guard's own ends it too, and outputs are turned off before that.
    """
    reason: OffReason | None = None
    proven = False
    try:
        while reason is None:
            guard.poll()
            reason = why_end()
            clock.sleep_until_ns(clock.monotonic_ns() + POLL_NS)
    finally:
        proven = guard.stop(reason or OffReason.FAULT)
    return proven


def servos_of(made: object) -> Servos:
    """Return the outputs of a rig, or the outputs themselves.

    Raises:
        OSError: the rig has none.
    """
    servos = getattr(made, "servos", made)
    calls = ("set_pulses_us", "read_pulses_us", "full_off")
    if not all(callable(getattr(servos, name, None)) for name in calls):
        msg = f"{type(made).__name__} has no servos"
        raise OSError(msg)
    return cast("Servos", servos)


def stop_outputs(servos: Servos, clock: Clock) -> bool:
    """Turn every output off, retrying; returns whether it was read back as off."""
    for _ in range(_STOP_TRIES):
        try:
            servos.full_off()
            read_back = servos.read_pulses_us()
        except OSError:
            read_back = {}
        if read_back and all(us == 0.0 for us in read_back.values()):
            return True
        clock.sleep_until_ns(clock.monotonic_ns() + POLL_NS)
    return False


def main(argv: list[str] | None = None) -> int:
    """Run the guard, or with --stop turn outputs off once.

    Returns 0, or 4 if outputs could not be proven off: a person must cut their power.
    """
    parser = argparse.ArgumentParser(prog="continuon.robot.guard")
    parser.add_argument("--rig", required=True, help="factory as JSON")
    parser.add_argument("--board", type=Path)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--heartbeat-ms", type=float, default=500.0)
    parser.add_argument("--stop", action="store_true")
    args = parser.parse_args(argv)
    flags: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda seen, _frame: flags.append(seen))
    clock = SystemClock()
    try:
        rig = Factory.from_dict(json.loads(args.rig)).build()
        servos = servos_of(rig)
    except OSError as error:
        print(f"guard: no outputs to guard: {error}", file=sys.stderr)
        return 4
    if args.stop or args.board is None:
        return 0 if stop_outputs(servos, clock) else 4
    board = Board.open(args.board)
    start_second(
        board,
        clock,
        stop=lambda: stop_outputs(servos, clock),
        prepare=lambda: make_real_time(Wishes(priority=60)),
    )
    make_real_time(Wishes(priority=60))
    limits = GuardLimits(heartbeat_timeout_ns=round(args.heartbeat_ms * 1e6))
    gauge = GuardGauge(rig, clock)
    guard = Guard(servos, board, clock, limits, gauge)

    def why_end() -> OffReason | None:
        if flags:
            return OffReason.TERMINATED
        orphaned = args.parent and os.getppid() != args.parent
        return OffReason.ORPHANED if orphaned else None

    return 0 if run_guard(guard, clock, why_end) else 4


if __name__ == "__main__":
    sys.exit(main())
