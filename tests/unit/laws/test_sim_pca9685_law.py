"""The data sheet of the PCA9685 as laws of the simulated chip."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon.sim.chips import Pca9685Chip

pytestmark = [pytest.mark.law, pytest.mark.req("R-SIM-07")]
MODE1, LED0, ALL_LED, PRE_SCALE = 0x00, 0x06, 0xFA, 0xFE
SLEEP, AUTO_INCREMENT, EXTCLK, RESTART = 0x10, 0x20, 0x40, 0x80
BYTES = st.integers(0, 255)
REGISTERS = st.sampled_from([*range(0x48), *range(0xF8, 0x100)])
WRITES = st.lists(st.tuples(REGISTERS, BYTES), max_size=25)


def made(now=(0.0,)):
    return Pca9685Chip(clock_s=lambda: now[0])


def put(chip, register, *values, stop=True):
    chip.write(bytes([register, *values]))
    if stop:
        chip.stop()


def get(chip, register, count=1):
    chip.write(bytes([register]))
    return chip.read(count)


def plain(chip):
    """Write MODE1 so that registers are addressed one by one."""
    put(chip, MODE1, get(chip, MODE1)[0] & ~AUTO_INCREMENT & 0x3F)


@given(WRITES, BYTES)
def test_the_prescale_changes_only_asleep_and_is_three_at_least(writes, value):
    chip = made()
    for register, byte in writes:
        before = chip.memory[PRE_SCALE]
        asleep = bool(chip.memory[MODE1] & SLEEP)
        put(chip, register, byte)
        after = chip.memory[PRE_SCALE]
        assert after == before or (register == PRE_SCALE and asleep)
        assert after >= 3
    put(chip, MODE1, SLEEP)
    put(chip, PRE_SCALE, value)
    assert get(chip, PRE_SCALE)[0] == max(3, value)


@given(WRITES)
def test_reserved_registers_and_bits_never_change(writes):
    chip = made()
    for register, byte in writes:
        put(chip, register, byte)
    memory = bytes(chip.memory[:256])
    assert set(memory[0x46:0xFA]) == {0}
    high = [memory[r] for r in range(LED0, 0x46) if r & 1]
    assert all(byte & 0xE0 == 0 for byte in high)


@given(BYTES, BYTES, BYTES, BYTES, st.integers(0, 15))
def test_full_off_wins_over_full_on_and_over_any_count(on_l, on_h, off_l, off_h, at):
    chip = made()
    put(chip, MODE1, AUTO_INCREMENT)
    put(chip, LED0 + 4 * at, on_l, on_h, off_l, off_h)
    pulse = chip.pulses_us()[at]
    if off_h & 0x10:
        assert pulse == 0.0
    elif on_h & 0x10:
        assert pulse == math.inf
    else:
        on, off = on_l | (on_h & 15) << 8, off_l | (off_h & 15) << 8
        assert pulse == pytest.approx((off - on) % 4096 * 31 / 25.0)


@given(WRITES)
def test_asleep_every_output_is_off_and_a_stop_condition_latches(writes):
    chip = made()
    put(chip, MODE1, AUTO_INCREMENT)
    put(chip, LED0, 0, 0, 0, 2)
    shown = chip.pulses_us()
    for register, byte in writes:
        put(chip, register, byte, stop=False)
        assert chip.pulses_us() == shown
    chip.stop()
    if chip.memory[MODE1] & SLEEP:
        assert set(chip.pulses_us().values()) == {0.0}


@given(BYTES, st.sampled_from(range(4)))
def test_all_led_writes_sixteen_channels_and_reads_zero(value, part):
    chip = made()
    plain(chip)
    put(chip, ALL_LED + part, value)
    kept = value & 0x1F if part % 2 else value
    assert {chip.memory[LED0 + 4 * c + part] for c in range(16)} == {kept}
    assert get(chip, ALL_LED + part) == b"\x00"


@given(st.integers(0, 0x45), st.integers(1, 80))
def test_auto_increment_rolls_from_the_last_channel_to_mode1(first, count):
    chip = made()
    put(chip, MODE1, AUTO_INCREMENT | 1)
    seen = get(chip, first, count)
    order = [(first + step) % 0x46 for step in range(count)]
    assert seen == bytes(chip.memory[register] for register in order)
    plain(chip)
    assert get(chip, first, count) == bytes([chip.memory[first]]) * count


@given(WRITES)
def test_power_on_and_the_general_call_give_the_reset_values(writes):
    fresh, chip = made(), made()
    for register, byte in writes:
        put(chip, register, byte)
    chip.software_reset()
    assert bytes(chip.memory[:256]) == bytes(fresh.memory[:256])
    assert set(chip.pulses_us().values()) == {0.0}
    assert get(chip, MODE1) == b"\x11"
    assert get(chip, PRE_SCALE) == b"\x1e"


@given(st.lists(BYTES, max_size=10))
def test_the_external_clock_bit_is_set_asleep_and_stays_until_reset(modes):
    chip = made()
    had = False
    for mode in modes:
        asleep = bool(chip.memory[MODE1] & SLEEP)
        put(chip, MODE1, mode)
        had = had or (asleep and mode & (EXTCLK | SLEEP) == EXTCLK | SLEEP)
        assert bool(get(chip, MODE1)[0] & EXTCLK) is had
    chip.power_on()
    assert not get(chip, MODE1)[0] & EXTCLK


@given(st.floats(0.0, 1e-3), st.booleans())
def test_restart_is_set_by_sleeping_while_driving_and_wants_500_us(waited_s, driven):
    now = [0.0]
    chip = Pca9685Chip(clock_s=lambda: now[0])
    put(chip, MODE1, AUTO_INCREMENT)
    if driven:
        put(chip, LED0, 0, 0, 0, 1)
    put(chip, MODE1, SLEEP | AUTO_INCREMENT)
    assert bool(get(chip, MODE1)[0] & RESTART) is driven
    put(chip, MODE1, AUTO_INCREMENT)
    now[0] += waited_s
    put(chip, MODE1, RESTART | AUTO_INCREMENT)
    assert not get(chip, MODE1)[0] & RESTART
    early = ("restart before 500 us", RESTART | AUTO_INCREMENT) in chip.violations
    assert early is (driven and waited_s < 500e-6)


@given(BYTES)
def test_it_answers_at_its_own_address_and_where_mode1_says(mode1):
    chip = made()
    put(chip, MODE1, mode1)
    wanted = {0x40}
    wanted |= {0x70} if mode1 & 1 else set()
    wanted |= {0x71} if mode1 & 8 else set()
    wanted |= {0x72} if mode1 & 4 else set()
    wanted |= {0x74} if mode1 & 2 else set()
    assert chip.addresses() == wanted
