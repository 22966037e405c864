"""Calibration, battery, thermals, firmware flags, skew and scan."""

from __future__ import annotations

import struct

import attrs
import numpy as np
import pytest

from continuon.clock import ManualClock
from continuon.errors import ContractError, HardwareError
from continuon.rig import firmware
from continuon.rig.boottime import measure_boottime_offset
from continuon.rig.calibration import (
    CarCalibration,
    ServoCalibration,
    calibration_from_dict,
    car_pulses_us,
)
from continuon.rig.firmware import ThrottleFlags, read_throttle_flags
from continuon.rig.i2c import I2cBus
from continuon.rig.ina219 import Ina219, lipo_fraction
from continuon.rig.skew import (
    StreamStamps,
    nearest_differences_ns,
    pair_skews,
    skew_stats,
)
from continuon.rig.thermal import SysfsThermal
from continuon.rig.vcgencmd import ask_vcgencmd
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.gauges import Ina219Chip


def test_full_right_is_the_positive_end_point():
    car = CarCalibration(
        steering=ServoCalibration(channel=1, negative_us=1900, positive_us=1120),
        throttle=ServoCalibration(channel=0),
    )
    assert car_pulses_us([1.0, 0.5], car) == {0: 1750.0, 1: 1120.0}
    assert car_pulses_us([-3.0, 0.0], car) == {0: 1500.0, 1: 1900.0}


@pytest.mark.req("R-RIG-08")
@pytest.mark.parametrize("action", [[float("nan"), 0.0], [0.0, float("inf")], [0.0]])
def test_an_action_that_is_not_two_finite_numbers_becomes_no_pulse(action):
    with pytest.raises(ContractError):
        car_pulses_us(action, CarCalibration())


@pytest.mark.parametrize(
    "fields",
    [
        {"channel": 16},
        {"channel": 0, "neutral_us": 2600.0},
        {"channel": 0, "neutral_us": 900.0},
        {"channel": 0, "positive_us": 1500.0},
    ],
)
def test_a_senseless_calibration_is_refused(fields):
    with pytest.raises(ContractError) as caught:
        ServoCalibration(**fields)
    assert caught.value.code == "E-RIG-CALIB-001"


def test_a_calibration_survives_storage():
    car = CarCalibration(oscillator_hz=24.7e6)
    assert calibration_from_dict(attrs.asdict(car)) == car
    with pytest.raises(ContractError):
        calibration_from_dict({"oscillator_hz": "fast"})


def gauge(volts, amps=-0.6):
    chip = Ina219Chip(volts=lambda: volts, amps=lambda: amps)
    bus = SimulatedBus("/dev/i2c-test-gauge", [chip])
    i2c = I2cBus(bus.path, connect=lambda _: connect(bus))
    return Ina219(i2c, clock=ManualClock(7)), i2c


def test_the_gauge_reads_volts_and_signed_amps():
    battery, i2c = gauge(7.9)
    reading = battery.read()
    i2c.close()
    assert reading.volts == pytest.approx(7.9, abs=0.004)
    assert reading.amps == pytest.approx(-0.6, abs=0.001)
    assert 0.6 < reading.fraction < 0.8
    assert reading.capture_ns == 7


@pytest.mark.req("R-RIG-14")
def test_a_dead_supply_is_an_error_and_not_an_empty_battery():
    battery, i2c = gauge(0.0)
    with pytest.raises(HardwareError) as caught:
        battery.read()
    i2c.close()
    assert caught.value.code == "E-RIG-INA-001"


def test_charge_is_monotonic_in_voltage():
    charge = [lipo_fraction(v, 2) for v in np.linspace(6.0, 8.6, 50)]
    assert charge == sorted(charge)
    assert (charge[0], charge[-1]) == (0.0, 1.0)


def zone(tmp_path, text="51500\n"):
    place = tmp_path / "class/thermal/thermal_zone0"
    place.mkdir(parents=True)
    (place / "temp").write_text(text)
    return tmp_path


def test_temperature_and_flags_of_now(tmp_path):
    flags = ThrottleFlags(raw=0x50005)
    thermal = SysfsThermal(clock=ManualClock(), sys=zone(tmp_path), flags=lambda: flags)
    reading = thermal.read()
    assert (reading.celsius, reading.throttled, reading.under_voltage) == (
        51.5,
        True,
        True,
    )
    assert flags.under_voltage_since_boot


def test_flags_of_the_past_are_not_flags_of_now():
    flags = ThrottleFlags(raw=0x50000)
    assert not flags.throttled
    assert not flags.under_voltage


@pytest.mark.req("R-RIG-11")
@pytest.mark.parametrize("text", [None, "warm"])
def test_an_unreadable_thermometer_is_an_error(tmp_path, text):
    root = tmp_path if text is None else zone(tmp_path, text)
    with pytest.raises(HardwareError) as caught:
        SysfsThermal(clock=ManualClock(), sys=root).read()
    assert caught.value.code == "E-RIG-THERMAL-001"


@pytest.mark.req("R-RIG-11")
def test_a_machine_that_tells_nothing_about_its_supply_is_an_error(tmp_path):
    root = zone(tmp_path)
    (root / "class/hwmon/hwmon0").mkdir(parents=True)
    (root / "class/hwmon/hwmon0/name").write_text("cpu\n")
    thermal = SysfsThermal(
        clock=ManualClock(),
        sys=root,
        flags=lambda: read_throttle_flags(tmp_path / "vcio"),
    )
    with pytest.raises(HardwareError) as caught:
        thermal.read()
    assert caught.value.code == "E-RIG-VCIO-001"


def program(tmp_path, script):
    made = tmp_path / "vcgencmd"
    made.write_text(f"#!/bin/sh\n{script}\n")
    made.chmod(0o755)
    return lambda name: str(made) if name == "vcgencmd" else None


@pytest.mark.req("R-RIG-11")
def test_where_the_mailbox_is_closed_the_firmwares_own_program_is_asked(tmp_path):
    find = program(tmp_path, 'test "$1" = get_throttled && echo throttled=0x50002')
    thermal = SysfsThermal(
        clock=ManualClock(),
        sys=zone(tmp_path),
        flags=lambda: read_throttle_flags(tmp_path / "vcio"),
        program=lambda: ask_vcgencmd(find),
    )
    reading = thermal.read()
    assert reading.throttled
    assert reading.under_voltage_since_boot
    assert not reading.under_voltage


@pytest.mark.req("R-RIG-11")
@pytest.mark.parametrize(
    ("script", "code"),
    [
        (None, "E-RIG-VCGEN-001"),
        ("exec sleep 60", "E-RIG-VCGEN-002"),
        ("echo throttled=0x", "E-RIG-VCGEN-003"),
        ('echo error=1 error_msg="Command not registered"', "E-RIG-VCGEN-003"),
        ("echo throttled=0x0; exit 1", "E-RIG-VCGEN-003"),
        ("echo throttled=0x0; echo more", "E-RIG-VCGEN-003"),
        ("echo VCHI initialization failed >&2; exit 255", "E-RIG-VCGEN-003"),
    ],
)
def test_a_program_that_is_absent_hangs_or_says_nothing_is_an_error(
    tmp_path, script, code
):
    find = (lambda name: None) if script is None else program(tmp_path, script)
    with pytest.raises(HardwareError) as caught:
        ask_vcgencmd(find, timeout_s=0.3)
    assert caught.value.code == code


@pytest.mark.parametrize(("alarm", "low"), [("1", True), ("0", False)])
def test_the_supply_alarm_stands_in_for_the_mailbox(tmp_path, alarm, low):
    root = zone(tmp_path, "82000")
    (root / "class/hwmon/hwmon1").mkdir(parents=True)
    (root / "class/hwmon/hwmon1/name").write_text("rpi_volt\n")
    (root / "class/hwmon/hwmon1/in0_lcrit_alarm").write_text(alarm)
    thermal = SysfsThermal(
        clock=ManualClock(), sys=root, flags=lambda: read_throttle_flags(tmp_path / "x")
    )
    reading = thermal.read()
    assert reading.under_voltage is low
    assert reading.throttled


@pytest.mark.req("R-RIG-11")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [(0x80000000, 0x50005), (0x80000001, "E-RIG-VCIO-003"), (None, "E-RIG-VCIO-002")],
)
def test_the_mailbox_answers_or_it_is_an_error(tmp_path, monkeypatch, answer, expected):
    node = tmp_path / "vcio"
    node.write_bytes(b"")

    def ioctl(descriptor, request, message, mutate):
        assert request == 0xC0086400
        assert struct.unpack_from("<I", message, 8) == (0x00030046,)
        if answer is None:
            raise OSError(25, "not a mailbox")
        struct.pack_into("<I", message, 4, answer)
        struct.pack_into("<I", message, 20, 0x50005)

    monkeypatch.setattr(firmware.fcntl, "ioctl", ioctl)
    if isinstance(expected, int):
        assert read_throttle_flags(node).raw == expected
        return
    with pytest.raises(HardwareError) as caught:
        read_throttle_flags(node)
    assert caught.value.code == expected


@pytest.mark.req("R-RIG-12")
def test_skew_without_a_pair_has_no_figure():
    assert skew_stats(np.empty(0, np.int64)).p99_ms is None
    assert len(nearest_differences_ns(np.array([5]), np.empty(0, np.int64))) == 0


@pytest.mark.req("R-RIG-12")
def test_skew_is_absolute_and_its_p99_is_a_measured_value():
    stats = skew_stats(np.array([-4, 1, 2, 3] * 10, np.int64) * 1_000_000)
    assert (stats.pairs, stats.p99_ms, stats.max_ms) == (40, 4.0, 4.0)
    assert stats.as_dict()["p50_ms"] == 2.5


def test_the_nearest_sample_is_paired():
    apart = nearest_differences_ns(np.array([0, 10, 21]), np.array([-1, 12, 30]))
    assert apart.tolist() == [-1, 2, 9] or apart.tolist() == [-1, 2, -9]


def stream(name, clock, stamps, *, unsure=0):
    return StreamStamps(
        name=name,
        clock=clock,
        stamps_ns=np.array(stamps, np.int64),
        uncertainty_ns=unsure,
    )


@pytest.mark.req("R-RIG-12")
def test_each_pair_of_streams_has_its_skew_and_its_uncertainty():
    rgb = stream("rgb", "oak", [0, 33_000_000, 66_000_000], unsure=400_000)
    depth = stream("depth", "oak", [1_000_000, 34_000_000, 65_000_000], unsure=400_000)
    state = stream(
        "state", "chassis", range(-5_000_000, 90_000_000, 10_000_000), unsure=100_000
    )
    skews = {(s.first, s.second): s for s in pair_skews([rgb, depth, state])}
    assert set(skews) == {("rgb", "depth"), ("rgb", "state"), ("depth", "state")}
    both = skews["rgb", "depth"]
    assert (both.uncertainty_ms, both.stats.max_ms) == (0.0, 1.0)
    assert both.stats.pairs == 3
    other = skews["rgb", "state"].figures()
    assert other["uncertainty_ms"] == pytest.approx(0.5)
    assert (other["pairs"], other["p50_ms"], other["max_ms"]) == (3, 2.0, 5.0)


@pytest.mark.req("R-RIG-12")
def test_streams_that_never_met_have_no_skew():
    early, late = stream("a", "x", [0, 1]), stream("b", "y", [10, 11, 12])
    (skew,) = pair_skews([early, late])
    assert (skew.stats.pairs, skew.stats.p99_ms) == (0, None)
    (skew,) = pair_skews([stream("a", "x", []), stream("b", "y", [])])
    assert skew.stats.pairs == 0


@pytest.mark.req("R-RIG-10")
def test_the_shortest_round_trip_gives_the_offset():
    host = iter([0, 100, 200, 210, 400, 460])
    device = iter([1050, 1205, 1430])
    offset = measure_boottime_offset(
        read_host_ns=lambda: next(host), read_device_ns=lambda: next(device), tries=3
    )
    assert (offset.offset_ns, offset.uncertainty_ns) == (-1000, 5)


@pytest.mark.req("R-RIG-10")
def test_this_machines_boottime_runs_as_its_monotonic_clock_does():
    offset = measure_boottime_offset()
    assert offset.offset_ns <= offset.uncertainty_ns  # boottime counts suspend as well
    assert offset.uncertainty_ns < 10_000_000
