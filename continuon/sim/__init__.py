"""A robot on the desk: chips, plant, world and cameras behind the rig protocols."""

from __future__ import annotations

from continuon.sim.disturbance import Disturbance
from continuon.sim.drive import Drive, drive
from continuon.sim.expert import Expert
from continuon.sim.rig import SimRig
from continuon.sim.track import Track, make_track
from continuon.sim.world import Start, World

__all__ = [
    "Disturbance",
    "Drive",
    "Expert",
    "SimRig",
    "Start",
    "Track",
    "World",
    "drive",
    "make_track",
]
