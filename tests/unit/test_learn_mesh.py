from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("jax")

SCRIPT = """
import json, sys
import numpy as np
from continuon._specs.learn.examples import RECIPE, TINY, stripe_episodes
from continuon.errors import UsageError
from continuon.hope import preset
from continuon.hope.checkpoint import flatten
from continuon.learn.loop import run_steps
from continuon.learn.mesh import Placement, placement
from continuon.learn.update import make_update, start
from continuon.learn.windows import WindowSampler

config = preset("seed", image_height=8, image_width=12, **TINY)
sampler = WindowSampler(stripe_episodes(4), RECIPE, 0)
ends = []
for where in (Placement(None), placement(RECIPE.batch_size)):
    state, rows = run_steps(
        where.state(start(config, 0)), make_update(config, RECIPE, 3), sampler,
        until=2, place=where.batch,
    )
    ends.append((flatten(state.params), [row.loss for row in rows], where.devices))
try:
    placement(3)
    refused = ""
except UsageError as error:
    refused = error.code
(a, la, _), (b, lb, devices) = ends
error = max(float(np.abs(a[n] - b[n]).max()) for n in a)
print(json.dumps({"devices": devices, "error": error, "losses": [la, lb], "refused": refused}))
"""


@pytest.mark.slow
@pytest.mark.req("R-LEARN-17")
def test_two_devices_take_the_same_steps_as_one():
    flags = (
        "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    )
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["devices"] == 2
    assert told["error"] < 1e-4
    assert told["losses"][0] == pytest.approx(told["losses"][1], abs=1e-5)
    assert told["refused"] == "E-LEARN-MESH-001"
