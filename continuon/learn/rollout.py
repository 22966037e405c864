"""Run parameters over whole episodes, each from a reset state. Uses JAX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError
from continuon.hope import (
    HopeConfig,
    MemoryPlane,
    init_state,
    recall,
    sequence,
    step,
)
from continuon.learn.data import EpisodeArrays
from continuon.learn.windows import Batch, cut, stack

__all__ = ["Prediction", "check_config", "predict"]

_BATCH = 8
"""Episodes at a time; fewer are padded, so that one shape is compiled once."""


@attrs.frozen(eq=False)
class Prediction:
    """What the model did in one episode.

    Attributes:
        action: float32 [T, A]; surprise: float32 [T].
    """

    action: NDArray[np.float32]
    surprise: NDArray[np.float32]


def check_config(config: HopeConfig, episodes: Sequence[EpisodeArrays]) -> None:
    """Check that the episodes hold what the config names.

    Raises:
        ContractError: E-LEARN-FIT-001, naming both sides.
    """
    wanted = (config.image_shape, config.proprio, config.action, _senses(config))
    for e in episodes:
        image = e.images.shape[1:] if config.has_image else config.image_shape
        shapes = {n: v.shape[1:] for n, v in e.extra.items() if n in wanted[3]}
        held = (tuple(image), e.proprio_names, e.action_names, shapes)
        if held != wanted:
            raise ContractError(
                "E-LEARN-FIT-001",
                "the model and the episodes do not fit: image, proprio, action, senses",
                where=e.episode_id,
                seen=held,
                allowed=wanted,
            )


def _senses(config: HopeConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the senses that are off by default and here are on."""
    shapes: dict[str, tuple[int, ...]] = {}
    if config.has_depth:
        shapes["depth"] = (config.depth_height, config.depth_width)
    if config.instruction_size:
        shapes["instruction"] = (config.instruction_size,)
    return shapes


def predict(
    params: Any,
    config: HopeConfig,
    episodes: Sequence[EpisodeArrays],
    *,
    plane: MemoryPlane | None = None,
) -> tuple[Prediction, ...]:
    """Return the model's answer to each episode, from a reset state.

    With a Memory Plane, each episode starts with the plane's memories.

    Where the config feeds a previous action it is the model's own last output, never
    the teacher's: such a model is evaluated tick by tick.
    """
    check_config(config, episodes)
    longest = max(len(episode) for episode in episodes)
    ticks = -(-longest // config.chunk) * config.chunk
    answers: list[Prediction] = []
    for first in range(0, len(episodes), _BATCH):
        group = episodes[first : first + _BATCH]
        windows = [cut(episode, 0, ticks) for episode in group]
        windows += [windows[-1]] * (_BATCH - len(group))
        state = init_state(config, _BATCH)
        if plane is not None:
            state = recall(plane, config, state)
        seen = _observed(config, stack(windows))
        action, surprise = _run(params, config, state, seen)
        for row, episode in enumerate(group):
            rows = np.asarray(action[row, : len(episode)])
            told = np.asarray(surprise[row, : len(episode)])
            answers.append(Prediction(rows, told))
    return tuple(answers)


def _observed(config: HopeConfig, batch: Batch) -> dict[str, Any]:
    given = {"image": batch.images, "proprio": batch.proprio, **batch.extra}
    return {name: given[name] for name in config.observation_names if name in given}


@partial(jax.jit, static_argnums=1)
def _run(params: Any, config: HopeConfig, state: Any, given: Any) -> Any:
    batch = next(iter(given.values())).shape[0]
    if not config.use_previous_action:
        _, out = sequence(params, config, state, given, remat=False)
        return out.action, out.surprise

    def tick(carry: Any, obs: Any) -> Any:
        state, own = carry
        state, out = step(params, config, state, {**obs, "previous_action": own})
        return (state, out.action), (out.action, out.surprise)

    start = (state, jnp.zeros((batch, len(config.action))))
    first = {name: jnp.moveaxis(value, 1, 0) for name, value in given.items()}
    _, told = jax.lax.scan(tick, start, first)
    return tuple(jnp.moveaxis(part, 0, 1) for part in told)
