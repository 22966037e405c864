"""This library on the peers' workload."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from workload import (
    EPISODES,
    NUMBERS,
    STEPS,
    WINDOW,
    cpu_ms,
    pictures,
    steps,
    window_starts,
)

from continuon._specs.episode.drafts import legal_metadata
from continuon.rlds.episode import StreamSpec
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.tfds_write import convert
from continuon.rlds.validate import validate_recording
from continuon.rlds.windows import open_windows

NAMES = tuple(f"joint_{number}_rad" for number in range(NUMBERS))
STREAMS = (
    StreamSpec(name="rgb", codec="jpeg", rate_hz=30.0),
    StreamSpec(name="depth", codec="png16", rate_hz=30.0),
    StreamSpec(name="state", codec="vector", names=NAMES, rate_hz=30.0),
    StreamSpec(name="action", codec="vector", names=NAMES, rate_hz=30.0),
)


def measure(folder: Path) -> dict[str, float]:
    """Return CPU ms a step by what was done, and the bytes of a step."""
    pool, numbers = pictures(), itertools.count()

    def write() -> int:
        target = folder / f"log{next(numbers)}"
        for episode in range(EPISODES):
            metadata = legal_metadata(
                episode_id=f"e{episode}", start_wall_ns=episode + 1
            )
            with EpisodeRecorder(
                target, metadata, STREAMS, lossless_pacing=True
            ) as recorder:
                for at, colour, depth, state, action in steps(pool, episode):
                    recorder.rgb(colour, capture_ns=at)
                    recorder.depth(depth, capture_ns=at)
                    recorder.vector("state", state, capture_ns=at)
                    recorder.vector("action", action, capture_ns=at)
        return EPISODES * STEPS

    figures = {"write": cpu_ms(write)}
    log = folder / "log0"
    files = sorted(log.glob("*.mcap"))
    figures["bytes"] = sum(file.stat().st_size for file in files) / EPISODES / STEPS

    def convert_all() -> int:
        convert(log, folder / f"tfds{next(numbers)}")
        return EPISODES * STEPS

    def validate_all() -> int:
        assert all(validate_recording(file).figures for file in files)
        return EPISODES * STEPS

    figures["convert"] = cpu_ms(convert_all)
    figures["validate"] = cpu_ms(validate_all)
    convert(log, folder / "tfds")
    convert(log, folder / "raw", depth="raw")
    shards = list((folder / "raw").rglob("*.tfrecord-*"))
    figures["bytes, raw depth"] = (
        sum(f.stat().st_size for f in shards) / EPISODES / STEPS
    )
    for name, form, columns in (
        ("windows", "tfds", None),
        ("windows, raw depth", "raw", None),
        ("windows, colour", "tfds", ("observation/image", "action")),
        ("windows, numbers", "tfds", ("observation/state", "action")),
    ):
        source = open_windows(folder / form, length=WINDOW, columns=columns)
        places = [e * (STEPS - WINDOW + 1) + start for e, start in window_starts()]

        def read(source=source, places=places) -> int:
            for place in places:
                source[place]
            return len(places) * WINDOW

        figures[name] = cpu_ms(read)
    return figures


if __name__ == "__main__":
    from run import report

    report("continuon", measure, sys.argv)
