"""Whatever the bus does: what the driver says was done, the chip does."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon.errors import HardwareError
from continuon.rig.i2c import I2cBus
from continuon.rig.pca9685 import Pca9685Servos
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip
from continuon.sim.faults import Fault, FaultKind, FaultScript

pytestmark = [pytest.mark.law, pytest.mark.req("R-RIG-21")]
LIMITS = {0: (1000.0, 2000.0), 1: (1000.0, 2000.0)}
KINDS = [kind for kind in FaultKind if kind is not FaultKind.STUCK]
FAULTS = st.lists(
    st.builds(
        Fault,
        at=st.integers(1, 60),
        kind=st.sampled_from(KINDS),
        kept_bytes=st.integers(0, 9),
    ),
    max_size=8,
)
CALLS = st.lists(
    st.one_of(st.just("off"), st.floats(1000.0, 2000.0)), min_size=1, max_size=14
)


def bench(faults):
    chip = Pca9685Chip(clock_s=lambda: float("inf"))
    script = FaultScript(faults, reset=chip.power_on, sleep_s=lambda _: None)
    bus = SimulatedBus("/dev/i2c-test-faults", [chip], faults=script)
    servos = Pca9685Servos(
        I2cBus(bus.path, connect=lambda _: connect(bus)),
        limits_us=LIMITS,
        sleep_s=lambda _: None,
    )
    return chip, bus, servos, script


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(faults=FAULTS, calls=CALLS)
def test_what_the_driver_reports_as_done_is_what_the_chip_does(faults, calls):
    chip, bus, servos, _ = bench(faults)
    for call in calls:
        try:
            if call == "off":
                servos.full_off()
                wanted = {}
            else:
                servos.set_pulses_us({0: call, 1: 1500.0})
                wanted = {0: call, 1: 1500.0}
        except HardwareError:
            continue
        driven = {c: us for c, us in chip.pulses_us().items() if us}
        assert driven == pytest.approx(wanted, abs=5)
    bus.faults = None
    servos.full_off()
    assert set(chip.pulses_us().values()) == {0.0}
    servos.bus.close()
    ignored = [
        name for name, _ in chip.violations if name != "put to sleep while driving"
    ]
    assert ignored == []


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (FaultKind.NACK, errno.EREMOTEIO),
        (FaultKind.LOST, errno.EAGAIN),
        (FaultKind.BROKEN, errno.EIO),
        (FaultKind.STALL, errno.ETIMEDOUT),
        (FaultKind.STUCK, errno.ETIMEDOUT),
        (FaultKind.TORN, errno.EIO),
    ],
)
def test_each_fault_reaches_the_driver_as_the_kernels_errno(kind, code):
    waits = []
    _, bus, _, script = bench([Fault(at=1, kind=kind)])
    script.sleep_s = waits.append
    smbus = connect(bus)
    with pytest.raises(OSError) as caught:
        smbus.read_byte_data(0x40, 0)
    assert caught.value.errno == code
    assert [fault.kind for fault in script.happened] == [kind]
    assert waits == ([1.02] if code == errno.ETIMEDOUT else [])
    if kind is FaultKind.STUCK:
        with pytest.raises(OSError):
            smbus.read_byte_data(0x40, 0)
    else:
        assert smbus.read_byte_data(0x40, 0) == 0x11
    smbus.close()


def test_a_torn_write_leaves_the_channel_half_written_until_it_is_tried_again():
    chip, bus, servos, script = bench([])
    servos.set_pulses_us({0: 1000.0})
    script.faults = [Fault(at=bus.transfers + 1, kind=FaultKind.TORN, kept_bytes=4)]
    torn = []
    real = chip.stop

    def stop():
        real()
        torn.append(chip.pulses_us()[0])

    chip.stop = stop
    servos.set_pulses_us({0: 2000.0})
    assert torn[0] not in (pytest.approx(1000, abs=5), pytest.approx(2000, abs=5))
    assert torn[-1] == pytest.approx(2000, abs=5)
    assert servos.bus.retries == 1
    servos.bus.close()


def test_a_stalled_stop_is_an_error_and_the_next_one_stops():
    chip, bus, servos, script = bench([])
    servos.set_pulses_us({0: 1700.0})
    script.faults = [Fault(at=bus.transfers + 1, kind=FaultKind.STALL)]
    with pytest.raises(HardwareError) as caught:
        servos.full_off()
    assert caught.value.code == "E-RIG-I2C-006"
    assert chip.pulses_us()[0] > 0
    servos.full_off()
    assert set(chip.pulses_us().values()) == {0.0}
    servos.bus.close()
