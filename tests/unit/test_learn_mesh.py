from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax")

SCRIPT = """
import json
import attrs
import numpy as np
import jax
from continuon._specs.learn.examples import RECIPE, TINY, stripe_episodes
from continuon.errors import UsageError
from continuon.hope import preset
from continuon.hope.checkpoint import flatten
from continuon.learn.loop import run_steps
from continuon.learn.mesh import Placement, placement
from continuon.learn.update import as_leaves, as_vector, make_update, start
from continuon.learn.windows import WindowSampler

config = preset("seed", image_height=8, image_width=12, **{**TINY, "d": 64})
recipe = attrs.evolve(RECIPE, batch_size=8)
sampler = WindowSampler(stripe_episodes(4), recipe, 0)
places = [(Placement(None), as_vector), (placement(8, fsdp=4), as_leaves)]
ends = []
for where, pack in places:
    state = where.state(start(config, 0, pack=pack))
    update = make_update(config, recipe, 3, pack=pack, shardings=where.shardings(state))
    state, rows = run_steps(state, update, sampler, until=2, place=where.batch)
    held = [leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(state)]
    ends.append((flatten(where.whole(state.params)), [row.loss for row in rows], sum(held)))
refused = []
for batch, fsdp in ((12, 1), (8, 3), (8, 0)):
    try:
        placement(batch, fsdp=fsdp)
    except UsageError as error:
        refused.append(error.code)
one = ends[0][0]
print(json.dumps({
    "devices": jax.device_count(),
    "errors": [max(float(np.abs(one[n] - end[0][n]).max()) for n in one) for end in ends],
    "losses": [end[1] for end in ends],
    "bytes": [end[2] for end in ends],
    "refused": refused,
}))
"""


@pytest.mark.slow
@pytest.mark.req("R-LEARN-17")
def test_eight_devices_that_share_the_parameters_take_the_steps_of_one():
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["devices"] == 8
    assert max(told["errors"]) < 1e-4
    assert told["losses"][1] == pytest.approx(told["losses"][0], abs=1e-5)
    alone, sharded = told["bytes"]
    assert sharded < 0.7 * alone
    assert told["refused"] == [
        "E-LEARN-MESH-001",
        "E-LEARN-MESH-002",
        "E-LEARN-MESH-002",
    ]


@pytest.mark.slow
def test_the_recipe_says_in_what_precision_products_are_taken():
    import attrs

    from continuon._specs.learn.examples import RECIPE, TINY, stripe_episodes
    from continuon.hope import preset
    from continuon.learn.losses import knobs_of, parts
    from continuon.learn.update import _Kind, _masks, _moved, as_vector, start
    from continuon.learn.windows import WindowSampler

    config = preset("seed", image_height=8, image_width=12, **TINY)
    batch = WindowSampler(stripe_episodes(2), RECIPE, 0).batch(0)

    recipe = attrs.evolve(RECIPE, products="BF16_BF16_F32")
    kind = _Kind(config, 1, recipe.products, as_vector)
    state = start(config, 0)
    args = (state, _masks(state.params, as_vector), knobs_of(recipe, 3))
    lowered = jax.jit(_moved, static_argnums=0).lower(kind, *args, *parts(batch))
    text = lowered.as_text()
    dots = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    rounded = np.array(["bf16" in line for line in dots])
    assert rounded.any()
    assert not rounded.all(), "the fast memory's solve stays float32"
