"""What a policy is held against: networks of its size behind the same eyes. Uses JAX.

`gru` carries a state (Cho et al., 2014, arXiv 1406.1078). `act` is the decoder of ACT
(Zhao et al., 2023, arXiv 2304.13705): causal attention over the last ticks and nothing
before them. Each is a residual stack behind HOPE's own encoder and sensed motion, its
width chosen so that it has as many parameters as the policy.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon.errors import UsageError
from continuon.hope import HopeConfig, init
from continuon.hope.bend import bent
from continuon.hope.encoder import encode, frame_of
from continuon.hope.motion import motion_of
from continuon.learn.line import Line

__all__ = ["PEERS", "Peer", "beside_line", "check_peers", "peer_of", "scalars"]

PEERS = ("gru", "act")
LAYERS = 2
_HEADS = 2
_WIDTHS = range(8, 512, 2)


class Peer(NamedTuple):
    """One network, as pure functions of its parameters.

    Attributes:
        init: fresh parameters from a seed.
        sense: [B, T, d] from parameters, observations [B, T, ...] by name, and bool
            [B, T], whether a tick comes right after the one before it.
        decide: actions [B, T, A] in [-1, 1] from parameters and what was sensed; not
            drawn to levels.
        carries: whether it has a state from the start of an episode; if not, it knows
            the ticks that it is given and nothing before them.
    """

    init: Callable[[int], Any]
    sense: Callable[[Any, Any, Any], Any]
    decide: Callable[[Any, Any], Any]
    carries: bool


def scalars(params: Any) -> int:
    """Return the number of trained parameters; shapes are enough."""
    free = {name: branch for name, branch in params.items() if name != "frozen"}
    return sum(math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(free))


def check_peers(names: Sequence[str], *, hosts: int = 1) -> None:
    """Check that peers are known and can be trained here, before hours are spent.

    Raises:
        UsageError: E-LEARN-PEER-001, there is no such peer; -003, there are many
            hosts, of which each holds a part of the episodes.
    """
    unknown = sorted(set(names) - set(PEERS))
    if unknown:
        raise UsageError(
            "E-LEARN-PEER-001",
            "there is no such network to compare a policy with",
            seen=", ".join(unknown),
            allowed=", ".join(PEERS),
            hint="ask for one of these, or leave --peers out",
        )
    if hosts > 1:
        raise UsageError(
            "E-LEARN-PEER-003",
            "networks to compare with are trained on one host",
            seen=f"{hosts} hosts",
            hint="train without them, then `continuon evaluate --peers` on one host",
        )


def peer_of(config: HopeConfig, name: str) -> Peer:
    """Return a peer that sees what a policy sees, as near to its size as can be.

    A previous action is not fed to it, and it tells one action a tick.

    Raises:
        UsageError: E-LEARN-PEER-001, there is no such peer.
    """
    check_peers((name,))
    wanted = scalars(init(0, config))
    eyes = attrs.evolve(config, use_previous_action=False)
    encoder = init(0, eyes)["encoder"]
    own = scalars({"encoder": encoder})

    def size(width: int) -> int:
        return own + scalars(_core(np.random.default_rng(0), eyes, name, width))

    above = bisect_left(_WIDTHS, wanted, lo=1, hi=len(_WIDTHS) - 1, key=size)
    near = _WIDTHS[above - 1 : above + 1]
    width = min(near, key=lambda width: abs(size(width) - wanted))

    def fresh(seed: int) -> Any:
        return {
            "encoder": init(seed, eyes)["encoder"],
            "core": _core(np.random.default_rng([seed, 1]), eyes, name, width),
        }

    def sense(params: Any, obs: Any, follows: Any) -> Any:
        return encode(params, eyes, obs, _motion(params, eyes, obs, follows))

    def decide(params: Any, x: Any) -> Any:
        return bent(eyes, _decide(params["core"], _MIXERS[name], x))

    return Peer(fresh, sense, decide, name == "gru")


def beside_line(peer: Peer, config: HopeConfig, line: Line) -> Peer:
    """Return the peer telling what is to be added to a line, at first nothing.

    Its `config` is that of a policy which starts on such a line.
    """
    count = line.bias.shape[0]

    def fresh(seed: int) -> Any:
        params = peer.init(seed)
        out = np.zeros_like(params["core"]["out"])
        return {**params, "core": {**params["core"], "out": out}}

    def sense(params: Any, obs: Any, follows: Any) -> Any:
        raw = jnp.asarray(line.bias, jnp.float32)
        if config.proprio:
            raw = raw + obs["proprio"] @ jnp.asarray(line.proprio, jnp.float32)
        if config.instruction_size:
            weights = jnp.asarray(line.instruction, jnp.float32)
            raw = raw + obs["instruction"] @ weights
        seen = peer.sense(params, obs, follows)
        raw = jnp.broadcast_to(raw, (*seen.shape[:-1], count))
        return jnp.concatenate([seen, raw], -1)

    def decide(params: Any, x: Any) -> Any:
        seen, raw = x[..., :-count], x[..., -count:]
        return bent(config, raw + peer.decide(params, seen))

    return Peer(fresh, sense, decide, peer.carries)


def _motion(params: Any, config: HopeConfig, obs: Any, follows: Any) -> Any:
    if not config.senses_motion:
        return None
    frames = frame_of(params, obs)
    before = jnp.concatenate([frames[:, :1], frames[:, :-1]], 1)
    return motion_of(config, frames, before) * follows[..., None]


def _core(rng: np.random.Generator, config: HopeConfig, name: str, width: int) -> Any:
    gates = {"gru": (3, 3), "act": (3, 1)}[name]

    def layer() -> Any:
        return {
            "x": _dense(rng, width, gates[0] * width),
            "h": _dense(rng, width, gates[1] * width),
            "up": _dense(rng, width, 2 * width),
            "down": _dense(rng, 2 * width, width, gain=0.5),
        }

    return {
        "in": _dense(rng, config.d, width),
        "layers": [layer() for _ in range(LAYERS)],
        "out": _dense(rng, width, len(config.action)),
    }


def _dense(
    rng: np.random.Generator, rows: int, columns: int, *, gain: float = 1.0
) -> Any:
    values = rng.standard_normal((rows, columns)) * gain / math.sqrt(rows)
    return values.astype(np.float32)


def _decide(core: Any, mixer: Callable[[Any, Any], Any], x: Any) -> Any:
    x = x @ core["in"]
    for held in core["layers"]:
        x = x + mixer(held, _normed(x))
        x = x + jax.nn.silu(_normed(x) @ held["up"]) @ held["down"]
    return _normed(x) @ core["out"]


def _normed(x: Any) -> Any:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def _gru(held: Any, x: Any) -> Any:
    def tick(state: Any, now: Any) -> Any:
        reset, keep, new = jnp.split(now, 3, -1)
        own = jnp.split(state @ held["h"], 3, -1)
        keep = jax.nn.sigmoid(keep + own[1])
        fresh = jnp.tanh(new + jax.nn.sigmoid(reset + own[0]) * own[2])
        state = keep * state + (1.0 - keep) * fresh
        return state, state

    given = jnp.moveaxis(x @ held["x"], 1, 0)
    _, told = jax.lax.scan(tick, jnp.zeros_like(x[:, 0]), given)
    return jnp.moveaxis(told, 0, 1)


def _attention(held: Any, x: Any) -> Any:
    rows, ticks, width = x.shape
    size = width // _HEADS
    rate = 100.0 ** (-np.arange(width // 2) / (width // 2))
    angle = np.arange(ticks)[::-1, None] * rate
    place = np.concatenate([np.sin(angle), np.cos(angle)], -1).astype(np.float32)
    qkv = ((x + place) @ held["x"]).reshape(rows, ticks, 3, _HEADS, size)
    query, key, value = jnp.moveaxis(qkv, 2, 0)
    score = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(size)
    past = np.tril(np.ones((ticks, ticks), bool))
    weight = jax.nn.softmax(jnp.where(past, score, -1e9), -1)
    read = jnp.einsum("bhqk,bkhd->bqhd", weight, value)
    return read.reshape(rows, ticks, width) @ held["h"]


_MIXERS: dict[str, Callable[[Any, Any], Any]] = {"gru": _gru, "act": _attention}
