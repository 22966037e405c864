"""HOPE, a GRU and an MLP without memory, behind one pair of functions each."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon import hope
from continuon.hope.adapter import ADAPTED

NAMES = ("hope", "gru", "mlp")
LAYERS = 2
"""Of the peers; with three a GRU of as many parameters is no better."""


class Model(NamedTuple):
    """A policy as functions of its parameters.

    init(seed) -> params; start(batch) -> state; step(params, state, senses [B, S],
    previous action [B, A]) -> state, action [B, A], the next senses as expected [B, S];
    sequence(params, senses [B, T, S], previous [B, T, A]) -> actions and expectations
    from a fresh state, T a multiple of 16; adapted: the projections that LoRA changes.
    """

    init: Callable[[int], Any]
    start: Callable[[int], Any]
    step: Callable[[Any, Any, Any, Any], tuple[Any, Any, Any]]
    sequence: Callable[[Any, Any, Any], tuple[Any, Any]]
    adapted: tuple[str, ...]


def hope_config(proprio: tuple[str, ...], action: tuple[str, ...]) -> hope.HopeConfig:
    """Return a small HOPE without a picture: three layers of one Slow level each."""
    config = hope.preset(
        "seed",
        image_height=0,
        image_width=0,
        proprio=proprio,
        action=action,
        use_previous_action=True,
        layers=3,
        periods=(64,),
        slow_hidden=32,
    )
    # the frozen target is the senses themselves, so that all models are asked for the
    # same
    return attrs.evolve(config, latent=len(proprio))


def hope_model(config: hope.HopeConfig) -> Model:
    """Return HOPE; its world model tells the next senses."""

    def observed(senses: Any, previous: Any) -> dict[str, Any]:
        return {"proprio": senses, "previous_action": previous}

    def init(seed: int) -> Any:
        eye = jnp.eye(len(config.proprio))
        return {**hope.init(seed, config), "frozen": {"projection": eye}}

    def step(params: Any, state: Any, senses: Any, previous: Any) -> Any:
        state, out = hope.step(params, config, state, observed(senses, previous))
        return state, out.action, out.prediction

    def sequence(params: Any, senses: Any, previous: Any) -> Any:
        state = hope.init_state(config, senses.shape[0])
        obs = observed(senses, previous)
        out = hope.sequence(params, config, state, obs)[1]
        return out.action, out.prediction

    def start(batch: int) -> Any:
        return hope.init_state(config, batch)

    return Model(init, start, step, sequence, ADAPTED)


def plain_model(width: int, senses: int, actions: int, *, recurrent: bool) -> Model:
    """Return `LAYERS` residual layers, each an MLP behind a GRU cell or behind nothing.

    The GRU is that of Cho et al. (2014); the MLP behind it is twice as wide.
    """

    def init(seed: int) -> Any:
        rng = np.random.default_rng(seed)

        def dense(rows: int, columns: int, gain: float = 1.0) -> Any:
            values = rng.standard_normal((rows, columns)) * gain / math.sqrt(rows)
            return jnp.asarray(values, jnp.float32)

        blocks = {}
        for index in range(LAYERS):
            block = {
                "up": dense(width, 2 * width),
                "down": dense(2 * width, width, 0.5),
            }
            if recurrent:
                block |= {
                    "inputs": dense(width, 3 * width),
                    "own": dense(width, 3 * width),
                    "bias": jnp.zeros(3 * width),
                }
            blocks[str(index)] = block
        heads = {
            "action": dense(width, actions, 0.5),
            "ahead": dense(width, senses, 0.1),
        }
        entry = dense(senses + actions, width)
        return {"entry": entry, "blocks": blocks, "heads": heads}

    def start(batch: int) -> Any:
        return [jnp.zeros((batch, width if recurrent else 0)) for _ in range(LAYERS)]

    def step(params: Any, state: Any, now: Any, previous: Any) -> Any:
        x, after = jnp.concatenate([now, previous], -1) @ params["entry"], []
        for index, held in enumerate(state):
            block, hidden = params["blocks"][str(index)], held
            if recurrent:
                keep, reset, new = jnp.split(x @ block["inputs"], 3, -1)
                own = jnp.split(held @ block["own"] + block["bias"], 3, -1)
                keep = jax.nn.sigmoid(keep + own[0])
                fresh = jnp.tanh(new + jax.nn.sigmoid(reset + own[1]) * own[2])
                hidden = (1.0 - keep) * fresh + keep * held
                x = x + hidden
            after.append(hidden)
            x = x + jax.nn.silu(x @ block["up"]) @ block["down"]
        heads = params["heads"]
        return after, jnp.tanh(x @ heads["action"]), x @ heads["ahead"]

    def sequence(params: Any, seen: Any, previous: Any) -> Any:
        def tick(state: Any, now: Any) -> Any:
            state, action, ahead = step(params, state, *now)
            return state, (action, ahead)

        now = (jnp.moveaxis(seen, 1, 0), jnp.moveaxis(previous, 1, 0))
        rows = jax.lax.scan(tick, start(seen.shape[0]), now)[1]
        return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 1), rows)

    cell = ("blocks/*/inputs",) if recurrent else ()
    adapted = (*cell, "blocks/*/up", "blocks/*/down", "heads/action")
    return Model(init, start, step, sequence, adapted)


def scalars(params: Any) -> int:
    """Return how many numbers are trained."""
    held = {name: part for name, part in params.items() if name != "frozen"}
    return sum(leaf.size for leaf in jax.tree.leaves(held))


@functools.lru_cache
def make_model(name: str, proprio: tuple[str, ...], action: tuple[str, ...]) -> Model:
    """Return a model of `NAMES`; the others have as many parameters as HOPE."""
    ours = hope_model(hope_config(proprio, action))
    if name == "hope":
        return ours
    count, recurrent = scalars(ours.init(0)), name == "gru"

    def of(width: int) -> Model:
        return plain_model(width, len(proprio), len(action), recurrent=recurrent)

    def off(width: int) -> int:
        return abs(scalars(of(width).init(0)) - count)

    return of(min(range(8, 160, 2), key=off))
