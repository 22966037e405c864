"""Simulated I2C adapters behind the real smbus2.

smbus2 builds its own ioctl structures; only the names `os` and `ioctl` inside its
module are exchanged, by stand-ins that serve registered paths and pass every other
path on to the kernel.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import operator
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from continuon.errors import MissingPackageError

__all__ = ["Chip", "Message", "SimulatedBus", "TornTransferError", "connect"]

I2C_SLAVE, I2C_SLAVE_FORCE, I2C_FUNCS, I2C_RDWR = 0x703, 0x706, 0x705, 0x707
I2C_PEC, I2C_SMBUS, I2C_TIMEOUT = 0x708, 0x720, 0x702
I2C_M_RD = 1
FUNCTIONS = 0x1 | 0x0EFF0008  # plain I2C and the kernel's SMBus emulation
# A second by default, and what the kernel needs on top (seen on a Pi 5).
HANG_S = 1.02
_QUICK, _BYTE, _BYTE_DATA, _WORD_DATA, _PROC_CALL = range(5)
_BLOCK_DATA, _I2C_BLOCK_BROKEN, _I2C_BLOCK = 5, 6, 8

# (address, payload to write) or (address, count of bytes to read)
Message = tuple[int, bytes | int]


class TornTransferError(OSError):
    """A transfer that broke off after some bytes had reached the chip.

    Attributes:
        kept_bytes: how many of the first message.
    """

    def __init__(self, kept_bytes: int) -> None:
        super().__init__(errno.EIO, os.strerror(errno.EIO))
        self.kept_bytes = kept_bytes


class Chip(Protocol):
    """What hangs on a bus."""

    def addresses(self) -> frozenset[int]:
        """Return the 7-bit addresses that it acknowledges now."""
        ...

    def write(self, data: bytes) -> None:
        """Take the bytes of one write."""
        ...

    def read(self, count: int) -> bytes:
        """Answer a read."""
        ...

    def stop(self) -> None:
        """See the STOP condition."""
        ...

    def software_reset(self) -> None:
        """Answer the general call 0x06."""
        ...


class SimulatedBus:
    """One adapter with chips on it.

    Args:
        path: device path under which smbus2 opens it.
        chips: what hangs on it.
        faults: called before each transfer with its number and messages; may raise
            OSError as the kernel would.

    Attributes:
        transfers: how many there were, each from START to STOP.
        hang_s: for how long a call that hangs holds its caller.
    """

    def __init__(
        self,
        path: str,
        chips: Sequence[Chip],
        *,
        faults: Callable[[int, Sequence[Message]], None] | None = None,
    ) -> None:
        self.path = path
        self.chips = list(chips)
        self.faults = faults
        self.transfers = 0
        self.hang_s = HANG_S

    def transfer(self, messages: Sequence[Message]) -> list[bytes]:
        """Do one START..STOP and return an answer for each read message.

        Raises:
            OSError: EREMOTEIO when nobody acknowledges, or what the fault script says.
        """
        self.transfers += 1
        if self.faults is not None:
            try:
                self.faults(self.transfers, messages)
            except TornTransferError as torn:
                self._tear(messages[0], torn.kept_bytes)
                raise
        if messages and messages[0] == (0, b"\x06"):
            for chip in self.chips:
                chip.software_reset()
            return []
        answers: list[bytes] = []
        used: list[Chip] = []
        for address, payload in messages:
            hit = [chip for chip in self.chips if address in chip.addresses()]
            if not hit:
                raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
            if isinstance(payload, int):
                # Open drain: of several answers at one address every 0 wins.
                spoken = [chip.read(payload) for chip in hit]
                answers.append(bytes(map(all_low, zip(*spoken, strict=True))))
            else:
                for chip in hit:
                    chip.write(payload)
            used += hit
        for chip in used:
            chip.stop()
        return answers

    def _tear(self, message: Message, kept_bytes: int) -> None:
        """Let a chip see the beginning of a write, and then a STOP."""
        address, payload = message
        for chip in self.chips:
            if address in chip.addresses() and isinstance(payload, bytes):
                chip.write(payload[:kept_bytes])
                chip.stop()

    def smbus(
        self, address: int, *, read: bool, command: int, size: int, block: bytes
    ) -> bytes | None:
        """Do one SMBus call as the kernel emulates it over plain I2C.

        Args:
            address: 7 bits.
            read: direction.
            command: register.
            size: the kernel's transaction type.
            block: the 34-byte i2c_smbus_data union.

        Returns:
            The union's new first bytes for a read, else None.

        Raises:
            OSError: as `transfer`; EOPNOTSUPP for what Pi adapters cannot do.
        """
        pointer: Message = (address, bytes([command]))
        if size == _QUICK:
            self.transfer([(address, 0 if read else b"")])
            return None
        if size == _BYTE:
            answers = self.transfer([(address, 1) if read else pointer])
            return answers[0] if read else None
        if size in (_BYTE_DATA, _WORD_DATA):
            count = size - 1
            if read:
                return self.transfer([pointer, (address, count)])[0]
            self.transfer([(address, bytes([command]) + block[:count])])
            return None
        if size == _PROC_CALL:
            call: Message = (address, bytes([command]) + block[:2])
            return self.transfer([call, (address, 2)])[0]
        if size in (_I2C_BLOCK, _I2C_BLOCK_BROKEN):
            count = block[0]
            if not 1 <= count <= 32:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            if read:
                return bytes([count]) + self.transfer([pointer, (address, count)])[0]
            self.transfer([(address, bytes([command]) + block[1 : 1 + count])])
            return None
        if size == _BLOCK_DATA and not read:
            self.transfer([(address, bytes([command]) + block[: 1 + block[0]])])
            return None
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def all_low(levels: Iterable[int]) -> int:
    """Return what a line reads that several chips drive at once."""
    return functools.reduce(operator.and_, levels)


def connect(bus: SimulatedBus) -> Any:
    """Return a real smbus2 `SMBus` that is opened on a simulated adapter.

    Raises:
        MissingPackageError: smbus2 is not installed.
    """
    try:
        import smbus2
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "smbus2", "pi", purpose="the simulated servo board"
        ) from error
    module: Any = smbus2.smbus2
    with _LOCK:
        if not isinstance(module.os, _Kernel):
            kernel = _Kernel()
            module.os, module.ioctl = kernel, kernel.ioctl
        module.os.buses[bus.path] = bus
    return module.SMBus(bus.path)


_LOCK = threading.Lock()


class _Kernel:
    """Stands for `os` and `ioctl` inside smbus2; serves registered paths only."""

    def __init__(self) -> None:
        self.buses: dict[str, SimulatedBus] = {}
        self._open: dict[int, SimulatedBus] = {}
        self._address: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str, flags: int, *rest: Any) -> int:
        bus = self.buses.get(path)
        if bus is None:
            return os.open(path, flags, *rest)
        descriptor = os.open(os.devnull, os.O_RDWR)
        self._open[descriptor] = bus
        return descriptor

    def close(self, descriptor: int) -> None:
        bus = self._open.pop(descriptor, None)
        if bus is not None and bus not in self._open.values():
            self.buses.pop(bus.path, None)
        os.close(descriptor)

    def ioctl(self, descriptor: int, request: int, argument: Any = 0) -> int:
        bus = self._open.get(descriptor)
        if bus is None:
            return int(fcntl.ioctl(descriptor, request, argument))
        if request in (I2C_SLAVE, I2C_SLAVE_FORCE):
            self._address[descriptor] = argument
        elif request == I2C_FUNCS:
            argument.value = FUNCTIONS
        elif request == I2C_SMBUS:
            self._smbus(bus, self._address.get(descriptor, 0), argument)
        elif request == I2C_RDWR:
            self._combined(bus, argument)
        elif request == I2C_TIMEOUT:
            bus.hang_s = argument * 0.01 + 0.02
        elif request != I2C_PEC:
            raise OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
        return 0

    @staticmethod
    def _smbus(bus: SimulatedBus, address: int, argument: Any) -> None:
        union = argument.data.contents
        answer = bus.smbus(
            address,
            read=argument.read_write == 1,
            command=argument.command,
            size=argument.size,
            block=ctypes.string_at(ctypes.addressof(union), 34),
        )
        if answer is not None:
            ctypes.memmove(ctypes.addressof(union), answer, len(answer))

    @staticmethod
    def _combined(bus: SimulatedBus, argument: Any) -> None:
        raw = [argument.msgs[index] for index in range(argument.nmsgs)]
        messages: list[Message] = [
            (
                message.addr,
                message.len
                if message.flags & I2C_M_RD
                else ctypes.string_at(message.buf, message.len),
            )
            for message in raw
        ]
        answers = iter(bus.transfer(messages))
        for message in raw:
            if message.flags & I2C_M_RD:
                answer = next(answers)
                ctypes.memmove(message.buf, answer, len(answer))
