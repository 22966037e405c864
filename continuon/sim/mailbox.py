"""The Pi's firmware mailbox: property messages in, answers out."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Mapping

import attrs

__all__ = ["IOCTL_MBOX_PROPERTY", "SimMailbox"]

IOCTL_MBOX_PROPERTY = 0xC0086400
GET_TEMPERATURE, GET_THROTTLED = 0x00030006, 0x00030046
SUCCESS, FAILURE, ANSWERED = 0x80000000, 0x80000001, 0x80000000


@attrs.define(kw_only=True)
class SimMailbox:
    """Answers the tags that it knows, as the firmware does.

    Attributes:
        throttled: the word of `get_throttled`.
        celsius: the SoC's temperature.
        dead: every message fails.
    """

    throttled: int = 0
    celsius: float = 50.0
    dead: bool = False

    def ioctl(self, request: int, message: bytearray) -> None:
        """Answer one property message in place.

        Raises:
            OSError: ENOTTY, the call is not the mailbox's.
        """
        if request != IOCTL_MBOX_PROPERTY:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        (size,) = struct.unpack_from("<I", message, 0)
        code = SUCCESS
        at = 8
        tags: Mapping[int, Callable[[bytes], bytes]] = {
            GET_THROTTLED: lambda _: struct.pack("<I", self.throttled),
            GET_TEMPERATURE: lambda asked: (
                asked[:4] + struct.pack("<I", round(self.celsius * 1000))
            ),
        }
        while at + 12 <= size:
            tag, room, _ = struct.unpack_from("<3I", message, at)
            if tag == 0:
                break
            answer = tags.get(tag)
            if answer is None or self.dead:
                code = FAILURE
            else:
                value = answer(bytes(message[at + 12 : at + 12 + room]))[:room]
                message[at + 12 : at + 12 + len(value)] = value
                struct.pack_into("<I", message, at + 8, ANSWERED | len(value))
            at += 12 + (room + 3) // 4 * 4
        struct.pack_into("<I", message, 4, code)
