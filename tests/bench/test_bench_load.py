"""Loading windows: beside decoding their pictures alone, which is the floor.

Random windows of 32 steps from a TFDS directory: pictures and numbers, colour alone,
numbers alone. The floor decodes the same pictures from memory, one after the other.
"""

from __future__ import annotations

import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_metadata
from continuon.rlds.episode import StreamSpec
from continuon.rlds.images import decode_depth_png, decode_jpeg
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.steps import read_steps
from continuon.rlds.tfds_write import convert
from continuon.rlds.windows import open_windows
from continuon.sim.raycast import CameraModel, Renderer

STEPS, WINDOW = 96, 32
STREAMS = (
    StreamSpec(name="rgb", codec="jpeg", clock="camera", rate_hz=30.0),
    StreamSpec(name="depth", codec="png16", clock="camera", rate_hz=30.0),
    StreamSpec(name="state", codec="vector", names=("speed_mps",), rate_hz=30.0),
    StreamSpec(name="action", codec="vector", names=("steering", "throttle")),
)
CASES = {
    "rgbd": ("observation/image", "observation/depth", "observation/state", "action"),
    "rgb": ("observation/image", "action"),
    "numbers": ("observation/state", "action"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two drives of 96 steps, as recordings and converted."""
    folder = tmp_path_factory.mktemp("load")
    camera = Renderer(3, CameraModel(), seed=0)
    views = [camera.view((0.1 * i, 0.0, 0.0), sequence=i) for i in range(12)]
    for name in ("a", "b"):
        metadata = legal_metadata(episode_id=name)
        with EpisodeRecorder(
            folder / "log", metadata, STREAMS, lossless_pacing=True
        ) as recorder:
            for step in range(STEPS):
                at, view = 33_333_333 * step, views[step % 12]
                recorder.rgb(view.rgb, capture_ns=at)
                recorder.depth(view.depth, capture_ns=at)
                recorder.vector("state", [0.5], capture_ns=at)
                recorder.vector("action", [0.1, 0.2], capture_ns=at)
    convert(folder / "log", folder / "tfds")
    return folder


@pytest.mark.parametrize("case", CASES)
def test_windows(benchmark, data, case):
    benchmark.name = f"windows/{case}/{WINDOW}"
    benchmark.group = f"windows/{WINDOW}"
    source = open_windows(data / "tfds", length=WINDOW, columns=CASES[case])
    rng = np.random.default_rng(0)
    window = benchmark(lambda: source[rng.integers(len(source))])
    assert len(window["action"]) == WINDOW


@pytest.mark.parametrize("case", ["rgbd", "rgb"])
def test_the_floor(benchmark, data, case):
    benchmark.name = f"windows/floor-{case}/{WINDOW}"
    benchmark.group = f"windows/{WINDOW}"
    steps = next(read_steps(data / "log"))
    colour, depth = list(steps.image)[:WINDOW], list(steps.depth)[:WINDOW]

    def decode():
        pictures = [decode_jpeg(blob) for blob in colour]
        if case == "rgbd":
            pictures += [decode_depth_png(blob) for blob in depth]
        return pictures

    assert len(benchmark(decode)) >= WINDOW


def test_convert(benchmark, data, tmp_path):
    benchmark.name = f"convert/repackage-and-read-back/{2 * STEPS}"
    benchmark.group = "convert"
    numbers = iter(range(1000))
    report = benchmark.pedantic(
        lambda: convert(data / "log", tmp_path / str(next(numbers))), rounds=8
    )
    assert report.steps == 2 * STEPS
