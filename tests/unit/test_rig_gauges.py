"""Battery gauges: who answers, what they say, and what they cannot be."""

from __future__ import annotations

import pytest

from continuon.clock import ManualClock
from continuon.errors import HardwareError
from continuon.rig.gauges import find_gauge
from continuon.rig.i2c import I2cBus
from continuon.rig.ina219 import Ina219
from continuon.rig.max17048 import Max17048
from continuon.rig.pi import PiRig
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip
from continuon.sim.gauges import Ina219Chip, Max17048Chip

CLOCK = ManualClock(5)


def wired(*chips):
    bus = SimulatedBus("/dev/i2c-test-gauges", list(chips))
    return I2cBus(bus.path, connect=lambda _: connect(bus))


def ina(volts=7.9, amps=-0.6, address=0x41):
    return Ina219Chip(volts=lambda: volts, amps=lambda: amps, address=address)


def fuel(cell_v=3.9, charge=0.5):
    return Max17048Chip(cell_v=lambda: cell_v, charge=lambda: charge)


def test_a_charge_gauge_gives_volts_of_the_battery_and_its_own_charge():
    reading = Max17048(wired(fuel(4.1, 0.83)), clock=CLOCK, cells=2).read()
    assert reading.volts == pytest.approx(8.2, abs=2e-4)
    assert reading.fraction == pytest.approx(0.83, abs=1e-4)
    assert (reading.amps, reading.cells, reading.capture_ns) == (None, 2, 5)


def test_a_full_battery_is_one_and_not_a_little_more():
    assert Max17048(wired(fuel(4.2, 1.02)), clock=CLOCK).read().fraction == 1.0


@pytest.mark.req("R-RIG-14")
@pytest.mark.parametrize(("cell_v", "charge"), [(0.0, 0.5), (5.1, 0.5), (3.9, 1.9)])
def test_an_impossible_charge_reading_is_an_error(cell_v, charge):
    with pytest.raises(HardwareError) as caught:
        Max17048(wired(fuel(cell_v, charge)), clock=CLOCK).read()
    assert caught.value.code == "E-RIG-MAX-002"


@pytest.mark.req("R-RIG-25")
def test_the_kernel_is_told_to_give_hung_calls_up_early():
    simulated = SimulatedBus("/dev/i2c-test-hang", [fuel()])
    bus = I2cBus(simulated.path, connect=lambda _: connect(simulated))
    assert bus.max_hang_ms is None
    assert simulated.hang_s > 1.0
    Max17048(bus, clock=CLOCK).read()
    assert bus.max_hang_ms == 100
    assert simulated.hang_s < 0.15


@pytest.mark.req("R-RIG-25")
def test_an_adapter_that_keeps_its_own_second_is_used_and_said_to(monkeypatch):
    import smbus2

    simulated = SimulatedBus("/dev/i2c-test-hang", [fuel()])
    bus = I2cBus(simulated.path, connect=lambda _: connect(simulated))
    connect(simulated).close()
    taken = smbus2.smbus2.ioctl

    def refuses(descriptor, request, argument=0):
        if request == 0x0702:
            raise OSError(25, "inappropriate ioctl")
        return taken(descriptor, request, argument)

    monkeypatch.setattr(smbus2.smbus2, "ioctl", refuses)
    Max17048(bus, clock=CLOCK).read()
    assert bus.max_hang_ms is None
    assert simulated.hang_s > 1.0


@pytest.mark.req("R-RIG-17")
def test_another_chip_at_a_gauges_address_is_no_gauge():
    with pytest.raises(HardwareError) as caught:
        Max17048(wired(ina(address=0x36)), clock=CLOCK).probe()
    assert caught.value.code == "E-RIG-MAX-001"
    with pytest.raises(HardwareError) as caught:
        Ina219(wired(Pca9685Chip(address=0x41)), clock=CLOCK).probe()
    assert caught.value.code == "E-RIG-INA-002"


@pytest.mark.req("R-RIG-14")
def test_a_gauge_that_another_program_switched_off_is_an_error():
    chip = ina()
    chip.write(bytes([0, 0x39, 0x98]))
    with pytest.raises(HardwareError) as caught:
        Ina219(wired(chip), clock=CLOCK).read()
    assert caught.value.code == "E-RIG-INA-003"


@pytest.mark.req("R-RIG-17")
def test_the_first_gauge_that_answers_as_itself_is_taken():
    assert isinstance(find_gauge(wired(fuel(), ina()), CLOCK), Max17048)
    foreign = Pca9685Chip(address=0x41)
    assert find_gauge(wired(foreign, ina(address=0x43)), CLOCK).address == 0x43
    with pytest.raises(HardwareError) as caught:
        find_gauge(wired(foreign), CLOCK)
    assert caught.value.code == "E-RIG-INA-002"
    with pytest.raises(HardwareError) as caught:
        find_gauge(wired(), CLOCK)
    assert caught.value.code == "E-RIG-GAUGE-001"
    assert "0x40" in caught.value.hint


@pytest.mark.req("R-GUARD-11")
def test_a_rig_looks_again_for_a_gauge_only_when_it_is_told(tmp_path):
    bare = SimulatedBus("/dev/i2c-test-later", [Pca9685Chip()])
    wired_later = SimulatedBus("/dev/i2c-test-later", [Pca9685Chip(), fuel()])
    buses = [bare]
    rig = PiRig(bus=bare.path, connect=lambda _: connect(buses[-1]), sys=tmp_path)
    assert rig.battery is None
    assert "no battery gauge answers" in rig.reasons["battery"]
    buses.append(wired_later)
    rig._bus.close()
    assert rig.battery is None, "one look costs several calls"
    rig.look_again("battery")
    assert rig.battery.read().volts > 0
    assert "battery" not in rig.reasons
