"""Recorded frames as a live camera, for a policy that has no world to drive in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from continuon.clock import SystemClock
from continuon.rlds.images import decode_colour
from continuon.rlds.steps import read_steps
from continuon.sim.replay import ReplayRig

__all__ = ["replay_rig"]


def replay_rig(
    path: str, episode_ids: Sequence[str], *, loop: bool = True
) -> ReplayRig:
    """Return a rig in real time that shows the frames of these episodes in order.

    Episodes are joined at their own rate: between two of them lies one median gap.
    """
    frames: list[tuple[int, bytes]] = []
    for steps in read_steps(Path(path)):
        if steps.metadata.episode_id not in episode_ids:
            continue
        stamps = [int(stamp) for stamp in steps.stamp_ns]
        gaps = sorted(b - a for a, b in pairwise(stamps))
        start = frames[-1][0] + gaps[len(gaps) // 2] if frames else 0
        for stamp, image in zip(stamps, steps.image, strict=True):
            at_ns = start + stamp - stamps[0]
            if not frames or at_ns > frames[-1][0]:
                frames.append((at_ns, bytes(image)))
    return ReplayRig(frames, decode_colour, clock=SystemClock(), loop=loop)
