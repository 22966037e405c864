"""Whole rigs looked at: sound ones, absent parts, and parts that lie."""

from __future__ import annotations

import importlib

import attrs
import pytest

from continuon.clock import ManualClock
from continuon.errors import HardwareError
from continuon.health import HealthWatch, Level, check_health, rig_validate
from continuon.health.doctor import doctor, try_imports
from continuon.health.host import check_disk, check_memory, check_pressure
from continuon.health.thresholds import hold_ns, load_thresholds
from continuon.home import Home
from continuon.rig.calibration import CarCalibration
from continuon.rig.protocols import BatteryReading, ThermalReading
from continuon.sim import SimRig

PROC = {
    "meminfo": "MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: 6000 kB\n",
    "pressure/memory": "some avg10=9.00 total=1\nfull avg10=0.00 avg60=0.00 total=1\n",
}


@pytest.fixture
def proc(tmp_path):
    root = tmp_path / "proc"
    (root / "pressure").mkdir(parents=True)
    for name, text in PROC.items():
        (root / name).write_text(text)
    return root


@pytest.fixture
def rig():
    with SimRig(3, width=64, height=48) as made:
        yield made


@attrs.define
class Bare:
    """A rig whose parts a test chooses; absent by default."""

    name: str = "bare"
    origin: str = "real"
    clock: ManualClock = attrs.field(factory=lambda: ManualClock(10**10))
    calibration: CarCalibration = attrs.field(factory=CarCalibration)
    camera: object = None
    state: object = None
    servos: object = None
    battery: object = None
    thermal: object = None
    reasons: dict = attrs.field(factory=dict)


@attrs.frozen
class Says:
    """A sensor that gives one reading, or raises it."""

    reading: object

    def read(self):
        if isinstance(self.reading, Exception):
            raise self.reading
        return self.reading


def battery(volts, *, capture_ns=10**10):
    return Says(
        BatteryReading(volts=volts, amps=None, fraction=None, capture_ns=capture_ns)
    )


def thermal(celsius, *, throttled=False, low=False):
    return Says(
        ThermalReading(
            celsius=celsius, throttled=throttled, under_voltage=low, capture_ns=10**10
        )
    )


def level_of(report, name):
    return next(check.level for check in report.checks if check.name == name)


@pytest.mark.req("R-HEALTH-05")
@pytest.mark.req("R-HEALTH-07")
def test_a_sound_simulated_rig_is_ok_and_says_that_it_is_simulated(rig, tmp_path, proc):
    report = check_health(rig, home=Home(tmp_path), proc=proc)
    assert report.verdict is Level.OK, report.notes
    figures = report.figures
    assert figures["camera_detected"] is True
    assert figures["pca9685_detected"] is True
    assert figures["skew_pairs"] >= 30
    assert 0 < figures["skew_p99_ms"] <= 5.0
    assert (figures["battery_level"], figures["thermal_level"]) == ("OK", "OK")
    assert "simulated" in report.notes[0]
    assert rig.chip.writes == []


def test_quick_takes_less_and_still_has_a_verdict(rig, tmp_path, proc):
    report = check_health(rig, quick=True, home=tmp_path, proc=proc)
    assert report.verdict is Level.OK, report.notes
    assert report.figures["camera_frames"] < 15


@pytest.mark.req("R-HEALTH-01")
def test_a_rig_without_parts_is_unknown_in_every_signal(tmp_path, proc):
    report = check_health(Bare(), home=tmp_path, proc=proc)
    for name in ("camera", "skew", "servos", "battery", "thermal"):
        assert level_of(report, name) is Level.UNKNOWN
    assert report.exit_code == 3
    assert "skew_p99_ms" not in report.figures


@pytest.mark.req("R-HEALTH-05")
def test_two_exposures_far_apart_are_critical(rig, tmp_path, proc):
    rig.camera._depth_delay_ns = 18e6
    report = check_health(rig, home=tmp_path, proc=proc)
    assert level_of(report, "skew") is Level.CRITICAL
    assert report.figures["skew_p99_ms"] > 15


@pytest.mark.req("R-HEALTH-08")
def test_a_hanging_camera_is_stale(rig, tmp_path, proc):
    rig.camera.poll = lambda: None
    report = check_health(rig, quick=True, home=tmp_path, proc=proc)
    assert level_of(report, "camera") is Level.STALE
    assert report.figures["camera_detected"] is False


@pytest.mark.req("R-HEALTH-08")
def test_an_unplugged_camera_is_critical(rig, tmp_path, proc):
    rig.camera.plugged = False
    report = check_health(rig, quick=True, home=tmp_path, proc=proc)
    assert level_of(report, "camera") is Level.CRITICAL
    assert report.exit_code == 4


@pytest.mark.req("R-HEALTH-08")
def test_a_camera_that_delivers_another_size_is_critical(rig, tmp_path, proc):
    rig.camera.width = 640
    report = check_health(rig, quick=True, home=tmp_path, proc=proc)
    assert level_of(report, "camera") is Level.CRITICAL


def test_a_camera_that_stops_in_between_is_stale(rig, tmp_path, proc):
    first = []
    real = rig.camera.poll

    def once():
        frame = None if first else real()
        first.extend([frame] if frame else [])
        return frame

    rig.camera.poll = once
    report = check_health(rig, home=tmp_path, proc=proc)
    assert level_of(report, "camera") is Level.STALE


def test_a_slow_camera_is_a_warning(tmp_path, proc):
    with SimRig(3, width=64, height=48, rate_hz=24.0) as slow:
        slow.camera.rate_hz = 30.0
        report = check_health(slow, quick=True, home=tmp_path, proc=proc)
    assert level_of(report, "camera") is Level.WARN


def test_a_silent_servo_board_is_critical(rig, tmp_path, proc):
    rig.bus.chips.clear()
    report = check_health(rig, quick=True, home=tmp_path, proc=proc)
    assert level_of(report, "servos") is Level.CRITICAL
    assert level_of(report, "battery") is Level.UNKNOWN


def test_a_board_that_drives_at_a_wrong_rate_is_critical(rig, tmp_path, proc):
    rig.servos.set_pulses_us({0: 1500.0})
    rig.servos.oscillator_hz *= 0.9
    report = check_health(rig, quick=True, home=tmp_path, proc=proc)
    assert level_of(report, "servos") is Level.CRITICAL


def test_outputs_that_are_no_pca9685_are_unknown(tmp_path, proc):
    report = check_health(Bare(servos=object()), home=tmp_path, proc=proc)
    assert level_of(report, "servos") is Level.UNKNOWN


@pytest.mark.parametrize(
    ("part", "name", "level"),
    [
        ({"battery": battery(8.0)}, "battery", Level.OK),
        ({"battery": battery(7.0)}, "battery", Level.WARN),
        ({"battery": battery(6.4)}, "battery", Level.CRITICAL),
        ({"battery": battery(8.0, capture_ns=0)}, "battery", Level.STALE),
        ({"battery": battery(float("nan"))}, "battery", Level.UNKNOWN),
        ({"thermal": thermal(50.0)}, "thermal", Level.OK),
        ({"thermal": thermal(76.0)}, "thermal", Level.WARN),
        ({"thermal": thermal(83.0)}, "thermal", Level.CRITICAL),
        ({"thermal": thermal(50.0, throttled=True)}, "thermal", Level.CRITICAL),
        ({"thermal": thermal(50.0, low=True)}, "thermal", Level.CRITICAL),
        (
            {"thermal": Says(HardwareError("E-X-Y-001", "gone"))},
            "thermal",
            Level.UNKNOWN,
        ),
    ],
)
def test_battery_and_heat_are_graded(part, name, level, tmp_path, proc):
    report = check_health(Bare(**part), home=tmp_path, proc=proc)
    assert level_of(report, name) is level


def supply(**flags):
    fields = {"throttled": False, "under_voltage": False} | flags
    return Says(ThermalReading(celsius=50.0, capture_ns=10**10, **fields))


@pytest.mark.req("R-HEALTH-10")
@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ({}, Level.OK),
        ({"under_voltage": True}, Level.CRITICAL),
        ({"under_voltage_since_boot": True}, Level.WARN),
        ({"throttled_since_boot": True}, Level.WARN),
    ],
)
def test_the_supply_is_graded_by_flags_of_now_and_since_boot(
    flags, level, tmp_path, proc
):
    report = check_health(Bare(thermal=supply(**flags)), home=tmp_path, proc=proc)
    assert level_of(report, "supply") is level


@pytest.mark.req("R-HEALTH-06")
def test_a_figure_at_its_limit_does_not_flap(tmp_path, proc):
    celsius = [75.5]
    bare = Bare()

    class Warm:
        def read(self):
            return ThermalReading(
                celsius=celsius[0],
                throttled=False,
                under_voltage=False,
                capture_ns=bare.clock.now_ns,
            )

    bare.thermal = Warm()
    watch = HealthWatch(
        lambda last: check_health(bare, home=tmp_path, proc=proc, before=last),
        bare.clock,
    )
    seen = []
    for value in (74.5, 75.2, 74.8, 75.1, 74.0, 73.1, 72.9, 82.5, 81.0, 79.9):
        celsius[0] = value
        bare.clock.advance_ns(hold_ns("thermal"))
        report, changes = watch.update()
        seen.append(level_of(report, "thermal"))
        assert (len(seen) == 1) == (len(changes) > 1)
    ok, warn, critical = Level.OK, Level.WARN, Level.CRITICAL
    assert seen == [ok, warn, warn, warn, warn, warn, ok, critical, critical, warn]
    assert watch.last is report


@pytest.mark.req("R-HEALTH-11")
def test_an_absent_part_says_why_where_the_rig_knows(tmp_path, proc):
    bare = Bare()
    bare.reasons = {"servos": "E-RIG-I2C-006: timed out", "camera": "no OAK"}
    report = check_health(bare, home=tmp_path, proc=proc)
    texts = {check.name: check.text for check in report.checks}
    assert "E-RIG-I2C-006" in texts["servos"]
    assert "no OAK" in texts["camera"]
    assert texts["battery"].endswith("on this rig")


@pytest.mark.req("R-HEALTH-11")
def test_a_real_board_whose_oscillator_was_never_measured_is_a_warning(tmp_path, proc):
    with SimRig(3, width=64, height=48) as rig:
        rig.servos.oscillator_hz = 25_000_000.0
        report = check_health(
            Bare(servos=rig.servos), quick=True, home=tmp_path, proc=proc
        )
    assert level_of(report, "servos") is Level.WARN


@pytest.mark.req("R-HEALTH-05")
def test_every_pair_of_streams_is_in_the_figures(rig, tmp_path, proc):
    figures = check_health(rig, quick=True, home=tmp_path, proc=proc).figures
    assert figures["skew_uncertainty_ms"] == 0.0
    for pair in ("rgb_depth", "rgb_state", "depth_state"):
        assert figures[f"skew_{pair}_p99_ms"] > 0
    assert 0 < figures["skew_rgb_state_uncertainty_ms"] < 1


def test_a_disk_is_graded_by_its_free_space(tmp_path):
    limits = load_thresholds()["disk"]
    assert check_disk(tmp_path / "not/yet", limits).figures["disk_writable"]
    greedy = limits | {"critical_below_free_bytes": 10**18}
    assert check_disk(tmp_path, greedy).level is Level.CRITICAL


@pytest.mark.req("R-HEALTH-01")
def test_a_machine_that_does_not_tell_is_unknown(tmp_path):
    limits = load_thresholds()
    assert check_memory(limits["memory"], proc=tmp_path).level is Level.UNKNOWN
    pressure = check_pressure(limits["pressure"], proc=tmp_path)
    assert pressure.level is Level.UNKNOWN
    assert not pressure.required


def test_scarce_memory_is_critical(proc):
    (proc / "meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 300 kB\n")
    (proc / "pressure/memory").write_text("some avg10=9\nfull avg10=33.1 avg60=1\n")
    limits = load_thresholds()
    assert check_memory(limits["memory"], proc=proc).level is Level.CRITICAL
    assert check_pressure(limits["pressure"], proc=proc).level is Level.CRITICAL


@pytest.mark.req("R-HEALTH-07")
def test_validation_without_consent_moves_nothing(rig, tmp_path):
    validation = rig_validate(rig, home=tmp_path)
    assert not validation.moved
    assert rig.world.steering_position == 0.0
    assert not any(6 <= register <= 0x45 for register, _ in rig.chip.writes)
    assert [check.name for check in validation.outputs] == ["stop"]


@pytest.mark.req("R-HEALTH-07")
def test_validation_turns_the_steering_and_never_the_throttle(rig, tmp_path):
    validation = rig_validate(rig, move=True, home=tmp_path)
    assert validation.verdict is Level.OK, validation.as_dict()
    assert rig.world.distance_m == 0.0
    throttle = range(6, 10)
    assert not any(register in throttle for register, _ in rig.chip.writes)
    assert set(rig.chip.pulses_us().values()) == {0.0}
    assert validation.as_dict()["moved"] is True


def test_validation_of_a_board_that_lies_is_critical(rig, tmp_path):
    rig.servos.oscillator_hz *= 1.05
    real = rig.servos.read_pulses_us
    rig.servos.read_pulses_us = lambda: {c: p * 1.2 for c, p in real().items()}
    validation = rig_validate(rig, move=True, home=tmp_path)
    assert validation.verdict is Level.CRITICAL
    assert validation.exit_code == 4


def test_validation_of_a_broken_bus_reports_the_failed_stop(rig, tmp_path):
    rig.bus.chips.clear()
    validation = rig_validate(rig, move=True, home=tmp_path)
    assert [check.name for check in validation.outputs] == ["steering", "stop"]
    assert validation.verdict is Level.CRITICAL


def test_validation_without_outputs_is_no_more_than_health(tmp_path):
    validation = rig_validate(Bare(), home=tmp_path)
    assert validation.outputs == ()
    assert validation.exit_code == 3


@pytest.mark.req("R-HEALTH-09")
def test_the_doctor_names_what_cannot_be_imported(tmp_path):
    report = doctor(
        home=Home(tmp_path),
        extras=["core"],
        import_all=lambda names: {"numpy": "Illegal instruction"},
    )
    core = next(check for check in report.checks if check.name == "extra core")
    assert core.level is Level.CRITICAL
    assert "Illegal instruction" in core.text
    assert report.exit_code == 4


@pytest.mark.slow
@pytest.mark.req("R-HEALTH-09")
def test_a_module_that_kills_its_importer_does_not_kill_the_doctor(
    tmp_path, monkeypatch
):
    (tmp_path / "killer.py").write_text("import os; os.abort()")
    (tmp_path / "broken.py").write_text("import nothing_here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    failures = try_imports(["json", "killer", "csv", "broken"])
    assert set(failures) == {"killer", "broken"}
    assert "nothing_here" in failures["broken"]


def test_the_doctor_looks_without_importing_when_asked(tmp_path, monkeypatch):
    module = importlib.import_module("continuon.health.doctor")
    monkeypatch.setattr(module, "EXTRAS", {"pi": ("no_such_module",)})
    report = doctor(home=Home(tmp_path), deep=False)
    extra = next(check for check in report.checks if check.name == "extra pi")
    assert extra.level is Level.WARN
    assert "continuon[pi]" in extra.hint
    names = {check["name"] for check in report.as_dict()["checks"]}
    assert {"python", "page size", "camera stack", "clocks", "disk"} <= names


@pytest.mark.req("R-HEALTH-05")
def test_too_few_pairs_are_no_proof_of_small_skew(rig, tmp_path, proc):
    real = rig.camera.poll
    given = []

    def few():
        frame = real()
        given.extend([frame] if frame else [])
        return frame if len(given) < 20 else None

    rig.camera.poll = few
    report = check_health(rig, home=tmp_path, proc=proc)
    assert level_of(report, "skew") is Level.UNKNOWN
    assert 0 < report.figures["skew_pairs"] < 30
