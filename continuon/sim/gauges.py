"""Battery gauges as registers: INA219 (TI SBOS448) and MAX17048 (Maxim 19-6171)."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Ina219Chip", "Max17048Chip"]


class _WordChip:
    """A chip of 16-bit big-endian registers at one address."""

    reset_words: dict[int, int]

    def __init__(self, address: int) -> None:
        self.address = address
        self._pointer = 0
        self._words = dict(self.reset_words)

    def addresses(self) -> frozenset[int]:
        """Return the one address that it answers."""
        return frozenset({self.address})

    def write(self, data: bytes) -> None:
        """Take a register pointer, and a word for it."""
        if data:
            self._pointer = data[0]
        if len(data) == 3:
            self._set(data[0], data[1] << 8 | data[2])

    def read(self, count: int) -> bytes:
        """Answer with the pointed-at word, over and over."""
        word = self._word(self._pointer) & 0xFFFF
        return (word.to_bytes(2, "big") * (count // 2 + 1))[:count]

    def stop(self) -> None:
        """Nothing latches here."""

    def software_reset(self) -> None:
        """Stay as it is: the general call is not theirs."""

    def power_on(self) -> None:
        """Take the reset values."""
        self._words = dict(self.reset_words)

    def _set(self, register: int, word: int) -> None:
        self._words[register] = word

    def _word(self, register: int) -> int:
        return self._words.get(register, 0)


class Ina219Chip(_WordChip):
    """Volts and amps, given as functions.

    Args:
        volts: bus voltage now.
        amps: current now, negative when discharging.
        address: by its jumpers.
        shunt_ohm: of the board.
    """

    reset_words = {0: 0x399F, 5: 0}  # noqa: RUF012

    def __init__(
        self,
        *,
        volts: Callable[[], float],
        amps: Callable[[], float],
        address: int = 0x41,
        shunt_ohm: float = 0.1,
    ) -> None:
        super().__init__(address)
        self.shunt_ohm = shunt_ohm
        self._volts, self._amps = volts, amps

    def _set(self, register: int, word: int) -> None:
        if register == 0 and word & 0x8000:
            self.power_on()
        elif register in (0, 5):
            self._words[register] = word

    def _word(self, register: int) -> int:
        if register == 1:
            # PGA / 8: the shunt voltage saturates at 320 mV.
            steps = round(self._amps() * self.shunt_ohm / 10e-6)
            return max(-32000, min(32000, steps))
        if register == 2:
            # The range ends at 32 V; bit 1 says that a conversion is ready.
            steps = max(0, min(8000, round(self._volts() / 4e-3)))
            return steps << 3 | 2
        return super()._word(register)


class Max17048Chip(_WordChip):
    """Volts and charge of a cell, given as functions.

    Args:
        cell_v: of one cell now.
        charge: 0..1 by the chip's own model, at times a little more.
    """

    reset_words = {0x08: 0x0011, 0x0C: 0x971C, 0x1A: 0x0100}  # noqa: RUF012

    def __init__(
        self, *, cell_v: Callable[[], float], charge: Callable[[], float]
    ) -> None:
        super().__init__(0x36)
        self._cell_v, self._charge = cell_v, charge

    def _set(self, register: int, word: int) -> None:
        if register == 0xFE and word == 0x5400:
            self.power_on()
        elif register in (0x0C, 0x1A):
            self._words[register] = word

    def _word(self, register: int) -> int:
        if register == 0x02:
            return round(self._cell_v() / 78.125e-6)
        if register == 0x04:
            return round(self._charge() * 25600)
        return super()._word(register)
