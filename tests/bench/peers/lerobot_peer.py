"""LeRobot on the same workload.

This version has no 16-bit pictures. Depth is written twice over: left out, and as the
one lossless form it has, a column of uint16 arrays; only that one holds what we hold.
"""

from __future__ import annotations

import itertools
import os
import sys
from itertools import islice
from pathlib import Path

from workload import (
    EPISODES,
    HEIGHT,
    NUMBERS,
    RATE_HZ,
    STEPS,
    WIDTH,
    WINDOW,
    cpu_ms,
    pictures,
    steps,
    window_starts,
)

os.environ["HF_HUB_OFFLINE"] = "1"
SHORT = 60
"""Steps of an episode with depth: LeRobot keeps an episode's arrays in memory."""
NAMES = [f"joint_{number}" for number in range(NUMBERS)]
FEATURES = {
    "observation.images.rgb": {
        "dtype": "video",
        "shape": (HEIGHT, WIDTH, 3),
        "names": ["height", "width", "channels"],
    },
    "observation.state": {"dtype": "float32", "shape": (NUMBERS,), "names": NAMES},
    "action": {"dtype": "float32", "shape": (NUMBERS,), "names": NAMES},
}
DEPTH = {
    "observation.depth": {
        "dtype": "uint16",
        "shape": (HEIGHT, WIDTH),
        "names": ["height", "width"],
    }
}


def measure(folder: Path) -> dict[str, float]:
    """Return CPU ms a step by what was done, and the bytes of a step."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    pool, numbers = pictures(), itertools.count()

    def write(features: dict[str, object], count: int = STEPS) -> int:
        root = folder / f"lerobot{next(numbers)}"
        made = LeRobotDataset.create("peer/peer", RATE_HZ, features, root=root)
        for episode in range(EPISODES):
            for _, colour, depth, state, action in islice(steps(pool, episode), count):
                frame = {
                    "observation.images.rgb": colour,
                    "observation.state": state,
                    "action": action,
                    "task": "drive",
                }
                if "observation.depth" in features:
                    frame["observation.depth"] = depth
                made.add_frame(frame)
            made.save_episode()
        made.finalize()
        return EPISODES * count

    figures = {"write, no depth": cpu_ms(lambda: write(FEATURES), rounds=1)}
    root = folder / "lerobot0"
    files = [f for f in root.rglob("*") if f.is_file()]
    figures["bytes, no depth"] = sum(f.stat().st_size for f in files) / EPISODES / STEPS
    times = [step / RATE_HZ for step in range(WINDOW)]
    source = LeRobotDataset(
        "peer/peer",
        root=root,
        delta_timestamps={"observation.images.rgb": times, "action": times},
        video_backend="pyav",
    )

    def read() -> int:
        places = window_starts()
        for episode, start in places:
            window = source[episode * STEPS + start]
            assert len(window["observation.images.rgb"]) == WINDOW
        return len(places) * WINDOW

    figures["windows, colour"] = cpu_ms(read, rounds=2)
    figures["write"] = cpu_ms(lambda: write(FEATURES | DEPTH, SHORT), rounds=1)
    files = [f for f in (folder / "lerobot1").rglob("*") if f.is_file()]
    figures["bytes"] = sum(f.stat().st_size for f in files) / EPISODES / SHORT
    return figures


if __name__ == "__main__":
    from run import report

    report("lerobot", measure, sys.argv)
