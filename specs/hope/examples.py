"""Legal networks and observations for tests, and the named ways to break a config."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon import hope

# Level 0 of the compiler's optimiser: tests compile more than they compute.
QUICK = {"xla_backend_optimization_level": 0}

TINY = hope.HopeConfig(
    image_height=8,
    image_width=8,
    proprio=("speed_mps",),
    use_previous_action=True,
    d=16,
    layers=1,
    heads=2,
    head_size=8,
    mid_units=16,
    slow_hidden=16,
    slow_key=8,
    periods=(4, 8),
    chunk=4,
    latent=8,
    image_channels=(4, 4),
    motion_bands=2,
)

# every part that is off by default
RICH = attrs.evolve(
    TINY,
    action_chunk=3,
    instruction_size=8,
    depth_height=6,
    depth_width=8,
    unit_keys=True,
    action_levels=("throttle",),
    mid_turns=True,
)

# a codebook's tokens beside the other senses
TOLD = attrs.evolve(TINY, token_places=6, token_codes=5, codebook_id="ab" * 32)

# field, illegal value: each must be refused with that field's name
CONFIG_MUTATIONS = [
    ("d", 0),
    ("layers", 0),
    ("heads", -1),
    ("head_size", 0),
    ("chunk", 0),
    ("latent", 0),
    ("convolution_width", 1),
    ("image_width", 0),
    ("image_height", -1),
    ("image_channels", ()),
    ("image_channels", (8, 0)),
    ("motion_bands", -1),
    ("motion_bands", 9),
    ("action", ()),
    ("action", ("steering", "steering")),
    ("proprio", ("",)),
    ("periods", ()),
    ("periods", (6,)),
    ("periods", (8, 4)),
    ("periods", (8, 8)),
    ("action_levels", ("lift",)),
    ("action_levels", ("steering", "steering")),
    ("action_chunk", 0),
    ("instruction_size", -1),
    ("depth_width", 3),
    ("depth_height", -1),
    ("depth_limit_m", 0.0),
    ("depth_limit_m", float("nan")),
    ("token_places", 4),
    ("token_codes", -1),
    ("codebook_id", "ab" * 32),
]


@lru_cache
def sequence_of(config: hope.HopeConfig) -> Any:
    """Return `sequence` compiled once for each shape."""
    return jax.jit(
        lambda params, state, obs: hope.sequence(params, config, state, obs),
        compiler_options=QUICK,
    )


@lru_cache
def step_of(config: hope.HopeConfig) -> Any:
    """Return `step` compiled once for each shape."""
    return jax.jit(
        lambda params, state, obs: hope.step(params, config, state, obs),
        compiler_options=QUICK,
    )


def parameters(
    config: hope.HopeConfig, *, seed: int = 0, spread: float = 0.1, dtype: Any = None
) -> Any:
    """Return parameters of which none is at a special value."""
    rng = np.random.default_rng(seed)

    def moved(leaf: Any) -> Any:
        noise = spread * rng.standard_normal(leaf.shape)
        return jnp.asarray(np.asarray(leaf) + noise, dtype or leaf.dtype)

    params = hope.init(seed, config)
    free = {name: branch for name, branch in params.items() if name != "frozen"}
    frozen = jax.tree.map(lambda a: a.astype(dtype or a.dtype), params["frozen"])
    return {**jax.tree.map(moved, free), "frozen": frozen}


def observations(
    config: hope.HopeConfig,
    *,
    batch: int = 2,
    ticks: int = 16,
    seed: int = 0,
    scale: float = 1.0,
    dtype: Any = np.float32,
) -> dict[str, Any]:
    """Return observations [B, T, ...] with normal senses of the given scale."""
    rng = np.random.default_rng(seed)
    lead = (batch, ticks)
    made = {
        "image": rng.integers(0, 256, (*lead, *config.image_shape), np.uint8),
        "proprio": (scale * rng.standard_normal((*lead, len(config.proprio)))),
        "previous_action": rng.uniform(-scale, scale, (*lead, len(config.action))),
        "depth": rng.uniform(
            -1.0, 6.0, (*lead, config.depth_height, config.depth_width)
        ),
        "instruction": rng.uniform(-0.5, 0.5, (*lead, config.instruction_size)),
        "tokens": rng.integers(
            0, max(config.token_codes, 1), (*lead, config.token_places), np.int32
        ),
    }
    whole = ("image", "tokens")
    return {
        name: made[name] if name in whole else made[name].astype(dtype)
        for name in config.observation_names
    }


def run_steps(
    config: hope.HopeConfig, params: Any, state: Any, obs: dict[str, Any]
) -> tuple[Any, Any]:
    """Return the state and the stacked outputs of one `step` for each tick."""
    step, outputs = step_of(config), []
    for tick in range(next(iter(obs.values())).shape[1]):
        state, output = step(params, state, at(obs, tick))
        outputs.append(output)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves, 1), *outputs)


def at(obs: dict[str, Any], tick: int) -> dict[str, Any]:
    """Return one tick of observations [B, T, ...]."""
    return {name: value[:, tick] for name, value in obs.items()}


def between(obs: dict[str, Any], start: int, stop: int) -> dict[str, Any]:
    """Return some ticks of observations [B, T, ...]."""
    return {name: value[:, start:stop] for name, value in obs.items()}


def furthest(left: Any, right: Any) -> float:
    """Return the largest absolute difference of two equal trees."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return max(
        float(np.max(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64))))
        for a, b in pairs
    )
