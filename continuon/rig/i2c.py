"""One I2C adapter over smbus2, with errors that name the likely physical cause."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any

from continuon.errors import HardwareError, MissingPackageError

__all__ = ["NOBODY", "I2cBus", "bus_error"]

NOBODY = "E-RIG-I2C-003"

_UNANSWERED = (
    "check the board's 3.3 V supply, the SDA and SCL wires, and its address jumpers"
)
_BROKEN = (
    "look for a loose SDA or SCL wire, long wires beside motor leads, and brown-outs "
    "of the board's supply"
)
_CAUSES = {
    errno.ENOENT: (
        "E-RIG-I2C-001",
        "there is no such I2C adapter",
        "enable I2C (raspi-config, Interface Options) and reboot",
    ),
    errno.EACCES: (
        "E-RIG-I2C-002",
        "this user may not use the I2C adapter",
        "add the user to the group i2c and log in again",
    ),
    errno.EREMOTEIO: (
        NOBODY,
        "nothing answers at this I2C address",
        _UNANSWERED,
    ),
    errno.ENXIO: (
        NOBODY,
        "nothing answers at this I2C address",
        _UNANSWERED,
    ),
    errno.EIO: (
        "E-RIG-I2C-004",
        "an I2C transfer broke off",
        _BROKEN,
    ),
    errno.EAGAIN: (
        "E-RIG-I2C-005",
        "another master or noise took the I2C bus",
        "keep motor wires away from SDA and SCL; only one process may own the bus",
    ),
    errno.ETIMEDOUT: (
        "E-RIG-I2C-006",
        "the I2C controller timed out",
        "a chip holds SDA or SCL low: power-cycle the servo board",
    ),
}
# The kernel lets a hung call hold its caller for a second, unless it is told otherwise
# (i2c-dev, in units of 10 ms; i2c-designware and i2c-bcm2835 heed it). A whole update
# takes 6 ms.
I2C_TIMEOUT = 0x0702
MAX_HANG_MS = 100
_TRANSIENT = frozenset({errno.EREMOTEIO, errno.EIO, errno.EAGAIN})


def bus_error(
    error: OSError, *, path: str, address: int | None = None
) -> HardwareError:
    """Return the error that tells a person with a soldering iron what to look at."""
    code, what, hint = _CAUSES.get(
        error.errno or 0,
        ("E-RIG-I2C-009", f"an I2C call failed: {error}", "see dmesg for the cause"),
    )
    where = path if address is None else f"{path} address 0x{address:02x}"
    seen = errno.errorcode.get(error.errno or 0, "no errno")
    return HardwareError(code, what, where=where, seen=seen, hint=hint)


class I2cBus:
    """Register reads and writes as single transfers; each retried once at most.

    Args:
        bus: adapter number (1 is /dev/i2c-1) or device path.
        connect: opens a path; smbus2's `SMBus` when None.
        now_ns: by which calls are timed.

    Attributes:
        calls, retries, failures: how many there were; a failure is a call that no
            second try saved.
        slowest_ns: the longest call.
        max_hang_ms: after how long the kernel gives a hung call up; None before the
            first call, and where it does not take the limit.
    """

    def __init__(
        self,
        bus: int | str,
        *,
        connect: Callable[[str], Any] | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.path = f"/dev/i2c-{bus}" if isinstance(bus, int) else bus
        self.calls = self.retries = self.failures = self.slowest_ns = 0
        self.max_hang_ms: int | None = None
        self._now_ns = now_ns
        self._connect = connect
        self._bus: Any = None

    def read(self, address: int, register: int, count: int) -> bytes:
        """Read `count` bytes from `register` on, as one START..STOP.

        Raises:
            HardwareError: the adapter or the chip does not do it.
        """

        def transfer(smbus2: Any, bus: Any) -> bytes:
            pointer = smbus2.i2c_msg.write(address, [register])
            answer = smbus2.i2c_msg.read(address, count)
            bus.i2c_rdwr(pointer, answer)
            return bytes(answer)

        return self._do(address, transfer)

    def write(self, address: int, register: int, data: bytes) -> None:
        """Write bytes from `register` on, as one START..STOP.

        Raises:
            HardwareError: the adapter or the chip does not do it.
        """

        def transfer(smbus2: Any, bus: Any) -> bytes:
            bus.i2c_rdwr(smbus2.i2c_msg.write(address, [register, *data]))
            return b""

        self._do(address, transfer)

    def write_and_read(
        self, address: int, register: int, data: bytes, check: int
    ) -> int:
        """Write bytes, and read the register `check` within the same START..STOP.

        Raises:
            HardwareError: the adapter or the chip does not do it.
        """

        def transfer(smbus2: Any, bus: Any) -> bytes:
            answer = smbus2.i2c_msg.read(address, 1)
            bus.i2c_rdwr(
                smbus2.i2c_msg.write(address, [register, *data]),
                smbus2.i2c_msg.write(address, [check]),
                answer,
            )
            return bytes(answer)

        return self._do(address, transfer)[0]

    def read_word(self, address: int, register: int) -> int:
        """Read two bytes from `register` on, the high one first.

        Raises:
            HardwareError: the adapter or the chip does not do it.
        """
        return int.from_bytes(self.read(address, register, 2), "big")

    def answers(self, address: int) -> bool:
        """Tell whether a chip acknowledges its address; reads one byte, writes none.

        Raises:
            HardwareError: the adapter cannot be used, or the bus hangs.
        """

        def transfer(smbus2: Any, bus: Any) -> bytes:
            bus.i2c_rdwr(smbus2.i2c_msg.read(address, 1))
            return b""

        try:
            self._do(address, transfer, tries=1)
        except HardwareError as error:
            if error.code == NOBODY:
                return False
            raise
        return True

    def close(self) -> None:
        """Release the adapter; may be called twice."""
        if self._bus is not None:
            self._bus.close()
            self._bus = None

    def _do(
        self, address: int, transfer: Callable[[Any, Any], bytes], *, tries: int = 2
    ) -> bytes:
        smbus2 = _smbus2()
        if self._bus is None:
            connect = self._connect or smbus2.SMBus
            try:
                self._bus = connect(self.path)
            except OSError as error:
                raise bus_error(error, path=self.path) from error
            self._limit_hangs(smbus2)
        self.calls += 1
        begin_ns = self._now_ns()
        try:
            while True:
                tries -= 1
                try:
                    return transfer(smbus2, self._bus)
                except OSError as error:
                    if tries == 0 or error.errno not in _TRANSIENT:
                        self.failures += 1
                        raise bus_error(
                            error, path=self.path, address=address
                        ) from error
                self.retries += 1
        finally:
            self.slowest_ns = max(self.slowest_ns, self._now_ns() - begin_ns)

    def _limit_hangs(self, smbus2: Any) -> None:
        """Have the kernel give up early: who waits for a hung call can stop nothing."""
        try:
            smbus2.smbus2.ioctl(self._bus.fd, I2C_TIMEOUT, MAX_HANG_MS // 10)
        except OSError:
            # The adapter keeps its own second; the bus check of `health` shows it.
            self.max_hang_ms = None
        else:
            self.max_hang_ms = MAX_HANG_MS


def _smbus2() -> Any:
    try:
        import smbus2
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "smbus2", "pi", purpose="talking to the servo board"
        ) from error
    return smbus2
