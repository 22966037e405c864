"""Laws of driver and chip: no call order breaks the data sheet or leaves a limit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon.errors import ContractError
from continuon.rig.calibration import CarCalibration, car_pulses_us
from continuon.rig.i2c import I2cBus
from continuon.rig.pca9685 import Pca9685Servos
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip

pytestmark = pytest.mark.law
CAR = CarCalibration()
ACTIONS = st.lists(st.floats(-2, 2), min_size=2, max_size=2)
CALLS = st.one_of(
    ACTIONS,
    st.sampled_from(["off", "open", "probe", "read", "close"]),
)


@pytest.mark.req("R-RIG-06")
@settings(max_examples=25, deadline=None)
@given(calls=st.lists(CALLS, max_size=12), oscillator_hz=st.floats(23e6, 27e6))
def test_no_order_of_calls_breaks_a_rule_of_the_chip(calls, oscillator_hz):
    now = [0.0]
    chip = Pca9685Chip(oscillator_hz=oscillator_hz, clock_s=lambda: now[0])
    bus = SimulatedBus("/dev/i2c-test-law", [chip])
    servos = Pca9685Servos(
        I2cBus(bus.path, connect=lambda _: connect(bus)),
        limits_us=CAR.limits_us,
        oscillator_hz=oscillator_hz,
        sleep_s=lambda s: now.__setitem__(0, now[0] + s),
    )
    off = True
    for call in calls:
        if isinstance(call, list):
            servos.set_pulses_us(car_pulses_us(call, CAR))
            off = False
        elif call == "read":
            servos.read_pulses_us()
        else:
            {
                "off": servos.full_off,
                "open": servos.open,
                "probe": servos.probe,
                "close": servos.close,
            }[call]()
            off = off or call in ("off", "open", "close")
        pulses = {pulse for pulse in chip.pulses_us().values() if pulse}
        assert all(990.0 < pulse < 2010.0 for pulse in pulses)
        assert off is not bool(pulses)
    servos.bus.close()
    assert chip.violations == []


@pytest.mark.req("R-RIG-08")
@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=2))
def test_an_action_becomes_pulses_within_limits_or_an_error(action):
    try:
        pulses = car_pulses_us(action, CAR)
    except ContractError:
        assert not all(abs(part) < float("inf") for part in action)
        return
    for channel, pulse in pulses.items():
        low, high = CAR.limits_us[channel]
        assert low <= pulse <= high
