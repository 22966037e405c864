"""Checks of what is fed to the network: names, shapes, types, chunk boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from continuon.errors import ContractError
from continuon.hope.config import HopeConfig

__all__ = ["check_boundary", "check_observation"]


def check_observation(
    config: HopeConfig, obs: Mapping[str, Any], batch: int, *, ticks: int | None
) -> int:
    """Check names, shapes and dtypes; works on tracers.

    Args:
        config: what is expected.
        obs: the observation.
        batch: B of the state.
        ticks: None where there is no time axis; 0 to take it from the arrays.

    Returns:
        T, or 0 without a time axis.

    Raises:
        ContractError: E-HOPE-OBS-001 for names, E-HOPE-OBS-002 for shape or dtype,
            E-HOPE-OBS-003 for a token that is no code; a tracer has no values to look
            at, so that inside jit such a token makes the outputs NaN instead.
    """
    if set(obs) != set(config.observation_names):
        raise ContractError(
            "E-HOPE-OBS-001",
            "the observation's names are not the config's",
            seen=sorted(obs),
            allowed=sorted(config.observation_names),
        )
    tails: dict[str, tuple[int, ...]] = {
        "image": config.image_shape,
        "depth": (config.depth_height, config.depth_width),
        "tokens": (config.token_places,),
        "proprio": (len(config.proprio),),
        "instruction": (config.instruction_size,),
        "previous_action": (len(config.action),),
    }
    if ticks is not None:
        first = obs[config.observation_names[0]]
        ticks = first.shape[1] if len(first.shape) > 1 else 0
    leading = (batch,) if ticks is None else (batch, ticks)
    for name in config.observation_names:
        array, expected = obs[name], (*leading, *tails[name])
        kind, right = _type(name, array)
        if tuple(array.shape) != expected or not right:
            raise ContractError(
                "E-HOPE-OBS-002",
                "an observation has the wrong shape or type",
                where=name,
                seen=f"{array.dtype}{list(array.shape)}",
                allowed=f"{kind}{list(expected)}",
            )
    if config.has_tokens:
        _check_tokens(config, obs["tokens"])
    return ticks or 0


def _type(name: str, array: Any) -> tuple[str, bool]:
    """Return the kind of numbers that a sense has, and whether these are of it."""
    if name == "image":
        return "uint8", array.dtype == np.uint8
    if name == "tokens":
        return "integer", jax.numpy.issubdtype(array.dtype, np.integer)
    return "float", jax.numpy.issubdtype(array.dtype, np.floating)


def _check_tokens(config: HopeConfig, tokens: Any) -> None:
    if isinstance(tokens, jax.core.Tracer) or tokens.size == 0:
        return
    least, most = int(tokens.min()), int(tokens.max())
    if least < 0 or most >= config.token_codes:
        raise ContractError(
            "E-HOPE-OBS-003",
            "a token is no code of the codebook",
            where="tokens",
            seen=f"{least} to {most}",
            allowed=f"0 to {config.token_codes - 1}",
            hint="make the tokens with continuon.hope.observed_tokens",
        )


def check_boundary(config: HopeConfig, tick: jax.Array, ticks: int) -> None:
    """Check that T fills whole chunks and, outside jit, that the state starts one.

    Raises:
        ContractError: E-HOPE-CHUNK-001 (T), E-HOPE-CHUNK-002 (the state's tick).
    """
    if ticks == 0 or ticks % config.chunk:
        raise ContractError(
            "E-HOPE-CHUNK-001",
            f"{ticks} ticks do not fill whole chunks of {config.chunk}",
            where="sequence",
            seen=ticks,
            allowed=f"multiples of {config.chunk}",
        )
    if not isinstance(tick, jax.core.Tracer) and int(tick) % config.chunk:
        raise ContractError(
            "E-HOPE-CHUNK-002",
            f"the state stands at tick {int(tick)}, inside a chunk of {config.chunk}",
            where="sequence",
            seen=int(tick),
            allowed=f"multiples of {config.chunk}",
        )
