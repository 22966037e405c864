"""The PCA9685 as registers, by its data sheet (NXP, rev. 4).

It keeps all its state in one buffer, which may be shared memory: whichever
process writes the chip, another one can watch the outputs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

__all__ = ["PCA9685_BYTES", "Pca9685Chip", "latched_pulses_us"]

MODE1, LED0, ALL_LED, PRE_SCALE = 0x00, 0x06, 0xFA, 0xFE
RESTART, EXTCLK, AUTO_INCREMENT, SLEEP, ALLCALL = 0x80, 0x40, 0x20, 0x10, 0x01
FULL = 0x10
CHANNELS = 16

# Layout of the buffer: 256 registers, then what the outputs latched at the last STOP
# (MODE1..LED15 and the prescale), a sequence number that is odd while latching, and
# the register pointer.
_LATCH, _LATCH_PRESCALE, _SEQUENCE, _POINTER = 256, 326, 328, 336
PCA9685_BYTES = 344


def latched_pulses_us(
    memory: bytearray | memoryview, *, oscillator_hz: float
) -> dict[int, float]:
    """Return what the outputs of a PCA9685 do: 0.0 off, inf full on, else the pulse.

    Safe to call from another process while the chip is written.
    """
    while True:
        before = bytes(memory[_SEQUENCE : _SEQUENCE + 8])
        latch = bytes(memory[_LATCH : _LATCH_PRESCALE + 1])
        after = bytes(memory[_SEQUENCE : _SEQUENCE + 8])
        if before == after and not before[0] & 1:
            break
    tick_us = 1e6 * (latch[-1] + 1) / oscillator_hz
    asleep = bool(latch[MODE1] & SLEEP)
    pulses = {}
    for channel in range(CHANNELS):
        on_l, on_h, off_l, off_h = latch[LED0 + 4 * channel : LED0 + 4 * channel + 4]
        if asleep or off_h & FULL:
            pulses[channel] = 0.0
        elif on_h & FULL:
            pulses[channel] = math.inf
        else:
            on, off = on_l | (on_h & 15) << 8, off_l | (off_h & 15) << 8
            pulses[channel] = ((off - on) % 4096) * tick_us
    return pulses


class Pca9685Chip:
    """The PWM chip at one address.

    Args:
        memory: `PCA9685_BYTES` bytes that hold the state; own memory when None.
        address: by its jumpers.
        oscillator_hz: what this board's oscillator really does.
        clock_s: seconds, for the 500 us rule of RESTART.

    Attributes:
        writes: every register write that took effect, as (register, value).
        violations: writes that the chip ignores or the data sheet forbids.
    """

    def __init__(
        self,
        memory: bytearray | memoryview | None = None,
        *,
        address: int = 0x40,
        oscillator_hz: float = 25_000_000.0,
        clock_s: Callable[[], float] = time.monotonic,
        fresh: bool = True,
    ) -> None:
        self.memory = bytearray(PCA9685_BYTES) if memory is None else memory
        self.address = address
        self.oscillator_hz = oscillator_hz
        self.writes: list[tuple[int, int]] = []
        self.violations: list[tuple[str, int]] = []
        self._clock_s = clock_s
        self._woke_s = -math.inf
        if fresh:
            self.power_on()

    def power_on(self) -> None:
        """Take the reset values (a host's reboot is not one)."""
        registers = bytearray(256)
        registers[0:6] = bytes([0x11, 0x04, 0xE2, 0xE4, 0xE8, 0xE0])
        for channel in range(CHANNELS):
            registers[LED0 + 4 * channel + 3] = FULL
        registers[PRE_SCALE] = 0x1E
        self.memory[0:256] = registers
        self.memory[_POINTER] = 0
        self.stop()

    def pulses_us(self) -> Mapping[int, float]:
        """Return what the outputs do."""
        return latched_pulses_us(self.memory, oscillator_hz=self.oscillator_hz)

    def addresses(self) -> frozenset[int]:
        """Return the addresses that it answers, SUBADR and ALLCALL included."""
        memory = self.memory
        mode1 = memory[MODE1]
        named = ((ALLCALL, 5), (8, 2), (4, 3), (2, 4))
        extra = {memory[register] >> 1 for bit, register in named if mode1 & bit}
        return frozenset({self.address, *extra})

    def write(self, data: bytes) -> None:
        """Take a write: register pointer, then bytes."""
        if not data:
            return
        self.memory[_POINTER] = data[0]
        for value in data[1:]:
            self._write_register(self.memory[_POINTER], value)
            self._advance()

    def read(self, count: int) -> bytes:
        """Answer a read from the register pointer on; ALL_LED reads zero."""
        out = bytearray()
        for _ in range(count):
            pointer = self.memory[_POINTER]
            out.append(0 if ALL_LED <= pointer < PRE_SCALE else self.memory[pointer])
            self._advance()
        return bytes(out)

    def stop(self) -> None:
        """Latch the outputs, as the chip does on STOP (OCH = 0)."""
        memory = self.memory
        self._count_up()
        memory[_LATCH : _LATCH + 70] = bytes(memory[0:70])
        memory[_LATCH_PRESCALE] = memory[PRE_SCALE]
        self._count_up()

    def software_reset(self) -> None:
        """Answer the general call 0x06."""
        self.power_on()

    def _count_up(self) -> None:
        count = int.from_bytes(self.memory[_SEQUENCE : _SEQUENCE + 8], "little") + 1
        self.memory[_SEQUENCE : _SEQUENCE + 8] = count.to_bytes(8, "little")

    def _advance(self) -> None:
        memory = self.memory
        if memory[MODE1] & AUTO_INCREMENT:
            pointer = memory[_POINTER]
            rolls = pointer in (0x45, 0xFF)
            memory[_POINTER] = 0 if rolls else pointer + 1

    def _write_register(self, register: int, value: int) -> None:
        memory = self.memory
        if register == MODE1:
            self._write_mode1(value)
        elif register == PRE_SCALE:
            if not memory[MODE1] & SLEEP:
                self.violations.append(("prescale written awake", value))
                return
            memory[register] = max(3, value)
        elif ALL_LED <= register < PRE_SCALE:
            kept = value & 0x1F if register & 1 else value
            for channel in range(CHANNELS):
                memory[LED0 + 4 * channel + register - ALL_LED] = kept
        elif LED0 <= register <= 0x45:
            memory[register] = value & 0x1F if register & 1 else value
        elif register <= 5:
            memory[register] = value
        else:
            self.violations.append(("reserved register written", register))
            return
        self.writes.append((register, value))

    def _write_mode1(self, value: int) -> None:
        memory = self.memory
        before = memory[MODE1]
        restart = before & RESTART
        new = (value & 0x3F) | (before & EXTCLK)
        if value & EXTCLK and before & SLEEP and value & SLEEP:
            new |= EXTCLK
        driven = any(
            not memory[LED0 + 4 * channel + 3] & FULL for channel in range(CHANNELS)
        )
        if not before & SLEEP and value & SLEEP and driven:
            restart = RESTART
            self.violations.append(("put to sleep while driving", value))
        if before & SLEEP and not value & SLEEP:
            self._woke_s = self._clock_s()
        if value & RESTART and restart:
            if value & SLEEP or self._clock_s() - self._woke_s < 500e-6:
                self.violations.append(("restart before 500 us", value))
            restart = 0
        memory[MODE1] = new | restart
