"""Smooth pushes on the steering, so that recordings hold recoveries.

The push acts in the plant, between the servo command and the servo: what is commanded
and recorded stays the driver's intention.
"""

from __future__ import annotations

import math

import attrs
import numpy as np

__all__ = ["Disturbance"]

_KNOTS = 1024


@attrs.define
class Disturbance:
    """Value noise over time with quiet spells, a pure function of seed and time.

    Attributes:
        seed: equal seeds push equally.
        amplitude: largest push in steering units (0 is none).
        period_s: between the knots of the noise.
    """

    seed: int
    amplitude: float = 0.0
    period_s: float = 0.55
    _knots: tuple[float, ...] = attrs.field(init=False, repr=False, default=())

    def steering_at(self, time_s: float) -> float:
        """Return the push at a time, in steering units."""
        if self.amplitude == 0.0:
            return 0.0
        if not self._knots:
            rng = np.random.default_rng([self.seed, 0xD15])
            loud = rng.random(_KNOTS) < 0.45
            self._knots = tuple((rng.uniform(-1.0, 1.0, _KNOTS) * loud).tolist())
        place = max(0.0, time_s) / self.period_s
        index = int(place)
        part = 0.5 - 0.5 * math.cos(math.pi * (place - index))
        before = self._knots[index % _KNOTS]
        after = self._knots[(index + 1) % _KNOTS]
        return self.amplitude * (before + part * (after - before))
