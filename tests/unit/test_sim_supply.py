"""Servos on a weak supply: slew, dead band, stall, brown-out of the board."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon.errors import HardwareError
from continuon.rig.i2c import I2cBus
from continuon.rig.pca9685 import Pca9685Servos
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip
from continuon.sim.supply import Rail, Servo, ServoBench, ServoModel

pytestmark = pytest.mark.req("R-SIM-13")
MODEL = ServoModel()


@pytest.mark.law
@given(
    st.lists(
        st.tuples(st.floats(0.0, 3000.0), st.floats(0.0, 0.05), st.booleans()),
        max_size=30,
    )
)
def test_a_servo_never_moves_faster_than_it_can_nor_beyond_its_end(steps):
    servo = Servo()
    for pulse_us, dt_s, blocked in steps:
        before = servo
        servo = before.step(MODEL, pulse_us, dt_s=dt_s, blocked=blocked)
        assert -1.0 <= servo.position <= 1.0
        moved = abs(servo.position - before.position)
        assert moved <= MODEL.slew_per_s * dt_s + 1e-12
        valid = MODEL.min_us <= pulse_us <= MODEL.max_us
        assert moved == 0.0 or (valid and not blocked)
        assert 0.0 <= servo.amps <= MODEL.stall_a
        assert valid or servo.amps == 0.0


def test_a_servo_reaches_its_target_to_within_its_dead_band():
    servo = Servo()
    for _ in range(100):
        servo = servo.step(MODEL, 1900.0, dt_s=0.01)
    assert servo.position == pytest.approx(0.8, abs=MODEL.dead_band)
    assert servo.amps == MODEL.idle_a


@pytest.mark.law
@given(st.lists(st.floats(0.0, 30.0), min_size=1, max_size=20))
def test_more_load_is_less_voltage_and_a_reset_is_left_only_above_the_recovery(loads):
    rail = Rail()
    for amps in loads:
        before, volts = rail, rail.volts(amps)
        assert 0.0 <= volts <= rail.open_v
        assert rail.volts(amps + 1.0) <= volts
        rail = rail.loaded(amps)
        if before.reset and not rail.reset:
            assert volts >= rail.recover_v
        if not before.reset and rail.reset:
            assert volts < rail.brown_out_v


def test_two_stalled_servos_brown_the_board_out_and_the_driver_notices():
    chip = Pca9685Chip(clock_s=lambda: float("inf"))
    bus = SimulatedBus("/dev/i2c-test-supply", [chip])
    servos = Pca9685Servos(
        I2cBus(bus.path, connect=lambda _: connect(bus)),
        limits_us={0: (1000.0, 2000.0), 1: (1000.0, 2000.0)},
        sleep_s=lambda _: None,
    )
    desk = ServoBench(
        pulses_us=chip.pulses_us,
        power_on=chip.power_on,
        models={0: MODEL, 1: MODEL},
    )
    servos.set_pulses_us({0: 1500.0, 1: 1900.0})
    for _ in range(50):
        desk.step(0.01)
    assert (desk.brown_outs, desk.servos[1].position > 0.75) == (0, True)
    desk.blocked = (0, 1)
    servos.set_pulses_us({0: 1900.0, 1: 1100.0})
    assert desk.step(0.01) < desk.rail.brown_out_v
    assert desk.brown_outs == 1
    desk.step(0.01)
    assert not desk.rail.reset
    assert set(chip.pulses_us().values()) == {0.0}
    with pytest.raises(HardwareError) as caught:
        servos.set_pulses_us({0: 1500.0, 1: 1500.0})
    assert caught.value.code == "E-RIG-PCA-006"
    desk.blocked = ()
    servos.set_pulses_us({0: 1500.0, 1: 1500.0})
    for _ in range(100):
        desk.step(0.01)
    assert abs(desk.servos[1].position) < 0.01
    assert desk.brown_outs == 1
    servos.close()
