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

__all__ = ["Lowered", "check_exportable", "lower", "rollout", "senses"]

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


def check_exportable(config: HopeConfig) -> None:
    """Check that a robot can feed the network: it knows no depth nor instruction yet.

    Raises:
        ContractError: E-EXPORT-SENSE-001, naming the inputs.
    """
    unfed = {"depth", "instruction"} & set(config.observation_names)
    if unfed:
        raise ContractError(
            "E-EXPORT-SENSE-001",
            "a compiled policy cannot be fed all of the network's inputs",
            seen=", ".join(sorted(unfed)),
            allowed="image, proprio, previous_action",
            hint="train without them, or run the checkpoint with continuon.hope",
        )


def senses(config: HopeConfig) -> dict[str, Array]:
    """Return zeros of what a robot feeds at each tick, batch 1, by name."""
    zeros: dict[str, Array] = {}
    if config.has_image:
        zeros["image"] = np.zeros((1, *config.image_shape), np.uint8)
    if config.proprio:
        zeros["proprio"] = np.zeros((1, len(config.proprio)), np.float32)
    if config.use_previous_action:
        zeros["previous_action"] = np.zeros((1, len(config.action)), np.float32)
    return zeros


def lower(checkpoint: Checkpoint) -> Lowered:
    """Return the step of a checkpoint; see `check_exportable` for what is refused."""
    config = checkpoint.config
    check_exportable(config)
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
