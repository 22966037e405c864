"""The servo driver against the chip's registers, through the real smbus2."""

from __future__ import annotations

import errno

import pytest

from continuon.errors import ContractError, HardwareError, MissingPackageError
from continuon.rig.i2c import I2cBus
from continuon.rig.pca9685 import Pca9685Servos, prescale_for
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip
from continuon.sim.gauges import Ina219Chip

LIMITS = {0: (1000.0, 2000.0), 1: (1100.0, 1900.0), 15: (500.0, 2500.0)}
PATH = "/dev/i2c-test-servos"


class Wait:
    """A clock for the chip that the driver's waits move."""

    now_s = 0.0

    def __call__(self, seconds: float) -> None:
        self.now_s += seconds


def bench(chips=None, *, faults=None, oscillator_hz=25e6, believed_hz=25e6):
    wait = Wait()
    chip = Pca9685Chip(oscillator_hz=oscillator_hz, clock_s=lambda: wait.now_s)
    bus = SimulatedBus(PATH, [chip] if chips is None else chips, faults=faults)
    servos = Pca9685Servos(
        I2cBus(PATH, connect=lambda _: connect(bus)),
        limits_us=LIMITS,
        oscillator_hz=believed_hz,
        sleep_s=wait,
    )
    return chip, bus, servos


@pytest.mark.req("R-RIG-01")
def test_probing_reads_the_registers_and_changes_nothing():
    chip, _, servos = bench()
    facts = servos.probe()
    assert (facts.mode1, facts.prescale, facts.awake) == (0x11, 0x1E, False)
    assert chip.writes == []


@pytest.mark.req("R-RIG-01")
def test_an_empty_bus_is_no_servo_board():
    _, _, servos = bench(chips=[])
    with pytest.raises(HardwareError) as caught:
        servos.probe()
    assert caught.value.code == "E-RIG-I2C-003"
    assert "wires" in caught.value.hint


@pytest.mark.req("R-RIG-01")
def test_a_battery_gauge_at_the_same_address_is_no_servo_board():
    gauge = Ina219Chip(volts=lambda: 8.0, amps=lambda: 0.0, address=0x40)
    _, _, servos = bench(chips=[gauge])
    with pytest.raises(HardwareError) as caught:
        servos.open()
    assert caught.value.code == "E-RIG-PCA-001"
    assert "INA219" in caught.value.hint


@pytest.mark.req("R-RIG-02")
@pytest.mark.parametrize("oscillator_hz", [23e6, 24.5e6, 25e6, 27e6])
def test_a_pulse_is_right_to_a_tick_on_any_calibrated_board(oscillator_hz):
    chip, _, servos = bench(oscillator_hz=oscillator_hz, believed_hz=oscillator_hz)
    servos.set_pulses_us({1: 1500.0})
    tick_us = 1e6 * (prescale_for(50.0, oscillator_hz) + 1) / oscillator_hz
    assert chip.pulses_us()[1] == pytest.approx(1500.0, abs=tick_us)
    assert servos.read_pulses_us()[1] == pytest.approx(chip.pulses_us()[1])


def test_the_prescale_of_the_data_sheet_at_fifty_hertz_is_121():
    assert prescale_for(50.0, 25e6) == 121


@pytest.mark.parametrize(("hz", "oscillator"), [(50.0, 22e6), (10.0, 25e6)])
def test_impossible_frequencies_are_refused(hz, oscillator):
    with pytest.raises(ContractError):
        prescale_for(hz, oscillator)


@pytest.mark.req("R-RIG-03")
def test_two_channels_are_one_write():
    chip, bus, servos = bench()
    servos.open()
    before = bus.transfers
    servos.set_pulses_us({0: 1600.0, 1: 1400.0})
    assert bus.transfers == before + 1
    assert chip.pulses_us()[0] == pytest.approx(1600, abs=5)
    assert chip.pulses_us()[1] == pytest.approx(1400, abs=5)


def test_channels_between_two_written_ones_keep_their_state():
    chip, _, servos = bench()
    servos.set_pulses_us({1: 1300.0})
    servos.set_pulses_us({0: 1500.0, 15: 1500.0})
    pulses = chip.pulses_us()
    assert pulses[1] == pytest.approx(1300, abs=5)
    assert pulses[7] == 0.0


@pytest.mark.req("R-RIG-04")
@pytest.mark.parametrize(
    "pulses", [{0: 2100.0}, {0: 1500.0, 1: float("nan")}, {5: 1500.0}]
)
def test_a_pulse_out_of_limits_writes_no_byte(pulses):
    _, bus, servos = bench()
    with pytest.raises(ContractError) as caught:
        servos.set_pulses_us(pulses)
    assert caught.value.code == "E-RIG-PULSE-001"
    assert bus.transfers == 0


def test_no_pulses_are_no_write():
    _, bus, servos = bench()
    servos.set_pulses_us({})
    assert bus.transfers == 0


@pytest.mark.req("R-RIG-05")
def test_a_stop_turns_every_channel_off_without_sleep():
    chip, _, servos = bench()
    servos.set_pulses_us({0: 1700.0, 1: 1500.0})
    servos.full_off()
    assert set(chip.pulses_us().values()) == {0.0}
    assert not chip.memory[0] & 0x10
    assert chip.violations == []


@pytest.mark.req("R-RIG-05")
def test_a_stop_that_writes_nothing_is_found_out():
    chip, _, servos = bench()
    servos.set_pulses_us({0: 1700.0})
    real = chip.write
    chip.write = lambda data: None if data[:1] == b"\xfd" else real(data)
    with pytest.raises(HardwareError) as caught:
        servos.full_off()
    assert caught.value.code == "E-RIG-PCA-003"


def test_a_channel_stuck_at_full_on_reads_as_infinite():
    chip, _, servos = bench()
    servos.open()
    chip.write(bytes([0x07, 0x10, 0x00, 0x00]))
    chip.stop()
    assert servos.read_pulses_us()[0] == float("inf")


def test_a_board_that_does_not_keep_writes_is_an_error():
    chip, _, servos = bench()
    real = chip.write
    chip.write = lambda data: (
        None if data[:1] == b"\xfe" and len(data) > 1 else real(data)
    )
    with pytest.raises(HardwareError) as caught:
        servos.open()
    assert caught.value.code == "E-RIG-PCA-002"


@pytest.mark.req("R-RIG-07")
def test_one_lost_acknowledge_is_tried_again():
    failing = iter([OSError(errno.EREMOTEIO, "nack")])

    def faults(number, messages):
        error = next(failing, None)
        if error is not None:
            raise error

    _, _, servos = bench(faults=faults)
    servos.open()
    assert servos.bus.retries == 1


@pytest.mark.req("R-RIG-07")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (errno.EREMOTEIO, "E-RIG-I2C-003", "supply"),
        (errno.EIO, "E-RIG-I2C-004", "loose"),
        (errno.EAGAIN, "E-RIG-I2C-005", "motor wires"),
        (errno.ETIMEDOUT, "E-RIG-I2C-006", "power-cycle"),
        (errno.ENODEV, "E-RIG-I2C-009", "dmesg"),
    ],
)
def test_an_error_names_its_likely_cause(number, code, word):
    calls = []

    def faults(count, messages):
        calls.append(count)
        raise OSError(number, "fault")

    _, _, servos = bench(faults=faults)
    with pytest.raises(HardwareError) as caught:
        servos.probe()
    assert caught.value.code == code
    assert word in caught.value.hint
    assert len(calls) == (2 if code[-1] in "345" else 1)


def test_a_missing_adapter_says_how_to_enable_it():
    servos = Pca9685Servos("/dev/i2c-none", limits_us=LIMITS)
    with pytest.raises(HardwareError) as caught:
        servos.probe()
    assert caught.value.code == "E-RIG-I2C-001"
    assert "raspi-config" in caught.value.hint


@pytest.mark.req("R-SIM-08")
def test_real_paths_pass_through_the_exchanged_smbus2(tmp_path):
    _, _, servos = bench()
    servos.probe()
    plain = tmp_path / "not-a-bus"
    plain.write_bytes(b"")
    import smbus2

    with pytest.raises(OSError) as caught:
        smbus2.SMBus(str(plain))
    assert caught.value.errno == errno.ENOTTY


def test_closing_twice_stops_once_and_releases_the_bus():
    chip, _, servos = bench()
    servos.set_pulses_us({0: 1500.0})
    servos.close()
    servos.close()
    assert set(chip.pulses_us().values()) == {0.0}


@pytest.mark.req("R-RIG-06")
def test_a_board_left_awake_at_another_rate_is_stopped_before_it_is_changed():
    chip, _, servos = bench()
    servos.frequency_hz = 100.0
    servos.set_pulses_us({0: 1500.0})
    servos.frequency_hz = 50.0
    facts = servos.open()
    assert facts.prescale == 121
    assert chip.violations == []
    assert set(chip.pulses_us().values()) == {0.0}


@pytest.mark.req("R-RIG-20")
def test_a_board_that_browned_out_is_noticed_and_set_up_again():
    chip, _bus, servos = bench()
    servos.set_pulses_us({0: 1600.0, 1: 1500.0})
    chip.power_on()
    with pytest.raises(HardwareError) as caught:
        servos.set_pulses_us({0: 1700.0, 1: 1500.0})
    assert caught.value.code == "E-RIG-PCA-006"
    assert "3.3 V" in caught.value.hint
    assert set(chip.pulses_us().values()) == {0.0}
    servos.set_pulses_us({0: 1700.0, 1: 1500.0})
    pulses = chip.pulses_us()
    assert pulses[0] == pytest.approx(1700, abs=5)
    assert {c for c, us in pulses.items() if us} == {0, 1}
    assert chip.violations == []


@pytest.mark.req("R-RIG-20")
def test_a_board_that_another_program_set_up_drives_nothing_after_it_is_noticed():
    chip, _bus, servos = bench()
    servos.set_pulses_us({0: 1600.0, 1: 1500.0})
    chip.write(bytes([0x00, 0x00]))
    chip.stop()
    with pytest.raises(HardwareError) as caught:
        servos.set_pulses_us({0: 1700.0})
    assert caught.value.code == "E-RIG-PCA-006"
    assert set(chip.pulses_us().values()) == {0.0}
    servos.close()
    assert set(chip.pulses_us().values()) == {0.0}


def test_registers_are_read_one_by_one_where_auto_increment_is_off():
    chip, _, servos = bench()
    chip.write(bytes([0x00, 0x00]))
    chip.write(bytes([0x08, 0x33]))
    chip.write(bytes([0x09, 0x01]))
    chip.stop()
    pulses = servos.read_pulses_us()
    assert pulses[0] == pytest.approx(0x133 * 31 / 25.0)
    assert pulses[1] == 0.0


def test_without_smbus2_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "smbus2", None)
    with pytest.raises(MissingPackageError) as caught:
        Pca9685Servos("/dev/i2c-none", limits_us=LIMITS).probe()
    assert "continuon[pi]" in caught.value.hint


def test_a_wish_is_held_in_whole_ticks():
    _, _, servos = bench()
    assert servos.registered_us(1500.0) == pytest.approx(1500.0, abs=2.5)
    servos.set_pulses_us({1: 1500.0})
    assert servos.registered_us(1500.0) == servos.read_pulses_us()[1]
