"""One simulated RGB-D frame beside its limit: copying that many bytes with numpy."""

from __future__ import annotations

import numpy as np
import pytest

from continuon.sim.raycast import CameraModel, Renderer

SIZE = "640x480-rgbd"


@pytest.fixture(scope="module")
def camera():
    camera = Renderer(3, CameraModel(), seed=0)
    camera.prepare()
    return camera


@pytest.mark.parametrize("case", ["ours", "memcpy-limit"])
def test_frame(benchmark, camera, case):
    benchmark.name, benchmark.group = f"frame/{case}/{SIZE}", f"frame/{SIZE}"
    view = camera.view((0.0, 0.0, 0.0), sequence=0)
    assert view.rgb.nbytes + view.depth.nbytes == 640 * 480 * 5
    if case == "ours":
        count = iter(range(1 << 30))

        def draw():
            index = next(count)
            return camera.view((0.01 * (index % 100), 0.0, 0.0), sequence=index)

        benchmark(draw)
    else:
        rgb, depth = np.empty_like(view.rgb), np.empty_like(view.depth)

        def copy():
            np.copyto(rgb, view.rgb)
            np.copyto(depth, view.depth)

        benchmark(copy)
