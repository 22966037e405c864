"""From a car's action in -1..1 to pulses in microseconds, by measured end points."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError

__all__ = [
    "CarCalibration",
    "ServoCalibration",
    "calibration_from_dict",
    "car_pulses_us",
]

# What servos and speed controllers take at all; outside, a pulse is a wiring mistake.
MIN_PULSE_US, MAX_PULSE_US = 500.0, 2500.0


@attrs.frozen(kw_only=True)
class ServoCalibration:
    """End points of one output.

    Attributes:
        channel: 0..15 on the servo board.
        negative_us: pulse at -1 (full left; full reverse).
        neutral_us: pulse at 0 (straight; standing).
        positive_us: pulse at +1 (full right; full forward). May be the smaller one.
    """

    channel: int
    negative_us: float = 1000.0
    neutral_us: float = 1500.0
    positive_us: float = 2000.0

    def __attrs_post_init__(self) -> None:
        """Refuse values that no servo takes.

        Raises:
            ContractError: a channel or pulse is out of range or out of order.
        """
        pulses = (self.negative_us, self.neutral_us, self.positive_us)
        ordered = sorted(pulses) in (list(pulses), list(pulses[::-1]))
        if not (
            0 <= self.channel <= 15
            and all(MIN_PULSE_US <= pulse <= MAX_PULSE_US for pulse in pulses)
            and len(set(pulses)) == 3
            and ordered
        ):
            raise ContractError(
                "E-RIG-CALIB-001",
                "a servo calibration makes no sense",
                where=f"channel {self.channel}",
                seen=pulses,
                allowed=f"three distinct ordered pulses in {MIN_PULSE_US:g}.."
                f"{MAX_PULSE_US:g} us on channels 0..15",
                hint="measure the end points again, wheels off the ground",
            )

    @property
    def limits_us(self) -> tuple[float, float]:
        """Smallest and largest pulse this output may ever get."""
        return (
            min(self.negative_us, self.positive_us),
            max(self.negative_us, self.positive_us),
        )

    def pulse_us(self, position: float) -> float:
        """Return the pulse for a position; beyond -1..1 the end points hold.

        Raises:
            ContractError: the position is not finite (it would pass every clamp).
        """
        if not math.isfinite(position):
            raise ContractError(
                "E-RIG-ACTION-001",
                "a command is not a finite number",
                where=f"channel {self.channel}",
                seen=position,
                allowed="-1..1",
                hint="hold the last safe command and look at what computed this one",
            )
        held = max(-1.0, min(1.0, position))
        end = self.positive_us if held > 0 else self.negative_us
        return self.neutral_us + abs(held) * (end - self.neutral_us)


@attrs.frozen(kw_only=True)
class CarCalibration:
    """What was measured on one car.

    Attributes:
        steering: output of the steering servo.
        throttle: output of the speed controller.
        oscillator_hz: the servo board's own oscillator (nominally 25 MHz, really 23 to
            27), from a measured pulse.
    """

    steering: ServoCalibration = ServoCalibration(channel=1)
    throttle: ServoCalibration = ServoCalibration(channel=0)
    oscillator_hz: float = 25_000_000.0

    @property
    def limits_us(self) -> dict[int, tuple[float, float]]:
        """Pulse limits by channel."""
        return {
            output.channel: output.limits_us
            for output in (self.throttle, self.steering)
        }


def car_pulses_us(
    action: Sequence[float] | NDArray[np.float32], calibration: CarCalibration
) -> dict[int, float]:
    """Return the pulse for each channel of a [steering, throttle] action.

    Raises:
        ContractError: the action has not two finite components.
    """
    if len(action) != 2:
        raise ContractError(
            "E-RIG-ACTION-002",
            "a car's action has not two components",
            seen=len(action),
            allowed="2: steering, throttle",
        )
    steering, throttle = (float(component) for component in action)
    return {
        calibration.throttle.channel: calibration.throttle.pulse_us(throttle),
        calibration.steering.channel: calibration.steering.pulse_us(steering),
    }


def calibration_from_dict(facts: dict[str, object]) -> CarCalibration:
    """Return the calibration written by `attrs.asdict`.

    Raises:
        ContractError: a field is missing, unknown or of the wrong type.
    """
    import msgspec

    try:
        return msgspec.convert(facts, CarCalibration)
    except msgspec.ValidationError as error:
        raise ContractError(
            "E-RIG-CALIB-002",
            f"a stored calibration does not fit: {error}",
            hint="calibrate again; the old file is not used",
        ) from error
