import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from continuon.clock import ManualClock
from continuon.errors import ContractError, DataError
from continuon.robot.board import CHANNELS, Board, Command, Permit
from continuon.robot.factory import Factory
from continuon.robot.guard import Guard, run_guard, servos_of, stop_outputs
from continuon.robot.guard_handle import GuardHandle
from continuon.robot.guard_rules import REASONS, GuardLimits, OffReason
from continuon.robot.guard_second import HUNG_NS, is_hung, watch_guard

MS = 1_000_000


class RecordingServos:
    """Outputs that remember each call, as a bus would see it."""

    def __init__(self):
        self.outputs = dict.fromkeys(range(CHANNELS), 0.0)
        self.calls = []
        self.failures = 0
        self.stuck = False

    def set_pulses_us(self, pulses_us):
        self._maybe_fail()
        if any(not 1000 <= us <= 2000 for us in pulses_us.values()):
            raise ContractError("E-RIG-PULSE-001", "a pulse is outside its limits")
        self.calls.append(("pulses", dict(pulses_us)))
        self.outputs.update(pulses_us)

    def read_pulses_us(self):
        self._maybe_fail()
        return dict(self.outputs)

    def full_off(self):
        self._maybe_fail()
        self.calls.append(("full_off",))
        if not self.stuck:
            self.outputs = dict.fromkeys(range(CHANNELS), 0.0)

    def _maybe_fail(self):
        if self.failures:
            self.failures -= 1
            raise OSError(121, "remote I/O error")


def pulses(**by_channel):
    return tuple(by_channel.get(f"c{i}", 0.0) for i in range(CHANNELS))


@pytest.fixture
def bench(tmp_path):
    board = Board.create(tmp_path / "board")
    clock = ManualClock(1_000 * MS)
    servos = RecordingServos()
    yield Bench(servos, board, clock)
    board.close()


class Bench:
    def __init__(self, servos, board, clock):
        self.servos, self.board, self.clock = servos, board, clock
        self.guard = Guard(servos, board, clock, GuardLimits())
        self.tick = 0

    def permit(self, epoch=1, allowed=True, e_stop=False):
        self.board.write_permit(Permit(epoch=epoch, allowed=allowed, e_stop=e_stop))

    def command(self, *, epoch=1, enabled=True, age_ms=0, us=1600.0, wire=None):
        self.tick += 1
        self.board.write_command(
            Command(
                heartbeat_ns=self.clock.now_ns - age_ms * MS,
                epoch=epoch,
                tick=self.tick,
                enabled=enabled,
                pulses_us=wire or pulses(c0=1500.0, c1=us),
            )
        )

    def poll(self, ms=2):
        self.clock.advance_ns(ms * MS)
        self.guard.poll()
        return REASONS[self.guard.status.reason]

    def drive(self):
        self.permit()
        self.poll()
        self.command()
        assert self.poll() is OffReason.NONE

    @property
    def moving(self):
        return any(self.servos.outputs.values())


@pytest.mark.req("R-GUARD-04")
def test_its_first_look_turns_outputs_off_that_a_crash_left_driven(bench):
    bench.servos.outputs[1] = 1900.0
    bench.poll()
    assert not bench.moving
    assert bench.servos.calls == [("full_off",)]
    assert bench.guard.status.driving is False


@pytest.mark.req("R-GUARD-01")
def test_it_applies_a_fresh_permitted_command_once(bench):
    bench.drive()
    bench.poll()
    written = [call for call in bench.servos.calls if call[0] == "pulses"]
    assert written == [("pulses", {0: 1500.0, 1: 1600.0})]
    assert bench.guard.status.applied == 1


@pytest.mark.req("R-GUARD-01")
@pytest.mark.parametrize(
    ("permit", "command", "reason"),
    [
        (None, {}, OffReason.NOT_PERMITTED),
        ({"allowed": False}, {}, OffReason.NOT_PERMITTED),
        ({"e_stop": True}, {}, OffReason.E_STOP),
        ({"epoch": 2}, {"epoch": 1}, OffReason.NOT_PERMITTED),
        ({}, None, OffReason.NO_COMMAND),
        ({}, {"enabled": False}, OffReason.DISABLED),
        ({}, {"age_ms": 501}, OffReason.STALE_HEARTBEAT),
        ({}, {"age_ms": -100}, OffReason.FUTURE_HEARTBEAT),
        ({}, {"us": 3000.0}, OffReason.ILLEGAL_PULSE),
        ({}, {"us": float("nan")}, OffReason.ILLEGAL_PULSE),
        ({}, {"us": float("inf")}, OffReason.ILLEGAL_PULSE),
        ({}, {"us": 2300.0}, OffReason.ILLEGAL_PULSE),
    ],
)
def test_it_drives_nothing_else(bench, permit, command, reason):
    if permit is not None:
        bench.permit(**permit)
    if command is not None:
        bench.command(**command)
    assert bench.poll() is reason
    assert not bench.moving
    assert not [call for call in bench.servos.calls if call[0] == "pulses"]


@pytest.mark.req("R-GUARD-01", "R-GUARD-02")
def test_a_silent_loop_is_stopped_within_half_a_second_and_a_poll(bench):
    bench.drive()
    assert bench.poll(498) is OffReason.NONE
    assert bench.poll(2) is OffReason.STALE_HEARTBEAT
    assert not bench.moving
    assert bench.guard.status.trips == 1
    assert bench.guard.status.off_ns == bench.clock.now_ns


@pytest.mark.req("R-GUARD-07")
def test_a_permission_that_nobody_renews_is_over_and_trips(bench):
    renewed_ns = bench.clock.now_ns
    bench.board.write_permit(
        Permit(epoch=1, allowed=True, e_stop=False, renewed_ns=renewed_ns)
    )
    reasons = []
    for _ in range(47):
        bench.command()
        reasons.append(bench.poll(10))
    assert reasons[:45] == [OffReason.NONE] * 45
    assert reasons[45:] == [OffReason.STALE_PERMIT] * 2
    assert not bench.moving
    bench.permit()
    bench.command()
    assert bench.poll() is OffReason.STALE_PERMIT
    assert not bench.moving


@pytest.mark.req("R-GUARD-07")
def test_renewing_confirms_a_permission_and_never_gives_one(tmp_path):
    clock = ManualClock(5)
    handle = GuardHandle(Factory(target="x:y"), permit_expires=True, clock=clock)
    handle.renew()
    handle._board = Board.create(tmp_path / "board")
    handle.renew()
    assert not handle._board.read_permit().allowed
    assert handle.permit() == 1
    clock.advance_ns(100)
    handle.renew()
    permit = handle._board.read_permit()
    assert (permit.epoch, permit.allowed, permit.renewed_ns) == (1, True, 105)
    handle.forbid(e_stop=True)
    clock.advance_ns(100)
    handle.renew()
    permit = handle._board.read_permit()
    assert (permit.allowed, permit.e_stop, permit.renewed_ns) == (False, True, 205)
    handle._board.close()


@pytest.mark.req("R-GUARD-03")
def test_after_a_trip_only_a_newer_epoch_moves_again(bench):
    bench.drive()
    bench.poll(600)
    bench.command()
    assert bench.poll() is OffReason.STALE_HEARTBEAT
    assert not bench.moving
    bench.permit(epoch=2)
    bench.command(epoch=2)
    assert bench.poll() is OffReason.NONE
    assert bench.moving


def test_a_pause_by_the_loop_is_no_trip(bench):
    bench.drive()
    bench.command(enabled=False)
    assert bench.poll() is OffReason.DISABLED
    assert not bench.moving
    bench.command()
    assert bench.poll() is OffReason.NONE


@pytest.mark.req("R-GUARD-05")
def test_a_command_torn_while_written_is_not_applied_and_the_old_one_holds(bench):
    bench.drive()
    bench.board._memory[64:68] = (99).to_bytes(4, "little")
    assert bench.poll() is OffReason.NONE
    assert bench.guard.status.applied == 1
    assert bench.poll(600) is OffReason.STALE_HEARTBEAT
    assert not bench.moving


@pytest.mark.req("R-GUARD-05")
def test_a_flipped_bit_is_not_applied(bench):
    bench.permit()
    bench.command()
    at = 64 + 8 + 20
    bench.board._memory[at] ^= 0x10
    assert bench.poll() is OffReason.NO_COMMAND
    assert not bench.moving


@pytest.mark.req("R-GUARD-06")
def test_a_stop_that_the_bus_refuses_is_retried_until_proven(bench):
    bench.drive()
    bench.permit(allowed=False)
    bench.servos.failures = 3
    for _ in range(3):
        bench.poll()
        assert bench.guard.status.driving
    bench.poll()
    assert not bench.guard.status.driving
    assert bench.guard.status.bus_errors == 3
    assert bench.guard.status.off_delay_ns == 6 * MS


@pytest.mark.req("R-GUARD-02", "R-GUARD-06")
def test_an_output_that_stays_driven_is_never_reported_as_off(bench):
    bench.drive()
    bench.servos.stuck = True
    bench.permit(allowed=False)
    bench.poll()
    bench.poll()
    assert bench.guard.status.driving
    assert bench.guard.stop(OffReason.TERMINATED) is False


def test_three_refused_writes_in_a_row_trip_it(bench):
    bench.drive()
    bench.servos.failures = 4
    reasons = []
    for _ in range(5):
        bench.command()
        reasons.append(bench.poll())
    assert OffReason.BUS_ERRORS in reasons
    assert not bench.moving
    assert bench.poll() is OffReason.BUS_ERRORS


def test_an_output_that_the_loop_lets_go_is_turned_off(bench):
    bench.drive()
    bench.command(wire=pulses(c1=1600.0))
    bench.poll()
    assert bench.servos.outputs[0] == 0.0
    assert bench.servos.outputs[1] == 1600.0


def test_the_one_shot_stop_retries_and_says_whether_it_worked():
    servos = RecordingServos()
    servos.outputs[3] = 1500.0
    servos.failures = 2
    assert stop_outputs(servos, ManualClock())
    servos.stuck, servos.outputs[3] = True, 1500.0
    assert not stop_outputs(servos, ManualClock())


@pytest.mark.req("R-GUARD-04")
def test_a_fault_of_its_own_turns_outputs_off_before_it_dies(bench):
    bench.drive()

    def broken(_pulses):
        raise RuntimeError("a bug")

    bench.servos.set_pulses_us = broken
    bench.command()
    with pytest.raises(RuntimeError, match="a bug"):
        run_guard(bench.guard, bench.clock, lambda: None)
    assert not bench.moving
    assert REASONS[bench.guard.status.reason] is OffReason.FAULT


def test_it_ends_for_the_reason_it_is_given(bench):
    bench.drive()
    assert run_guard(bench.guard, bench.clock, lambda: OffReason.ORPHANED)
    assert not bench.moving
    assert REASONS[bench.guard.status.reason] is OffReason.ORPHANED


def test_a_rig_without_servos_has_nothing_to_guard():
    with pytest.raises(OSError, match="no servos"):
        servos_of(object())


def test_a_file_that_is_no_board_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"short")
    with pytest.raises(DataError, match="E-ROBOT-BOARD-001"):
        Board.open(tmp_path / "x")
    (tmp_path / "y").write_bytes(bytes(4096))
    with pytest.raises(DataError, match="E-ROBOT-BOARD-001"):
        Board.open(tmp_path / "y")


def test_two_ends_of_a_board_see_each_other(tmp_path):
    mine = Board.create(tmp_path / "board")
    theirs = Board.open(tmp_path / "board")
    assert theirs.read_command() is None
    assert theirs.read_status() is None
    mine.write_permit(Permit(epoch=7, allowed=True, e_stop=False))
    assert theirs.read_permit() == Permit(epoch=7, allowed=True, e_stop=False)
    theirs.close()
    mine.remove()
    assert not (tmp_path / "board").exists()


def test_stops_that_somebody_asked_for_are_no_trips(bench):
    bench.drive()
    bench.permit(allowed=False)
    bench.poll()
    bench.permit(epoch=2)
    bench.command(epoch=2)
    bench.poll()
    bench.permit(epoch=2, e_stop=True)
    bench.poll()
    assert bench.guard.status.trips == 0
    assert bench.guard.status.stops == 3


@pytest.mark.slow
def test_the_guard_imports_next_to_nothing():
    code = "import sys, continuon.robot.guard; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"numpy", "msgspec", "continuon.rlds", "continuon.edge", "asyncio"}
    assert not heavy & set(loaded)


FILE_SERVOS = '''
import json, pathlib, sys

class FileServos:
    """Outputs whose registers are a file, so that another process can look."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def set_pulses_us(self, pulses_us):
        self.path.write_text(json.dumps({str(k): v for k, v in pulses_us.items()}))

    def read_pulses_us(self):
        stored = json.loads(self.path.read_text())
        return {i: stored.get(str(i), 0.0) for i in range(16)}

    def full_off(self):
        self.path.write_text("{}")
'''


@pytest.fixture
def file_servos(tmp_path, monkeypatch):
    (tmp_path / "robot_file_servos.py").write_text(FILE_SERVOS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    registers = tmp_path / "registers.json"
    registers.write_text('{"1": 1900.0}')
    kwargs = {"path": str(registers)}
    return registers, Factory(target="robot_file_servos:FileServos", kwargs=kwargs)


def wait_for(condition, clock):
    deadline_ns = clock.monotonic_ns() + 10_000 * MS
    while not condition():
        assert clock.monotonic_ns() < deadline_ns, "nothing happened in 10 s"
        clock.sleep_until_ns(clock.monotonic_ns() + 5 * MS)


@pytest.mark.slow
@pytest.mark.req("R-GUARD-04")
def test_a_guard_process_stops_outputs_at_start_and_on_sigterm(file_servos):
    from continuon.clock import SystemClock

    registers, factory = file_servos
    clock = SystemClock()
    with GuardHandle(factory) as guard:
        assert registers.read_text() == "{}"
        board = Board.open(guard.board_path)
        epoch = guard.permit()
        board.write_command(
            Command(
                heartbeat_ns=clock.monotonic_ns(),
                epoch=epoch,
                tick=1,
                enabled=True,
                pulses_us=pulses(c1=1600.0),
            )
        )
        wait_for(lambda: guard.report().driving, clock)
        os.kill(guard.pid, signal.SIGTERM)
        wait_for(lambda: not guard.alive, clock)
        assert registers.read_text() == "{}"
        assert guard.report().reason is OffReason.TERMINATED
        board.close()


@pytest.mark.slow
@pytest.mark.req("R-GUARD-04", "R-UNIT-01")
def test_a_guard_outlives_its_parent_just_long_enough_to_stop(file_servos, tmp_path):
    from continuon.clock import SystemClock

    registers, factory = file_servos
    parent = f"""
import os
from continuon.robot.factory import Factory
from continuon.robot.guard_handle import GuardHandle
guard = GuardHandle(Factory.from_dict({factory.as_dict()!r})).start()
print(guard.board_path, flush=True)
os._exit(9)
"""
    run = subprocess.run(
        [sys.executable, "-c", parent], capture_output=True, text=True, check=False
    )
    assert run.returncode == 9, run.stderr
    board = Board.open(Path(run.stdout.strip()))
    orphaned = REASONS.index(OffReason.ORPHANED)
    wait_for(lambda: board.read_status().reason == orphaned, SystemClock())
    assert registers.read_text() == "{}"
    board.remove()


@pytest.mark.slow
def test_a_guard_with_nothing_to_guard_says_so_in_one_line():
    rig = json.dumps({"target": "builtins:object", "kwargs": {}})
    done = subprocess.run(
        [sys.executable, "-m", "continuon.robot.guard", "--stop", "--rig", rig],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr == "guard: no outputs to guard: object has no servos\n"


def drive_for_real(guard, clock):
    board = Board.open(guard.board_path)
    board.write_command(
        Command(
            heartbeat_ns=clock.monotonic_ns(),
            epoch=guard.permit(),
            tick=1,
            enabled=True,
            pulses_us=pulses(c1=1600.0),
        )
    )
    wait_for(lambda: guard.report().driving, clock)
    return board


@pytest.mark.slow
@pytest.mark.req("R-GUARD-10")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_its_second_turns_outputs_off_when_the_guard_dies_or_hangs(
    file_servos, number, monkeypatch
):
    from continuon.clock import SystemClock

    registers, factory = file_servos
    clock = SystemClock()
    with GuardHandle(factory) as guard:
        board = drive_for_real(guard, clock)
        assert registers.read_text() == '{"1": 1600.0}'
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("slow"))
        os.kill(guard.pid, number)
        wait_for(lambda: registers.read_text() == "{}", clock)
        wait_for(lambda: not guard.alive, clock)
        assert guard.stop_without_guard()
        assert guard.report().reason is OffReason.GUARD_DIED
        assert not guard.report().driving
        board.close()


@pytest.mark.req("R-GUARD-10")
@pytest.mark.parametrize(
    ("reason", "driving", "stops"),
    [
        (OffReason.NONE, True, 1),
        (OffReason.DISABLED, False, 1),
        (OffReason.TERMINATED, True, 1),
        (OffReason.TERMINATED, False, 0),
        (OffReason.ORPHANED, False, 0),
        (OffReason.FAULT, False, 0),
    ],
)
def test_the_second_stops_all_but_what_the_guard_proved_at_its_end(
    bench, reason, driving, stops
):
    bench.poll()
    status = attrs.evolve(
        bench.guard.status, reason=REASONS.index(reason), driving=driving
    )
    bench.board.write_status(status)
    gone = subprocess.Popen(["true"])
    gone.wait()
    stopped = []
    assert watch_guard(
        gone.pid, bench.board, bench.clock, lambda: not stopped.append(1)
    )
    assert len(stopped) == stops
    told = REASONS[bench.board.read_status().reason]
    assert told is (OffReason.GUARD_DIED if stops else reason)
    assert not bench.board.read_status().driving


@pytest.mark.req("R-GUARD-10")
def test_a_second_that_cannot_prove_the_stop_says_so(bench):
    bench.drive()
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert not watch_guard(gone.pid, bench.board, bench.clock, lambda: False)
    assert bench.board.read_status().driving


@pytest.mark.req("R-GUARD-10")
def test_a_guard_hangs_when_it_looked_once_and_no_longer_does(bench):
    assert not is_hung(None, 10**12)
    assert not is_hung(bench.guard.status, 10**12)
    bench.poll()
    status = bench.guard.status
    assert not is_hung(status, status.poll_ns + HUNG_NS)
    assert is_hung(status, status.poll_ns + HUNG_NS + 1)
