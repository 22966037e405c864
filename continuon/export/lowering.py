"""One recurrent step of a checkpoint as a function of named, flat tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon.errors import ContractError
from continuon.hope.checkpoint import Checkpoint, flatten, unflatten
from continuon.hope.config import HopeConfig
from continuon.hope.model import step
from continuon.hope.state import init_state

__all__ = ["Lowered", "lower", "rollout", "senses"]

STATE_PREFIX = "state/"
Array = np.ndarray[Any, Any]


@attrs.frozen
class Lowered:
    """A step with the parameters closed over, batch 1.

    Attributes:
        function: arrays in the order of `inputs` to arrays in the order of `outputs`.
        inputs: name to zeros of the right shape and dtype; state names `state/...`.
        outputs: names: action, surprise, then the state in the order of the inputs.
    """

    function: Callable[..., tuple[jax.Array, ...]]
    inputs: dict[str, Array]
    outputs: tuple[str, ...]

    @property
    def state(self) -> dict[str, Array]:
        """The recurrent inputs, without the prefix."""
        return {
            name.removeprefix(STATE_PREFIX): value
            for name, value in self.inputs.items()
            if name.startswith(STATE_PREFIX)
        }

    def specs(self) -> list[Any]:
        """Return shapes and dtypes in the order of the inputs."""
        return [jax.eval_shape(lambda a=a: a) for a in self.inputs.values()]


def senses(config: HopeConfig) -> dict[str, Array]:
    """Return zeros of what is fed at each tick, batch 1, by name.

    Raises:
        ContractError: E-EXPORT-SENSE-001, tokens: a policy carries no codebook yet.
    """
    if config.has_tokens:
        raise ContractError(
            "E-EXPORT-SENSE-001",
            "a network that is told tokens cannot be compiled for the robot yet",
            where="token_places",
            seen=f"{config.token_places} tokens of codebook {config.codebook_id[:12]}",
            allowed="a network without tokens: a policy carries no codebook",
            hint="train without tokens what is to run on the robot",
        )
    shapes = {
        "image": config.image_shape,
        "proprio": (len(config.proprio),),
        "previous_action": (len(config.action),),
        "depth": (config.depth_height, config.depth_width),
        "instruction": (config.instruction_size,),
    }
    return {
        name: np.zeros((1, *shapes[name]), np.uint8 if name == "image" else np.float32)
        for name in config.observation_names
    }


def lower(checkpoint: Checkpoint) -> Lowered:
    """Return the step of a checkpoint."""
    config = checkpoint.config
    params = jax.tree.map(jnp.asarray, checkpoint.params)
    sensed = senses(config)
    state = flatten(init_state(config, 1))

    def function(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        obs = dict(zip(sensed, arrays, strict=False))
        before = unflatten(dict(zip(state, arrays[len(sensed) :], strict=True)))
        after, output = step(params, config, before, obs)
        flat = _flat(after)
        return (output.action, output.surprise, *(flat[name] for name in state))

    named = {STATE_PREFIX + name: value for name, value in state.items()}
    return Lowered(function, sensed | named, ("action", "surprise", *named))


def rollout(lowered: Lowered, observations: dict[str, Array]) -> dict[str, Array]:
    """Run JAX from the first tick over observations [T, ...] by name.

    The previous action, where the network wants it, is its own last one.

    Returns:
        `action` [T, A] and `surprise` [T], float32.
    """
    function = jax.jit(lowered.function)
    arrays = dict(lowered.inputs)
    actions, surprises = [], []
    for tick in range(len(next(iter(observations.values())))):
        arrays |= {name: value[tick][None] for name, value in observations.items()}
        results = function(*arrays.values())
        outputs = dict(zip(lowered.outputs, map(np.asarray, results), strict=True))
        actions.append(outputs.pop("action")[0])
        surprises.append(outputs.pop("surprise")[0])
        arrays |= outputs
        if "previous_action" in arrays:
            arrays["previous_action"] = actions[-1][None]
    return {"action": np.stack(actions), "surprise": np.stack(surprises)}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, jax.Array]:
    leaves: dict[str, jax.Array] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            leaves |= _flat(value, f"{prefix}{name}/")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves
