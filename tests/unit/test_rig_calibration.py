"""The stored calibration, and the oscillator from one measured pulse."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon.errors import ContractError, DataError
from continuon.home import Home
from continuon.rig.calibration import CarCalibration
from continuon.rig.calibration_record import (
    calibration_path,
    encode_calibration,
    load_calibration,
    oscillator_from_pulse,
)
from continuon.rig.i2c import I2cBus
from continuon.rig.pca9685 import Pca9685Servos
from continuon.rig.pi import PiRig
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip


def stored(tmp_path, data):
    path = calibration_path(Home(tmp_path))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return Home(tmp_path)


@pytest.mark.req("R-RIG-19")
def test_a_stored_calibration_comes_back_whole(tmp_path):
    assert load_calibration(Home(tmp_path)) is None
    car = CarCalibration(oscillator_hz=26.1e6)
    home = stored(tmp_path, encode_calibration(car))
    assert load_calibration(home) == car
    assert PiRig(home=home).calibration == car


@pytest.mark.req("R-RIG-19")
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-20],
        lambda data: data.replace(b"26100000.0", b"23100000.0"),
        lambda data: data.replace(b"calibration/1", b"calibration/9"),
        lambda data: b"[]",
        lambda data: b"\xff",
    ],
)
def test_a_damaged_calibration_drives_nothing_and_stops_everything(tmp_path, damage):
    data = damage(encode_calibration(CarCalibration(oscillator_hz=26.1e6)))
    home = stored(tmp_path, data)
    with pytest.raises(DataError) as caught:
        load_calibration(home)
    assert caught.value.code == "E-RIG-CALIB-004"
    chip = Pca9685Chip()
    bus = SimulatedBus("/dev/i2c-test-damaged", [chip])
    with PiRig(bus=bus.path, connect=lambda _: connect(bus), home=home) as rig:
        with pytest.raises(ContractError):
            rig.servos.set_pulses_us({1: 1500.0})
        rig.servos.full_off()
        assert "E-RIG-CALIB-004" in rig.reasons["calibration"]


def test_a_right_checksum_over_a_senseless_calibration_is_refused(tmp_path):
    record = json.loads(encode_calibration(CarCalibration()))
    record["calibration"]["oscillator_hz"] = "fast"
    import zlib

    text = json.dumps(record["calibration"], sort_keys=True).encode()
    record["crc32"] = zlib.crc32(text)
    with pytest.raises(DataError):
        load_calibration(stored(tmp_path, json.dumps(record).encode()))


@pytest.mark.law
@pytest.mark.req("R-RIG-02")
@given(true_hz=st.floats(23.1e6, 26.9e6), pulse_us=st.floats(1100.0, 1900.0))
def test_one_measured_pulse_makes_every_pulse_right_to_a_tick(true_hz, pulse_us):
    chip = Pca9685Chip(oscillator_hz=true_hz, clock_s=lambda: math.inf)
    bus = SimulatedBus("/dev/i2c-test-wizard", [chip])
    servos = Pca9685Servos(
        I2cBus(bus.path, connect=lambda _: connect(bus)),
        limits_us={1: (500.0, 2500.0)},
        sleep_s=lambda _: None,
    )
    servos.set_pulses_us({1: 1500.0})
    register_us = servos.read_pulses_us()[1]
    servos.oscillator_hz = oscillator_from_pulse(
        25e6, register_us=register_us, measured_us=chip.pulses_us()[1]
    )
    assert servos.oscillator_hz == pytest.approx(true_hz, rel=1e-9)
    servos.open()
    servos.set_pulses_us({1: pulse_us})
    assert chip.pulses_us()[1] == pytest.approx(pulse_us, abs=5.3)
    servos.bus.close()


@pytest.mark.parametrize("measured_us", [0.0, -1.0, 1200.0, 20000.0])
def test_a_pulse_that_no_board_makes_is_refused(measured_us):
    with pytest.raises(ContractError) as caught:
        oscillator_from_pulse(25e6, register_us=1500.0, measured_us=measured_us)
    assert caught.value.code == "E-RIG-CALIB-003"
