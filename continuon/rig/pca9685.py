"""The PCA9685 16-channel PWM chip (NXP data sheet, rev. 4), as a servo driver.

The chip goes on driving its outputs when the host dies, so a stop is a write: full-off
on all channels. It is never put to sleep for a stop, because sleep cuts a pulse short
and speed controllers twitch at that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

import attrs

from continuon.errors import ContractError, HardwareError
from continuon.rig.i2c import I2cBus

__all__ = ["ChipFacts", "Pca9685Servos", "prescale_for"]

MODE1, LED0, ALL_LED, PRE_SCALE = 0x00, 0x06, 0xFA, 0xFE
RESTART, AUTO_INCREMENT, SLEEP = 0x80, 0x20, 0x10
FULL_OFF = 0x10
CHANNELS = 16
TICKS = 4096
# SUBADR1..3 and ALLCALLADR as they leave reset; no other chip at 0x40 reads so.
_ADDRESS_REGISTERS = bytes([0xE2, 0xE4, 0xE8, 0xE0])
_WAKE_S = 0.0006


@attrs.frozen(kw_only=True)
class ChipFacts:
    """What the registers said.

    Attributes:
        address: on the bus.
        mode1, prescale: as read.
        awake: whether the oscillator runs.
        frequency_hz: PWM rate by the calibrated oscillator.
    """

    address: int
    mode1: int
    prescale: int
    awake: bool
    frequency_hz: float


def prescale_for(frequency_hz: float, oscillator_hz: float) -> int:
    """Return round(oscillator / (4096 f)) - 1, section 7.3.5 of the data sheet.

    Raises:
        ContractError: the chip cannot make this frequency from this oscillator.
    """
    if not 23e6 <= oscillator_hz <= 27e6:
        raise ContractError(
            "E-RIG-PCA-004",
            "a servo board's oscillator is out of range",
            seen=oscillator_hz,
            allowed="23e6..27e6 Hz",
            hint="calibrate the board: measure one pulse and store the result",
        )
    if not 24.0 <= frequency_hz <= 333.0:
        raise ContractError(
            "E-RIG-PCA-005",
            "a servo frequency is out of range",
            seen=frequency_hz,
            allowed="24..333 Hz",
        )
    return max(3, min(255, round(oscillator_hz / (TICKS * frequency_hz)) - 1))


class Pca9685Servos:
    """Pulses by channel over one I2C bus.

    Args:
        bus: adapter number, device path, or an `I2cBus`.
        address: 0x40 to 0x7F.
        oscillator_hz: this board's own, measured.
        frequency_hz: of the pulses; analog servos like 50.
        limits_us: smallest and largest pulse by channel; a channel not named here is
            refused.
        sleep_s: waits for the oscillator to start.
    """

    def __init__(
        self,
        bus: int | str | I2cBus,
        *,
        limits_us: Mapping[int, tuple[float, float]],
        address: int = 0x40,
        oscillator_hz: float = 25_000_000.0,
        frequency_hz: float = 50.0,
        sleep_s: Callable[[float], None] = time.sleep,
    ) -> None:
        self.bus = bus if isinstance(bus, I2cBus) else I2cBus(bus)
        self.address = address
        self.oscillator_hz = oscillator_hz
        self.frequency_hz = frequency_hz
        self.limits_us = dict(limits_us)
        self._sleep_s = sleep_s
        self._ready = self._touched = False
        self._outputs = bytearray(_OFF * CHANNELS)

    def probe(self) -> ChipFacts:
        """Read who answers at the address, without changing anything.

        Raises:
            HardwareError: nobody answers, or not a PCA9685.
        """
        # Single reads, because auto-increment may be off.
        seen = bytes(
            self.bus.read(self.address, register, 1)[0] for register in range(2, 6)
        )
        mode1 = self.bus.read(self.address, MODE1, 1)[0]
        prescale = self.bus.read(self.address, PRE_SCALE, 1)[0]
        if seen != _ADDRESS_REGISTERS or prescale < 3:
            raise HardwareError(
                "E-RIG-PCA-001",
                "what answers here is not a PCA9685",
                where=f"{self.bus.path} address 0x{self.address:02x}",
                seen=f"registers 2..5 = {seen.hex(' ')}, PRE_SCALE = {prescale}",
                allowed=_ADDRESS_REGISTERS.hex(" "),
                hint="an INA219 battery gauge has the same default address: move one "
                "of them by its address jumper",
            )
        return ChipFacts(
            address=self.address,
            mode1=mode1,
            prescale=prescale,
            awake=not mode1 & SLEEP,
            frequency_hz=self.oscillator_hz / (TICKS * (prescale + 1)),
        )

    def open(self) -> ChipFacts:
        """Probe, stop all outputs, set the frequency and start the oscillator.

        Raises:
            HardwareError: the chip is absent or does not keep what is written.
        """
        facts = self.probe()
        wanted = prescale_for(self.frequency_hz, self.oscillator_hz)
        self._touched = True
        self._write(MODE1, bytes([facts.mode1 & SLEEP | AUTO_INCREMENT]))
        self._all_off()
        if facts.prescale != wanted:
            # PRE_SCALE is only writable asleep; every output is off by now.
            self._write(MODE1, bytes([AUTO_INCREMENT | SLEEP]))
            self._write(PRE_SCALE, bytes([wanted]))
        self._write(MODE1, bytes([AUTO_INCREMENT]))
        self._sleep_s(_WAKE_S)
        after = self.probe()
        if after.prescale != wanted or after.mode1 & 0x7F != AUTO_INCREMENT:
            raise HardwareError(
                "E-RIG-PCA-002",
                "the servo board does not keep what is written to it",
                where=f"{self.bus.path} address 0x{self.address:02x}",
                seen=f"MODE1 0x{after.mode1:02x}, PRE_SCALE {after.prescale}",
                allowed=f"MODE1 0x{AUTO_INCREMENT:02x}, PRE_SCALE {wanted}",
                hint="look for a weak 3.3 V supply or a second process on the bus",
            )
        self._ready = True
        return after

    def set_pulses_us(self, pulses_us: Mapping[int, float]) -> None:
        """Drive channels, in one write that takes effect at its end.

        MODE1 is read back within the same transfer, because a chip that lost its supply
        for a moment wakes up asleep, without auto-increment, and acknowledges writes
        that it then puts into one register.

        Raises:
            ContractError: a channel is unknown or a pulse outside its limits; nothing
                is written then.
            HardwareError: the bus failed, or the chip lost its settings and drives
                nothing; the next call sets it up again.
        """
        if not pulses_us:
            return
        self._check(pulses_us)
        if not self._ready:
            self.open()
        for channel, pulse_us in pulses_us.items():
            self._outputs[4 * channel : 4 * channel + 4] = self._on_off(pulse_us)
        first, last = min(pulses_us), max(pulses_us)
        block = bytes(self._outputs[4 * first : 4 * last + 4])
        mode1 = self.bus.write_and_read(
            self.address, LED0 + 4 * first, block, check=MODE1
        )
        if mode1 & 0x7F != AUTO_INCREMENT:
            self._ready = False
            self._all_off()
            raise HardwareError(
                "E-RIG-PCA-006",
                "the servo board lost its settings",
                where=f"{self.bus.path} address 0x{self.address:02x}",
                seen=f"MODE1 0x{mode1:02x}",
                allowed=f"0x{AUTO_INCREMENT:02x}",
                hint="its 3.3 V supply dropped (servos on the same supply, a loose "
                "wire), or another program set it up",
            )

    def read_pulses_us(self) -> Mapping[int, float]:
        """Read back what every channel puts out by its registers; 0.0 is off.

        Raises:
            HardwareError: the bus failed, or a channel is stuck at full on.
        """
        facts = self.probe()
        if facts.mode1 & AUTO_INCREMENT:
            raw = self.bus.read(self.address, LED0, 4 * CHANNELS)
        else:
            raw = bytes(
                self.bus.read(self.address, LED0 + index, 1)[0]
                for index in range(4 * CHANNELS)
            )
        tick_us = 1e6 * (facts.prescale + 1) / self.oscillator_hz
        return {
            channel: self._pulse_of(raw[4 * channel : 4 * channel + 4], tick_us)
            if facts.awake
            else 0.0
            for channel in range(CHANNELS)
        }

    def registered_us(self, pulse_us: float) -> float:
        """Return the pulse that the registers would hold for a wish: whole ticks."""
        on_off = self._on_off(pulse_us)
        prescale = prescale_for(self.frequency_hz, self.oscillator_hz)
        return self._pulse_of(on_off, 1e6 * (prescale + 1) / self.oscillator_hz)

    def full_off(self) -> None:
        """Stop every output and read back that it is stopped; never sleeps the chip.

        Raises:
            HardwareError: the bus failed or an output is still driven.
        """
        self._all_off()
        driven = {c: p for c, p in self.read_pulses_us().items() if p != 0.0}
        if driven:
            raise HardwareError(
                "E-RIG-PCA-003",
                "outputs are still driven after the stop",
                where=f"{self.bus.path} address 0x{self.address:02x}",
                seen=driven,
                allowed="every channel full off",
                hint="cut the servo supply by hand",
            )

    def close(self) -> None:
        """Stop every output and release the bus; may be called twice."""
        if self._touched:
            self._ready = self._touched = False
            try:
                self.full_off()
            finally:
                self.bus.close()

    def _all_off(self) -> None:
        self._write(ALL_LED + 3, bytes([FULL_OFF]))
        self._outputs[:] = _OFF * CHANNELS

    def _write(self, register: int, data: bytes) -> None:
        self.bus.write(self.address, register, data)

    def _check(self, pulses_us: Mapping[int, float]) -> None:
        for channel, pulse_us in pulses_us.items():
            limits = self.limits_us.get(channel)
            if limits is None or not limits[0] <= pulse_us <= limits[1]:
                raise ContractError(
                    "E-RIG-PULSE-001",
                    "a pulse is outside its channel's limits",
                    where=f"channel {channel}",
                    seen=pulse_us,
                    allowed="no such channel here"
                    if limits is None
                    else f"{limits[0]:g}..{limits[1]:g} us",
                )

    def _on_off(self, pulse_us: float) -> bytes:
        prescale = prescale_for(self.frequency_hz, self.oscillator_hz)
        ticks = round(pulse_us * self.oscillator_hz / (1e6 * (prescale + 1)))
        ticks = max(1, min(TICKS - 1, ticks))
        return bytes([0, 0, ticks & 0xFF, ticks >> 8])

    def _pulse_of(self, raw: bytes, tick_us: float) -> float:
        on_l, on_h, off_l, off_h = raw
        if off_h & FULL_OFF:
            return 0.0
        if on_h & FULL_OFF:
            return math.inf
        on, off = on_l | (on_h & 0x0F) << 8, off_l | (off_h & 0x0F) << 8
        return ((off - on) % TICKS) * tick_us


_OFF = bytes([0, 0, 0, FULL_OFF])
