"""What goes wrong on an I2C bus, as a script: each fault at a transfer's number.

Errno as the Pi's designware driver reports them: 121 nobody acknowledges, 11 lost
arbitration, 5 broken off, 110 timed out about a second later.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import attrs

from continuon.sim.bus import Message, TornTransferError

__all__ = ["Fault", "FaultKind", "FaultScript"]

STALL_S = 1.02


class FaultKind(StrEnum):
    """What happens to a transfer."""

    NACK = "nack"
    LOST = "lost arbitration"
    BROKEN = "broken off"
    STALL = "stalls a second, then times out"
    TORN = "torn write"
    RESET = "chips lose their supply for a moment"
    STUCK = "SDA is held low from here on"


_ERRNO = {
    FaultKind.NACK: errno.EREMOTEIO,
    FaultKind.LOST: errno.EAGAIN,
    FaultKind.BROKEN: errno.EIO,
    FaultKind.STALL: errno.ETIMEDOUT,
    FaultKind.STUCK: errno.ETIMEDOUT,
}


@attrs.frozen(kw_only=True)
class Fault:
    """One fault.

    Attributes:
        at: number of the transfer, from 1.
        kind: what happens to it.
        kept_bytes: of a torn write, how many bytes the chip got.
    """

    at: int
    kind: FaultKind
    kept_bytes: int = 0


@attrs.define
class FaultScript:
    """Faults for `SimulatedBus.faults`.

    Attributes:
        faults: the script.
        reset: what RESET calls: each chip's `power_on`.
        sleep_s: how a stall waits.
        happened: faults so far, in order.
    """

    faults: Sequence[Fault]
    reset: Callable[[], None] = attrs.field(default=lambda: None)
    sleep_s: Callable[[float], None] = time.sleep
    happened: list[Fault] = attrs.field(factory=list)

    def __call__(self, number: int, _messages: Sequence[Message]) -> None:
        """Let the transfer happen, or raise what the kernel would.

        Raises:
            OSError: by the script.
        """
        for fault in self.faults:
            stuck = fault.kind is FaultKind.STUCK and number > fault.at
            if fault.at != number and not stuck:
                continue
            self.happened.append(fault)
            if fault.kind is FaultKind.RESET:
                self.reset()
                continue
            if fault.kind is FaultKind.TORN:
                raise TornTransferError(fault.kept_bytes)
            if fault.kind in (FaultKind.STALL, FaultKind.STUCK):
                self.sleep_s(STALL_S)
            code = _ERRNO[fault.kind]
            raise OSError(code, os.strerror(code))
