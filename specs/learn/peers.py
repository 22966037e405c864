"""HOPE and its peers, of as many parameters, behind one interface.

Every peer is the same residual stack, `x + mix(norm x)` then `x + mlp(norm x)`, and
differs in what mixes over time: a GRU (Cho et al., 2014), an LSTM (Hochreiter &
Schmidhuber, 1997), causal attention with sine positions (Vaswani et al., 2017; the
decoder of ACT without its images), a diagonal state space that does not look at its
input (S5: Smith et al., 2023, in its complex diagonal form), and the RG-LRU of Griffin
(De et al., 2024), whose decay does. Their width is chosen to meet HOPE's parameters.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from continuon import hope

__all__ = [
    "MIXERS",
    "Peer",
    "hope_peer",
    "nearest_width",
    "peers",
    "scalars",
    "stack_peer",
]

WIDTHS = range(16, 256, 2)
HEADS = 2


class Peer(NamedTuple):
    """Fresh parameters by seed; [B, T, outputs] in [-1, 1] from [B, T, inputs]."""

    init: Callable[[int], Any]
    run: Callable[[Any, Any], Any]


class Mixer(NamedTuple):
    """Fresh parameters from a draw and a width; x [B, T, width] to the same."""

    init: Callable[[Any, int], Any]
    mix: Callable[[Any, Any], Any]


def dense(rng: Any, rows: int, columns: int, gain: float = 1.0) -> Any:
    """Return normal weights scaled by the fan-in."""
    values = rng.standard_normal((rows, columns)) * gain / math.sqrt(rows)
    return jnp.asarray(values, jnp.float32)


def _over_time(tick: Any, start: Any, given: Any) -> Any:
    rows = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), given)
    return jnp.moveaxis(jax.lax.scan(tick, start, rows)[1], 0, 1)


def _gru(params: Any, x: Any) -> Any:
    def tick(state: Any, now: Any) -> Any:
        reset, keep, new = jnp.split(now, 3, -1)
        own = jnp.split(state @ params["h"], 3, -1)
        keep = jax.nn.sigmoid(keep + own[1])
        fresh = jnp.tanh(new + jax.nn.sigmoid(reset + own[0]) * own[2])
        state = keep * state + (1.0 - keep) * fresh
        return state, state

    given = x @ params["x"] + params["bias"]
    return _over_time(tick, jnp.zeros_like(x[:, 0]), given)


def _lstm(params: Any, x: Any) -> Any:
    def tick(state: Any, now: Any) -> Any:
        hidden, cell = state
        take, keep, new, show = jnp.split(now + hidden @ params["h"], 4, -1)
        cell = jax.nn.sigmoid(keep + 1.0) * cell + jax.nn.sigmoid(take) * jnp.tanh(new)
        hidden = jax.nn.sigmoid(show) * jnp.tanh(cell)
        return (hidden, cell), hidden

    zero = jnp.zeros_like(x[:, 0])
    return _over_time(tick, (zero, zero), x @ params["x"] + params["bias"])


def _gated(count: int) -> Callable[[Any, int], Any]:
    def init(rng: Any, width: int) -> Any:
        return {
            "x": dense(rng, width, count * width),
            "h": dense(rng, width, count * width),
            "bias": jnp.zeros(count * width),
        }

    return init


def _attention(params: Any, x: Any) -> Any:
    rows, ticks, width = x.shape
    qkv = (x @ params["qkv"]).reshape(rows, ticks, 3, HEADS, width // HEADS)
    query, key, value = jnp.moveaxis(qkv, 2, 0)
    score = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(width // HEADS)
    past = np.tril(np.ones((ticks, ticks), bool))
    weight = jax.nn.softmax(jnp.where(past, score, -1e9), -1)
    read = jnp.einsum("bhqk,bkhd->bqhd", weight, value)
    return read.reshape(rows, ticks, width) @ params["mix"]


def _attention_init(rng: Any, width: int) -> Any:
    return {"qkv": dense(rng, width, 3 * width), "mix": dense(rng, width, width, 0.5)}


def _ssm(params: Any, x: Any) -> Any:
    """Return Re(C h), h = a e^(i turn) h + B x, with a and turn fixed parameters."""
    decay = jnp.exp(-jax.nn.softplus(params["decay"]))
    real, imaginary = decay * jnp.cos(params["turn"]), decay * jnp.sin(params["turn"])
    drive = x @ params["in"] * jnp.tile(jnp.sqrt(1.0 - decay**2), 2)

    def tick(state: Any, now: Any) -> Any:
        left, right = jnp.split(state, 2, -1)
        state = now + jnp.concatenate(
            [real * left - imaginary * right, imaginary * left + real * right], -1
        )
        return state, state

    states = _over_time(tick, jnp.zeros_like(drive[:, 0]), drive)
    return jax.nn.gelu(x @ params["gate"]) * (states @ params["out"])


def _ssm_init(rng: Any, width: int) -> Any:
    keep = -np.log(np.linspace(0.9, 0.999, width))
    return {
        "in": dense(rng, width, 2 * width),
        "out": dense(rng, 2 * width, width, 0.5),
        "gate": dense(rng, width, width),
        "decay": jnp.asarray(np.log(np.expm1(keep)), jnp.float32),
        "turn": jnp.asarray(rng.uniform(0.0, math.pi, width), jnp.float32),
    }


def _rg_lru(params: Any, x: Any) -> Any:
    inputs, gate = jnp.split(x @ params["in"], 2, -1)
    recur, take = jnp.split(jax.nn.sigmoid(inputs @ params["gates"]), 2, -1)
    log_keep = -8.0 * jax.nn.softplus(params["decay"]) * recur - 1e-5
    drive = jnp.sqrt(-jnp.expm1(2.0 * log_keep)) * take * inputs

    def tick(state: Any, now: Any) -> Any:
        state = now[0] * state + now[1]
        return state, state

    start = jnp.zeros_like(drive[:, 0])
    states = _over_time(tick, start, (jnp.exp(log_keep), drive))
    return (states * jax.nn.gelu(gate)) @ params["out"]


def _rg_lru_init(rng: Any, width: int) -> Any:
    keep = -np.log(np.linspace(0.9, 0.999, width)) / 8.0
    return {
        "in": dense(rng, width, 2 * width),
        "gates": dense(rng, width, 2 * width, 0.5),
        "out": dense(rng, width, width, 0.5),
        "decay": jnp.asarray(np.log(np.expm1(keep)), jnp.float32),
    }


MIXERS = {
    "gru": Mixer(_gated(3), _gru),
    "lstm": Mixer(_gated(4), _lstm),
    "attention": Mixer(_attention_init, _attention),
    "ssm": Mixer(_ssm_init, _ssm),
    "rg_lru": Mixer(_rg_lru_init, _rg_lru),
}


def _normed(x: Any) -> Any:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def stack_peer(name: str, inputs: int, outputs: int, width: int, layers: int) -> Peer:
    """Return a peer of `MIXERS` with that width."""
    mixer = MIXERS[name]

    def init(seed: int) -> Any:
        rng = np.random.default_rng(seed)
        layer = lambda: {  # noqa: E731
            "mixer": mixer.init(rng, width),
            "up": dense(rng, width, 2 * width),
            "down": dense(rng, 2 * width, width, 0.5),
        }
        return {
            "in": dense(rng, inputs, width),
            "layers": [layer() for _ in range(layers)],
            "out": dense(rng, width, outputs),
        }

    def run(params: Any, x: Any) -> Any:
        x = x @ params["in"]
        if name == "attention":
            rate = 100.0 ** (-np.arange(width // 2) / (width // 2))
            angle = np.arange(x.shape[1])[:, None] * rate
            x = x + np.concatenate([np.sin(angle), np.cos(angle)], -1)
        for held in params["layers"]:
            x = x + mixer.mix(held["mixer"], _normed(x))
            x = x + jax.nn.silu(_normed(x) @ held["up"]) @ held["down"]
        return jnp.tanh(_normed(x) @ params["out"])

    return Peer(init, run)


def hope_peer(
    inputs: int, outputs: int, *, past_taps: float = 0.0, **changes: Any
) -> Peer:
    """Return a HOPE of preset `seed` without eyes, whose actions are the outputs.

    `changes` are config fields, `past_taps` is how its parameters start. Unless they
    say so there are no online writes: those are about a world model, which a task of
    tokens does not have.
    """
    values = {
        "image_height": 0,
        "image_width": 0,
        "proprio": tuple(f"x{index}" for index in range(inputs)),
        "action": tuple(f"y{index}" for index in range(outputs)),
        "online": False,
        **changes,
    }
    config = hope.preset("seed", **values)

    def run(params: Any, x: Any) -> Any:
        state, obs = hope.init_state(config, x.shape[0]), {"proprio": x}
        return hope.sequence(params, config, state, obs, remat=False)[1].action

    return Peer(lambda seed: hope.init(seed, config, past_taps=past_taps), run)


def scalars(params: Any) -> int:
    """Return the number of trained parameters."""
    free = {name: branch for name, branch in params.items() if name != "frozen"}
    return sum(leaf.size for leaf in jax.tree.leaves(free))


def nearest_width(size: Callable[[int], int], wanted: int) -> int:
    """Return the width whose size, which grows with it, is nearest to the wanted."""
    above = bisect_left(WIDTHS, wanted, lo=1, hi=len(WIDTHS) - 1, key=size)
    near = WIDTHS[above - 1 : above + 1]
    return min(near, key=lambda width: abs(size(width) - wanted))


def peers(
    inputs: int,
    outputs: int,
    *,
    layers: int = 1,
    peer_layers: int = 0,
    **changes: Any,
) -> dict[str, Peer]:
    """Return HOPE and, as near to its parameters as a width comes, each peer.

    The peers have as many layers as HOPE, unless `peer_layers` says how many.
    """
    made = {"hope": hope_peer(inputs, outputs, layers=layers, **changes)}
    count = scalars(made["hope"].init(0))
    deep = peer_layers or layers
    for name in MIXERS:

        def size(width: int, name: str = name) -> int:
            peer = stack_peer(name, inputs, outputs, width, deep)
            return scalars(jax.eval_shape(lambda: peer.init(0)))

        width = nearest_width(size, count)
        made[name] = stack_peer(name, inputs, outputs, width, deep)
    return made
