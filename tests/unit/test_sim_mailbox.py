"""The simulated firmware mailbox, asked by the real reader."""

from __future__ import annotations

import struct

import pytest

from continuon.errors import HardwareError
from continuon.rig import firmware
from continuon.rig.firmware import read_throttle_flags
from continuon.sim.mailbox import IOCTL_MBOX_PROPERTY, SimMailbox

pytestmark = pytest.mark.req("R-SIM-14")


def wire(monkeypatch, tmp_path, mailbox):
    node = tmp_path / "vcio"
    node.write_bytes(b"")
    monkeypatch.setattr(
        firmware.fcntl,
        "ioctl",
        lambda descriptor, request, message, mutate: mailbox.ioctl(request, message),
    )
    return node


@pytest.mark.parametrize("word", [0x0, 0x50005, 0xE000E, 0x10001])
def test_the_reader_gets_the_word_and_its_bits(monkeypatch, tmp_path, word):
    flags = read_throttle_flags(wire(monkeypatch, tmp_path, SimMailbox(throttled=word)))
    assert flags.raw == word
    assert flags.under_voltage is bool(word & 1)
    assert flags.throttled is bool(word & 0xE)
    assert flags.under_voltage_since_boot is bool(word & 0x10000)
    assert flags.throttled_since_boot is bool(word & 0xE0000)


def test_a_firmware_that_fails_is_an_error(monkeypatch, tmp_path):
    with pytest.raises(HardwareError) as caught:
        read_throttle_flags(wire(monkeypatch, tmp_path, SimMailbox(dead=True)))
    assert caught.value.code == "E-RIG-VCIO-003"


def test_several_tags_in_one_message_and_an_unknown_one():
    mailbox = SimMailbox(celsius=61.5, throttled=5)
    message = bytearray(
        struct.pack("<2I", 56, 0)
        + struct.pack("<5I", 0x00030006, 8, 0, 0, 0)
        + struct.pack("<4I", 0x00030046, 4, 0, 0)
        + struct.pack("<3I", 0, 0, 0)
    )
    mailbox.ioctl(IOCTL_MBOX_PROPERTY, message)
    assert struct.unpack_from("<I", message, 4)[0] == 0x80000000
    assert struct.unpack_from("<2I", message, 20) == (0, 61500)
    assert struct.unpack_from("<I", message, 40)[0] == 5
    unknown = bytearray(struct.pack("<7I", 28, 0, 0x7777, 4, 0, 0, 0))
    mailbox.ioctl(IOCTL_MBOX_PROPERTY, unknown)
    assert struct.unpack_from("<I", unknown, 4)[0] == 0x80000001
    with pytest.raises(OSError, match="ioctl"):
        mailbox.ioctl(0x1234, unknown)
