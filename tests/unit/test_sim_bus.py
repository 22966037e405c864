"""Every SMBus call of the real smbus2 against a simulated adapter."""

from __future__ import annotations

import errno

import pytest

from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip
from continuon.sim.gauges import Ina219Chip


@pytest.fixture
def bench():
    chip = Pca9685Chip()
    gauge = Ina219Chip(volts=lambda: 8.0, amps=lambda: 0.0)
    bus = SimulatedBus("/dev/i2c-test-calls", [chip, gauge])
    smbus = connect(bus)
    yield chip, bus, smbus
    smbus.close()


def test_single_registers_are_read_and_written(bench):
    chip, _, smbus = bench
    smbus.write_byte_data(0x40, 0x00, 0x20)
    assert smbus.read_byte_data(0x40, 0x00) == 0x20
    assert chip.writes == [(0, 0x20)]
    smbus.write_byte(0x40, 0xFE)
    assert smbus.read_byte(0x40) == 0x1E
    smbus.write_quick(0x40)


def test_words_are_little_endian_as_in_the_kernel(bench):
    _, _, smbus = bench
    assert smbus.read_word_data(0x41, 2) == 0x823E
    smbus.write_word_data(0x41, 5, 0x3412)
    assert smbus.process_call(0x41, 5, 0x7856) == 0x7856


def test_blocks_go_up_to_32_bytes(bench):
    chip, _, smbus = bench
    smbus.write_byte_data(0x40, 0, 0x20)
    smbus.write_i2c_block_data(0x40, 6, [0, 0, 0x33, 0x01])
    assert smbus.read_i2c_block_data(0x40, 6, 4) == [0, 0, 0x33, 0x01]
    smbus.write_block_data(0x40, 6, [0, 0])
    assert chip.memory[6] == 2
    with pytest.raises(OSError) as caught:
        smbus.read_block_data(0x40, 6)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_combined_transfers_are_one_transfer(bench):
    import smbus2

    _, bus, smbus = bench
    write = smbus2.i2c_msg.write(0x40, [0xFE])
    read = smbus2.i2c_msg.read(0x40, 1)
    smbus.i2c_rdwr(write, read)
    assert list(read) == [0x1E]
    assert bus.transfers == 1


def test_nobody_at_the_address_is_remote_io(bench):
    _, _, smbus = bench
    with pytest.raises(OSError) as caught:
        smbus.read_byte_data(0x23, 0)
    assert caught.value.errno == errno.EREMOTEIO


def test_the_general_call_resets_every_chip(bench):
    import smbus2

    chip, _, smbus = bench
    smbus.write_byte_data(0x40, 0, 0x20)
    smbus.i2c_rdwr(smbus2.i2c_msg.write(0x00, [0x06]))
    assert chip.memory[0] == 0x11


def test_error_checking_can_be_asked_for(bench):
    _, _, smbus = bench
    smbus.pec = 0
    smbus.pec = 1
    assert smbus.pec
