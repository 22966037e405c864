"""What drifts in the car's lives."""

from __future__ import annotations

import attrs

from continuon._specs.learn.drift_car import Drift

HOME = Drift(name="A")
OTHER = Drift(name="B", gain=0.75, trim=0.15)


def _life(drift: Drift) -> tuple[Drift, ...]:
    return HOME, drift, attrs.evolve(HOME, name="A again")


TUNING = (HOME, OTHER, attrs.evolve(HOME, name="A again"))
LIVES: dict[str, tuple[Drift, ...]] = {
    "steering gain 0.55": _life(Drift(name="weak", gain=0.55)),
    "steering gain 2.2": _life(Drift(name="strong", gain=2.2)),
    "steering reversed": _life(Drift(name="reversed", gain=-1.0)),
    "steering trim 0.35": _life(Drift(name="trim", trim=0.35)),
    "camera up 4 degrees": _life(Drift(name="up", tilt_deg=4.0)),
    "camera down 6 degrees": _life(Drift(name="down", tilt_deg=-6.0)),
    "actuator late: 100 ms": _life(Drift(name="late", delay=2)),
    "actuator late: 150 ms": _life(Drift(name="late", delay=3)),
    "actuator slow: 140 ms": _life(Drift(name="slow", slow=0.7)),
    "steering, A-B-A-B": tuple(
        Drift(name=f"{name}{turn}", gain=gain)
        for turn in (1, 2, 3)
        for name, gain in (("A", 1.0), ("B", 0.55))
    ),
}
"""Lives by name; see `draw_body` for what training holds: less of each, and no slow or
late actuator."""
