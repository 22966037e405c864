"""One step of a compiled policy: LiteRT beside numpy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("litert_converter")

from continuon import edge, hope
from continuon._specs.edge.examples import CONFIG, compile_from


@pytest.fixture(scope="module", params=["tiny", "nano"])
def policy(request):
    """Return (name, folder) of a policy with moved weights."""
    if request.param == "tiny":
        config = CONFIG
    else:
        config = hope.preset("nano", proprio=("speed_mps",))
    return request.param, compile_from(config).artifacts[0].path.parent


@pytest.mark.parametrize("backend", ["litert", "numpy"])
def test_step(benchmark, policy, backend):
    name, folder = policy
    loaded = edge.load_policy(folder, backend=backend)
    spec = loaded.spec
    size = f"{name}-{spec.image_width}x{spec.image_height}"
    benchmark.name, benchmark.group = f"step/{backend}/{size}", f"step/{size}"
    shape = (spec.image_height, spec.image_width, 3)
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    proprio = np.zeros(len(spec.proprio), np.float32)
    output = benchmark(loaded.step, image, proprio)
    assert np.isfinite(output.action).all()
