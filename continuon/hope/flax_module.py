"""The network as a Flax module: the same parameter tree, the same two functions.

For whoever trains with Flax's tools. This project itself calls the functions: a call of
`nnx.jit` costs more than a control tick. Uses JAX and Flax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import jax
from flax import nnx

from continuon.hope.checkpoint import Checkpoint
from continuon.hope.config import HopeConfig
from continuon.hope.model import Output, sequence, step
from continuon.hope.parameters import Params, init
from continuon.hope.state import State, init_state

__all__ = ["Frozen", "HopeModule"]


class Frozen(nnx.Variable[Any]):
    """A parameter that no trainer may change: `nnx.Param` filters leave it out."""


class HopeModule(nnx.Module):
    """A thin `nnx.Module` over the plain tree of `continuon.hope.init`.

    Its leaves are `nnx.Param`, those below `frozen` are `Frozen`; nothing is shared and
    nothing else is held, so `nnx.split` and `nnx.merge` serve under `jit` and `grad`.
    """

    def __init__(self, config: HopeConfig, params: Params) -> None:
        self.config = config
        self.params = nnx.data(
            {
                name: jax.tree.map(Frozen if name == "frozen" else nnx.Param, branch)
                for name, branch in params.items()
            }
        )

    @classmethod
    def fresh(cls, config: HopeConfig, *, rngs: nnx.Rngs) -> Self:
        """Return a module with the parameters that `init` draws from a `params` key."""
        return cls(config, init(rngs.params(), config))

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Self:
        """Return a checkpoint as a module."""
        return cls(
            checkpoint.config, jax.tree.map(jax.numpy.asarray, checkpoint.params)
        )

    @property
    def tree(self) -> Params:
        """The plain parameters, as `save_checkpoint`, `step` and adapters take them."""
        told: Params = jax.tree.map(
            lambda leaf: leaf[...],
            self.params,
            is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
        )
        return told

    def initial_state(self, batch: int) -> State:
        """Return the state before the first tick; see `init_state`."""
        return init_state(self.config, batch)

    def __call__(
        self, state: State, obs: Mapping[str, jax.Array]
    ) -> tuple[State, Output]:
        """Evaluate one tick; see `continuon.hope.step`."""
        return step(self.tree, self.config, state, obs)

    def sequence(
        self, state: State, obs: Mapping[str, jax.Array], **options: Any
    ) -> tuple[State, Output]:
        """Evaluate many ticks; see `continuon.hope.sequence`."""
        return sequence(self.tree, self.config, state, obs, **options)
