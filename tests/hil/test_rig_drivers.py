"""What every rig must do, simulated or real."""

from __future__ import annotations

import pytest

from continuon.errors import HardwareError
from continuon.health import Level, check_health, rig_validate
from continuon.rig.i2c import I2cBus
from continuon.testing import CAMERA_LAWS, SERVO_LAWS, STATE_LAWS

STILL = [law for law in SERVO_LAWS if law != "pulses-read-back"]


@pytest.mark.req("R-RIG-15")
@pytest.mark.parametrize("law", CAMERA_LAWS)
def test_the_camera_keeps_every_law(rig, camera, law):
    CAMERA_LAWS[law](camera, rig.clock)


@pytest.mark.req("R-RIG-15")
@pytest.mark.parametrize("law", STATE_LAWS)
def test_the_state_keeps_every_law(rig, state, law):
    STATE_LAWS[law](state, rig.clock)


@pytest.mark.req("R-RIG-15")
@pytest.mark.parametrize("law", STILL)
def test_the_outputs_keep_every_law_that_moves_nothing(rig, servos, law):
    SERVO_LAWS[law](servos, rig.calibration)


@pytest.mark.req("R-RIG-15")
@pytest.mark.usefixtures("may_move")
def test_a_pulse_reads_back_to_within_a_tick(rig, servos):
    SERVO_LAWS["pulses-read-back"](servos, rig.calibration)


def test_the_servo_board_answers_by_its_registers(servos):
    facts = servos.probe()
    assert 0x40 <= facts.address <= 0x7F
    assert 24 <= facts.frequency_hz <= 1600


def test_opening_sets_the_frequency_and_drives_nothing(servos):
    facts = servos.open()
    assert facts.awake
    assert facts.frequency_hz == pytest.approx(servos.frequency_hz, rel=0.01)
    assert set(servos.read_pulses_us().values()) == {0.0}


def test_an_address_where_nothing_is_says_so(servos):
    bus = servos.bus
    free = next(address for address in range(0x08, 0x78) if not bus.answers(address))
    with pytest.raises(HardwareError) as caught:
        bus.read(free, 0, 1)
    assert caught.value.code == "E-RIG-I2C-003"
    assert isinstance(bus, I2cBus)


def test_the_battery_gives_a_voltage_of_now(rig, battery):
    reading = battery.read()
    assert 2.5 < reading.volts < 26
    assert abs(rig.clock.monotonic_ns() - reading.capture_ns) < 10**9


def test_the_soc_is_neither_frozen_nor_molten(thermal):
    assert 0 < thermal.read().celsius < 100


def test_health_calls_what_is_absent_unknown_and_labels_the_rig(rig, tmp_path):
    report = check_health(rig, quick=True, home=tmp_path)
    levels = {check.name: check.level for check in report.checks}
    for part in ("camera", "servos", "battery", "thermal"):
        assert getattr(rig, part) is not None or levels[part] is Level.UNKNOWN
    assert (report.origin == "real") == (
        not report.notes or "hardware" not in report.notes[0]
    )


def test_validation_without_consent_ends_fully_off(rig, tmp_path):
    validation = rig_validate(rig, home=tmp_path)
    assert not validation.moved
    if rig.servos is not None:
        assert [check.level for check in validation.outputs] == [Level.OK]
        assert set(rig.servos.read_pulses_us().values()) == {0.0}


@pytest.mark.physical
def test_two_battery_readings_differ_as_real_ones_do(rig, battery):
    if rig.origin != "real":
        pytest.skip("needs the bench rig with real hardware")
    readings = {battery.read().amps for _ in range(20)}
    assert len(readings) > 1
