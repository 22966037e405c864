"""A servo and the supply that it shares with its board: slew, stall, brown-out.

Orders of magnitude of a standard hobby servo at 5 V: 60 degrees in 0.15 s, a dead band
of a few microseconds, 0.2 A moving and 1 to 2 A stalled. Not one measured servo.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import attrs

__all__ = ["Rail", "Servo", "ServoBench", "ServoModel"]


@attrs.frozen(kw_only=True)
class ServoModel:
    """What a servo does with a pulse.

    Attributes:
        centre_us, span_us: position 0 and the change to position +1.
        min_us, max_us: outside, the servo takes no pulse for one.
        slew_per_s: largest change of position.
        dead_band: a smaller difference moves nothing.
        idle_a, moving_a, stall_a: what it draws.
    """

    centre_us: float = 1500.0
    span_us: float = 500.0
    min_us: float = 800.0
    max_us: float = 2200.0
    slew_per_s: float = 6.0
    dead_band: float = 0.008
    idle_a: float = 0.01
    moving_a: float = 0.25
    stall_a: float = 1.6


@attrs.frozen(kw_only=True)
class Servo:
    """One servo at one instant.

    Attributes:
        position: -1..1.
        amps: what it draws.
    """

    position: float = 0.0
    amps: float = 0.0

    def step(
        self, model: ServoModel, pulse_us: float, *, dt_s: float, blocked: bool = False
    ) -> Servo:
        """Follow a pulse for a while; 0.0 or an impossible one lets go.

        Args:
            model: of this servo.
            pulse_us: what its input gets.
            dt_s: how long.
            blocked: something holds the horn.
        """
        if not model.min_us <= pulse_us <= model.max_us:
            return Servo(position=self.position, amps=0.0)
        target = max(-1.0, min(1.0, (pulse_us - model.centre_us) / model.span_us))
        apart = target - self.position
        if abs(apart) <= model.dead_band:
            return Servo(position=self.position, amps=model.idle_a)
        if blocked:
            return Servo(position=self.position, amps=model.stall_a)
        move = math.copysign(min(abs(apart), model.slew_per_s * dt_s), apart)
        return Servo(position=self.position + move, amps=model.moving_a)


@attrs.frozen(kw_only=True)
class Rail:
    """A supply with an inner resistance, and a chip that loses its mind when it sags.

    Attributes:
        open_v: without load.
        resistance_ohm: of cells, wires and regulator.
        brown_out_v: below, the chip is held in reset.
        recover_v: above, it leaves the reset with its power-on values.
        reset: whether the chip is held.
    """

    open_v: float = 5.1
    resistance_ohm: float = 0.35
    brown_out_v: float = 4.3
    recover_v: float = 4.6
    reset: bool = False

    def volts(self, amps: float) -> float:
        """Return the voltage under a load, never below zero."""
        return max(0.0, self.open_v - self.resistance_ohm * amps)

    def loaded(self, amps: float) -> Rail:
        """Return the rail under a load."""
        volts = self.volts(amps)
        limit = self.recover_v if self.reset else self.brown_out_v
        return attrs.evolve(self, reset=volts < limit)


@attrs.define(kw_only=True)
class ServoBench:
    """Servos on a board's outputs, all on one rail.

    Attributes:
        pulses_us: what the board's outputs do.
        power_on: gives the chip its power-on values.
        models: by channel.
        rail: the supply.
        blocked: channels whose horn is held.
        servos: by channel.
        brown_outs: how often the board lost its settings.
    """

    pulses_us: Callable[[], Mapping[int, float]]
    power_on: Callable[[], None]
    models: Mapping[int, ServoModel]
    rail: Rail = attrs.field(factory=Rail)
    blocked: Sequence[int] = ()
    servos: dict[int, Servo] = attrs.field(factory=dict)
    brown_outs: int = 0

    def step(self, dt_s: float) -> float:
        """Move everything on; return the rail's voltage."""
        pulses = self.pulses_us()
        for channel, model in self.models.items():
            servo = self.servos.get(channel, Servo())
            self.servos[channel] = servo.step(
                model,
                0.0 if self.rail.reset else pulses.get(channel, 0.0),
                dt_s=dt_s,
                blocked=channel in self.blocked,
            )
        amps = sum(servo.amps for servo in self.servos.values())
        rail = self.rail.loaded(amps)
        if rail.reset and not self.rail.reset:
            self.brown_outs += 1
            self.power_on()
        self.rail = rail
        return rail.volts(amps)
