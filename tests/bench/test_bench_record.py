"""Recording: our crash-safe recorder beside the `mcap` package's writer.

Both get the same compressed pictures and vectors and leave an uncompressed, chunked
file with CRCs that was brought to the disk.
"""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_metadata
from continuon.rlds.episode import StreamSpec
from continuon.rlds.images import encode_depth_png, encode_jpeg
from continuon.rlds.recorder import EpisodeRecorder
from continuon.sim.raycast import CameraModel, Renderer

FRAMES = 90
SIZE = f"640x480-rgbd-{FRAMES}"
STREAMS = (
    StreamSpec(name="rgb", codec="jpeg", clock="camera", rate_hz=30.0),
    StreamSpec(name="depth", codec="png16", clock="camera", rate_hz=30.0),
    StreamSpec(name="state", codec="vector", names=("speed_mps",), rate_hz=50.0),
    StreamSpec(name="action", codec="vector", names=("steering", "throttle")),
)


@pytest.fixture(scope="module")
def blobs():
    """Pictures of a drive, compressed once: (rgb, depth) of each of 10 places."""
    camera = Renderer(3, CameraModel(), seed=0)
    views = [camera.view((0.1 * i, 0.0, 0.0), sequence=i) for i in range(10)]
    return [(encode_jpeg(view.rgb), encode_depth_png(view.depth)) for view in views]


def samples(blobs):
    """Yield (time_ns, rgb, depth) for every frame."""
    for index, (rgb, depth) in zip(range(FRAMES), itertools.cycle(blobs), strict=False):
        yield 33_333_333 * index, rgb, depth


def ours(folder, blobs):
    recorder = EpisodeRecorder(folder, legal_metadata(), STREAMS, lossless_pacing=True)
    with recorder:
        for at, rgb, depth in samples(blobs):
            recorder.rgb(rgb, capture_ns=at)
            recorder.depth(depth, capture_ns=at)
            recorder.vector("state", [0.5], capture_ns=at)
            recorder.vector("action", [0.1, 0.2], capture_ns=at)
    return recorder.path.stat().st_size


def peer(folder, blobs):
    from mcap.writer import CompressionType, Writer

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "peer.mcap"
    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.NONE)
        writer.start()
        channels = [
            writer.register_channel(
                f"/{spec.name}", "", writer.register_schema(spec.name, "", b"")
            )
            for spec in STREAMS
        ]
        vectors = [np.float32([0.5]).tobytes(), np.float32([0.1, 0.2]).tobytes()]
        for at, *pictures in samples(blobs):
            for channel, data in zip(channels, (*pictures, *vectors), strict=True):
                writer.add_message(channel, at, data, at)
        writer.finish()
        file.flush()
        os.fsync(file.fileno())
    return path.stat().st_size


@pytest.mark.parametrize("case", ["ours", "mcap-package"])
def test_record(benchmark, tmp_path, blobs, case):
    benchmark.name, benchmark.group = f"record/{case}/{SIZE}", f"record/{SIZE}"
    write = ours if case == "ours" else peer
    numbers = itertools.count()

    def fresh():
        return (tmp_path / str(next(numbers)), blobs), {}

    size = benchmark.pedantic(write, setup=fresh, rounds=12, warmup_rounds=1)
    benchmark.extra_info["mib"] = round(size / 2**20, 1)
    payload = sum(len(rgb) + len(depth) for _, rgb, depth in samples(blobs))
    assert payload < size < 1.02 * payload
