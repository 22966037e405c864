"""Parameters whose first actions are a straight line of the senses.

The network has such a path already: the encoder is linear beside its mixed part, the
residual stream carries it to the action head. So nothing is added: the directions that
the head reads are given to the line, and whatever else writes into the stream (the
pictures, the mix, each block) starts beside them and is free to learn its way in.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError
from continuon.hope.config import HopeConfig
from continuon.hope.parameters import Params

__all__ = ["on_line"]

Array = NDArray[np.float64]


def on_line(
    params: Params,
    config: HopeConfig,
    *,
    proprio: Array,
    instruction: Array,
    bias: Array,
) -> Params:
    """Return fresh parameters moved so that they tell the line at every tick.

    Args:
        params: from `init`; each action of a chunk gets the same line.
        config: with `straight_action`.
        proprio: weights [P, A].
        instruction: weights [n, A].
        bias: [A].

    Raises:
        ContractError: E-HOPE-LINE-001, the config bends its actions, or tells more
            actions a tick than its stream is wide.
    """
    head = np.asarray(params["heads"]["action"], np.float64)
    if not config.straight_action or head.shape[1] > config.d:
        raise ContractError(
            "E-HOPE-LINE-001",
            "this network cannot start on a line",
            seen=f"straight_action {config.straight_action}, {head.shape[1]} actions",
            allowed=f"straight_action, at most d = {config.d} actions a tick",
        )
    back = np.linalg.pinv(head)
    beside = np.eye(config.d) - head @ back

    def apart(leaf: Any) -> NDArray[np.float32]:
        columns = np.asarray(leaf, np.float64).reshape(-1, config.d)
        return (columns @ beside).astype(np.float32).reshape(np.shape(leaf))

    def led(leaf: Any, weights: Array) -> NDArray[np.float32]:
        told = np.tile(weights, config.action_chunk)
        return np.asarray(apart(leaf) + told @ back, np.float32)

    encoder = dict(params["encoder"])
    for name in _WRITERS & set(encoder):
        encoder[name] = apart(encoder[name])
    if config.proprio:
        encoder["proprio"] = led(encoder["proprio"], proprio)
    if config.instruction_size:
        encoder["instruction"] = led(encoder["instruction"], instruction)
    blocks = {name: _block(held, apart) for name, held in params["blocks"].items()}
    heads = {
        **params["heads"],
        "action_bias": np.tile(bias, config.action_chunk).astype(np.float32),
    }
    moved = {**params, "encoder": encoder, "blocks": blocks, "heads": heads}
    arrays: Params = jax.tree.map(jax.numpy.asarray, moved)
    return arrays


_WRITERS = {"bias", "mix", "image", "motion", "depth", "tokens", "previous_action"}
"""What the encoder adds to the stream, but for what the line is of."""


def _block(held: Params, apart: Any) -> Params:
    slow = dict(held["slow"])
    slow["levels"] = {
        name: {**level, "down": apart(level["down"])}
        for name, level in slow["levels"].items()
    }
    if "feedback" in slow:
        slow["feedback"] = apart(slow["feedback"])
    return {
        "fast": {**held["fast"], "out": apart(held["fast"]["out"])},
        "mid": {**held["mid"], "out": apart(held["mid"]["out"])},
        "slow": slow,
    }
