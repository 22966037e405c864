"""The Pi's firmware flags: under-voltage and throttling, by the mailbox property call.

Message of the property interface (raspberrypi/firmware wiki, "Mailbox property
interface"): total bytes, request code, tag, value bytes, request, value, end tag.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import attrs

from continuon.errors import HardwareError

__all__ = ["ThrottleFlags", "read_throttle_flags"]

IOCTL_MBOX_PROPERTY = 0xC0086400
TAG_GET_THROTTLED = 0x00030046
_MESSAGE = struct.Struct("<7I")
_SUCCESS = 0x80000000


@attrs.frozen(kw_only=True)
class ThrottleFlags:
    """Bits 0..3 are now, bits 16..19 have happened since boot and never clear.

    Attributes:
        raw: the whole word.
    """

    raw: int

    @property
    def under_voltage(self) -> bool:
        """Supply below about 4.63 V now."""
        return bool(self.raw & 0x1)

    @property
    def throttled(self) -> bool:
        """Clock capped, throttled or at the soft temperature limit now."""
        return bool(self.raw & 0xE)

    @property
    def under_voltage_since_boot(self) -> bool:
        """Supply was low at some time since boot."""
        return bool(self.raw & 0x10000)

    @property
    def throttled_since_boot(self) -> bool:
        """Clock was capped, throttled or at the soft limit at some time since boot."""
        return bool(self.raw & 0xE0000)


def read_throttle_flags(device: Path = Path("/dev/vcio")) -> ThrottleFlags:
    """Ask the firmware.

    Raises:
        HardwareError: there is no such firmware, or it does not answer this.
    """
    message = bytearray(_MESSAGE.pack(_MESSAGE.size, 0, TAG_GET_THROTTLED, 4, 0, 0, 0))
    try:
        descriptor = os.open(device, os.O_RDWR)
    except OSError as error:
        raise HardwareError(
            "E-RIG-VCIO-001",
            "the Pi's firmware mailbox cannot be opened",
            where=device,
            seen=error.strerror,
            hint="only a Raspberry Pi has one; its user must be in the group video",
        ) from error
    try:
        fcntl.ioctl(descriptor, IOCTL_MBOX_PROPERTY, message, True)  # noqa: FBT003
    except OSError as error:
        raise HardwareError(
            "E-RIG-VCIO-002",
            "the Pi's firmware refuses the call",
            where=device,
            seen=error.strerror,
            hint="update the firmware: sudo rpi-eeprom-update",
        ) from error
    finally:
        os.close(descriptor)
    _, answer, _, _, _, raw, _ = _MESSAGE.unpack(message)
    if answer != _SUCCESS:
        raise HardwareError(
            "E-RIG-VCIO-003",
            "the Pi's firmware does not know its throttling flags",
            where=device,
            seen=hex(answer),
            allowed=hex(_SUCCESS),
        )
    return ThrottleFlags(raw=raw)
