"""The battery under a running service: read by the guard, shown, and heeded."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon._specs.robot.fakes import FakeRig
from continuon.clock import ManualClock
from continuon.errors import HardwareError
from continuon.health import Level
from continuon.home import Home
from continuon.pipeline import adapters
from continuon.rig.protocols import BatteryReading
from continuon.robot.board import Board, Command, Permit
from continuon.robot.client import RobotClient
from continuon.robot.guard import Guard
from continuon.robot.guard_gauge import PERIOD_NS, SLOW_NS, GuardGauge
from continuon.robot.guard_rules import GuardLimits, OffReason
from continuon.robot.supply import GaugeState, Supply, pack_supply, unpack_supply
from continuon.robot.ticklog import ROW
from continuon.robot.timing import timing_report
from continuon.robot.vitals import read_vitals

MS = 1_000_000
GOOD = Supply(
    state=GaugeState.READ, capture_ns=5_000 * MS, volts=8.0, fraction=0.8, cells=2
)


class Gauge:
    """A gauge that takes its time, and writes down when it was asked."""

    def __init__(self, clock, servos):
        self.clock, self.servos = clock, servos
        self.took_ns, self.error, self.asked = 1 * MS, None, []

    def read(self):
        self.asked.append((self.clock.now_ns, any(self.servos.outputs.values())))
        self.clock.advance_ns(self.took_ns)
        if self.error is not None:
            raise self.error
        return BatteryReading(
            volts=7.4, amps=-0.5, fraction=0.4, capture_ns=self.clock.now_ns, cells=2
        )


class Servos:
    """Outputs that can be stuck."""

    def __init__(self):
        self.outputs, self.stuck = dict.fromkeys(range(16), 0.0), False

    def set_pulses_us(self, pulses_us):
        self.outputs.update(pulses_us)

    def read_pulses_us(self):
        return dict(self.outputs)

    def full_off(self):
        if not self.stuck:
            self.outputs = dict.fromkeys(range(16), 0.0)


class Bench:
    """A guard with a gauge on a clock moved by hand."""

    def __init__(self, board):
        self.board, self.clock, self.servos = board, ManualClock(1_000 * MS), Servos()
        self.battery, self.reasons = Gauge(self.clock, self.servos), {}
        self.guard = Guard(
            self.servos, board, self.clock, GuardLimits(), GuardGauge(self, self.clock)
        )
        self.tick = 0

    def poll(self, ms=2):
        self.clock.advance_ns(round(ms * MS))
        self.guard.poll()

    def drive(self, seconds):
        self.board.write_permit(Permit(epoch=1, allowed=True, e_stop=False))
        until_ns = self.clock.now_ns + round(seconds * 1e9)
        while self.clock.now_ns < until_ns:
            self.tick += 1
            pulses = (1500.0, 1600.0, *[0.0] * 14)
            self.board.write_command(
                Command(
                    heartbeat_ns=self.clock.now_ns,
                    epoch=1,
                    tick=self.tick,
                    enabled=True,
                    pulses_us=pulses,
                )
            )
            for _ in range(10):
                self.poll()
        assert any(self.servos.outputs.values())


@pytest.fixture
def bench(tmp_path):
    board = Board.create(tmp_path / "board")
    yield Bench(board)
    board.close()


@pytest.mark.req("R-GUARD-08")
def test_a_good_gauge_is_read_once_a_second_idle_and_driving(bench):
    for _ in range(1000):
        bench.poll(3)
    idle = len(bench.battery.asked)
    assert 3 <= idle <= 4
    bench.drive(3.0)
    assert 2 <= len(bench.battery.asked) - idle <= 4
    supply = bench.board.read_supply()
    assert (supply.state, supply.volts, supply.cells) == (GaugeState.READ, 7.4, 2)
    assert supply.amps == -0.5
    assert supply.took_ns == 1 * MS
    gaps = np.diff([at for at, _ in bench.battery.asked])
    assert gaps.min() >= PERIOD_NS


@pytest.mark.req("R-GUARD-08")
def test_it_is_never_asked_between_the_cause_of_a_stop_and_its_proof(bench):
    bench.drive(0.5)
    bench.servos.stuck = True
    bench.board.write_permit(Permit(epoch=1, allowed=False, e_stop=True))
    asked = len(bench.battery.asked)
    for _ in range(2000):
        bench.poll()
    assert len(bench.battery.asked) == asked
    bench.servos.stuck = False
    for _ in range(600):
        bench.poll()
    assert len(bench.battery.asked) > asked
    assert not any(driven for _, driven in bench.battery.asked[asked:])


@pytest.mark.req("R-GUARD-08")
@pytest.mark.parametrize("bad", ["slow", "failing"])
def test_one_that_was_bad_is_asked_again_only_when_all_is_off(bench, bad):
    bench.drive(0.1)
    if bad == "slow":
        bench.battery.took_ns = SLOW_NS + MS
    else:
        bench.battery.error = HardwareError("E-RIG-I2C-003", "nothing answers")
    bench.drive(5.0)
    driven = [at for at, moving in bench.battery.asked if moving]
    # Once when it was still trusted, and once to find that it no longer is.
    assert len(driven) <= 2
    bench.guard.stop(OffReason.TERMINATED)
    seen = len(bench.battery.asked)
    for _ in range(800):
        bench.poll()
    assert len(bench.battery.asked) > seen
    if bad == "failing":
        supply = bench.board.read_supply()
        assert supply.state is GaugeState.FAILED
        assert "nothing answers" in supply.reason
        assert supply.volts is None


@pytest.mark.req("R-GUARD-08")
@pytest.mark.parametrize(
    "error", [AssertionError(), ValueError("odd"), OSError(5, "x")]
)
def test_whatever_a_gauge_raises_the_guard_goes_on(bench, error):
    bench.poll()
    bench.battery.error = error
    bench.drive(2.0)
    supply = bench.board.read_supply()
    assert supply.state is GaugeState.FAILED
    assert type(error).__name__ in supply.reason


@pytest.mark.req("R-GUARD-08")
def test_a_stop_waits_for_one_healthy_look_at_most(bench):
    bench.drive(1.5)
    bench.board.write_permit(Permit(epoch=1, allowed=False, e_stop=False))
    begin_ns = bench.clock.now_ns
    bench.poll()
    assert not any(bench.servos.outputs.values())
    assert bench.clock.now_ns - begin_ns <= 2 * MS + bench.battery.took_ns


@pytest.mark.req("R-GUARD-08")
def test_a_gauge_is_looked_for_only_while_all_is_off(bench):
    bench.servos.stuck = True
    bench.servos.outputs[1] = 1900.0
    for _ in range(600):
        bench.poll()
    assert not bench.battery.asked
    bench.drive(2.0)
    assert not bench.battery.asked


@pytest.mark.req("R-GUARD-09")
def test_an_absent_gauge_says_why(bench):
    bench.battery, bench.reasons = None, {"battery": "no battery gauge answers"}
    bench.poll()
    supply = bench.board.read_supply()
    assert supply.state is GaugeState.ABSENT
    assert supply.reason == "no battery gauge answers"


@pytest.mark.req("R-GUARD-11")
def test_a_gauge_that_is_plugged_in_later_is_found_within_ten_seconds(bench):
    gauge, bench.battery = bench.battery, None
    searches = []
    bench.look_again = searches.append
    for _ in range(1500):
        bench.poll(2)
    assert searches == ["battery"], "looking takes several calls: not at every second"
    bench.battery = gauge
    bench.drive(12.0)
    assert searches == ["battery"], "and never while something moves"
    assert bench.board.read_supply().state is GaugeState.ABSENT
    bench.board.write_permit(Permit(epoch=1, allowed=False, e_stop=False))
    for _ in range(10):
        bench.poll(2)
    assert bench.board.read_supply().state is GaugeState.READ


@pytest.mark.req("R-GUARD-11")
def test_a_gauge_that_failed_is_set_up_again(bench):
    searches = []
    bench.look_again = searches.append
    bench.poll()
    bench.battery.error = OSError(121, "no acknowledge")
    for _ in range(1000):
        bench.poll(2)
    bench.battery.error = None
    for _ in range(1000):
        bench.poll(2)
    assert bench.board.read_supply().state is GaugeState.READ
    assert 2 <= len(searches) <= 4


@pytest.mark.req("R-GUARD-09")
@pytest.mark.parametrize(
    "supply",
    [
        GOOD,
        attrs.evolve(GOOD, amps=-1.5, took_ns=7),
        Supply(state=GaugeState.FAILED, capture_ns=1, reason="é" * 300),
        Supply(state=GaugeState.ABSENT, capture_ns=1),
    ],
)
def test_what_the_board_carries_comes_out_as_it_went_in(tmp_path, supply):
    board = Board.create(tmp_path / "board")
    assert board.read_supply() is None
    board.write_supply(supply)
    read = board.read_supply()
    board.close()
    assert read == attrs.evolve(supply, reason=supply.reason[:120])


@pytest.mark.req("R-GUARD-09")
def test_a_figure_that_is_no_number_is_none():
    fields = list(pack_supply(GOOD))
    fields[4] = float("inf")
    assert unpack_supply(tuple(fields)).volts is None


@pytest.mark.req("R-GUARD-09")
@pytest.mark.parametrize(
    ("supply", "age_s", "level", "word"),
    [
        (GOOD, 0.5, Level.OK, "4.00 V a cell"),
        (attrs.evolve(GOOD, volts=7.0), 0.5, Level.WARN, "3.50 V a cell"),
        (attrs.evolve(GOOD, volts=6.4), 0.5, Level.CRITICAL, "3.20 V a cell"),
        (GOOD, 3.0, Level.STALE, "8.00 V"),
        (attrs.evolve(GOOD, volts=None), 0.5, Level.UNKNOWN, "no figure"),
        (None, 0.5, Level.UNKNOWN, "not looked"),
        (
            Supply(state=GaugeState.ABSENT, capture_ns=0, reason="E-RIG-GAUGE-001"),
            0.5,
            Level.UNKNOWN,
            "E-RIG-GAUGE-001",
        ),
        (
            Supply(state=GaugeState.FAILED, capture_ns=0, reason="an I2C fault"),
            0.5,
            Level.UNKNOWN,
            "an I2C fault",
        ),
    ],
)
def test_health_grades_what_the_guard_saw(tmp_path, supply, age_s, level, word):
    rig = FakeRig(clock=ManualClock(5_000 * MS + round(age_s * 1e9)))
    report = read_vitals(
        rig,
        tmp_path,
        parts={"guard": True},
        timing=timing_report(np.zeros(0, ROW), period_ns=20 * MS),
        camera=None,
        supply=supply,
    )
    (check,) = [check for check in report.checks if check.name == "battery"]
    assert check.level is level
    assert word in check.text


class Service:
    """Answers /health."""

    def __init__(self, *checks, error=None):
        self.checks, self.error = checks, error

    def ask(self, path):
        assert path == "/health"
        if self.error is not None:
            raise self.error
        return {"checks": list(self.checks)}


def told(level="OK", **figures):
    return {"name": "battery", "level": level, "figures": figures}


@pytest.mark.req("R-GUARD-08")
@pytest.mark.parametrize(
    ("service", "charge"),
    [
        (Service(told(battery_fraction=0.7)), 0.7),
        (Service(told("WARN", battery_fraction=0.2)), 0.2),
        (Service(told("STALE", battery_fraction=0.7)), None),
        (Service(told("UNKNOWN")), None),
        (Service(told(battery_v=7.9)), None),
        (Service(), None),
        (Service(error=HardwareError("E-ROBOT-CLIENT-002", "silent")), None),
    ],
)
def test_beside_a_service_a_learner_asks_it_and_leaves_the_bus(
    tmp_path, monkeypatch, service, charge
):
    def no_bus(*args, **kwargs):
        raise AssertionError("the guard owns the bus")

    monkeypatch.setattr("continuon.rig.pi.PiRig.__init__", no_bus)
    monkeypatch.setattr(RobotClient, "find", lambda home: service)
    assert adapters.battery_here(Home(tmp_path)) == charge
