"""The golden inputs: given ones, or a deterministic, labelled, synthetic stand-in."""

from __future__ import annotations

from typing import Any

import numpy as np

from continuon.errors import ContractError
from continuon.hope.config import HopeConfig

__all__ = ["GOLDEN_TICKS", "MIN_GOLDEN_TICKS", "golden_inputs"]

GOLDEN_TICKS = 40
MIN_GOLDEN_TICKS = 16
Array = np.ndarray[Any, Any]


def golden_inputs(
    config: HopeConfig, given: dict[str, Array] | None
) -> dict[str, Array]:
    """Return `image` uint8 [T, h, w, 3] and `proprio` float32 [T, P].

    Args:
        config: the network's shape.
        given: observations of one episode from its first tick, cut to 40 ticks; None
            for a moving pattern made from nothing but the config's sizes.

    Raises:
        ContractError: E-EXPORT-GOLDEN-001 names, -002 shapes, -003 too few ticks.
    """
    wanted = [name for name in config.observation_names if name != "previous_action"]
    if given is None:
        return _synthetic(config)
    if set(given) != set(wanted):
        raise ContractError(
            "E-EXPORT-GOLDEN-001",
            "the golden observations do not have the network's inputs",
            seen=sorted(given),
            allowed=sorted(wanted),
        )
    tails = {"image": config.image_shape, "proprio": (len(config.proprio),)}
    ticks = len(given[wanted[0]])
    for name in wanted:
        dtype = np.uint8 if name == "image" else np.float32
        array = given[name]
        if array.shape != (ticks, *tails[name]) or array.dtype != dtype:
            raise ContractError(
                "E-EXPORT-GOLDEN-002",
                "a golden observation has the wrong shape or type",
                where=name,
                seen=f"{array.dtype}{list(array.shape)}",
                allowed=f"{np.dtype(dtype)}{[ticks, *tails[name]]}",
            )
    if ticks < MIN_GOLDEN_TICKS:
        raise ContractError(
            "E-EXPORT-GOLDEN-003",
            "too few golden ticks",
            seen=ticks,
            allowed=f"at least {MIN_GOLDEN_TICKS}",
        )
    return {name: given[name][:GOLDEN_TICKS] for name in wanted}


def _synthetic(config: HopeConfig) -> dict[str, Array]:
    rng = np.random.default_rng(20_240_229)
    ticks = np.arange(GOLDEN_TICKS)
    inputs: dict[str, Array] = {}
    if config.has_image:
        rows = np.arange(config.image_height)[None, :, None, None]
        columns = np.arange(config.image_width)[None, None, :, None]
        phase = 0.3 * ticks[:, None, None, None] + np.arange(3)
        wave = 127.5 * (1 + np.sin(0.2 * rows + 0.15 * columns + phase))
        noise = rng.integers(-12, 13, wave.shape)
        inputs["image"] = np.clip(wave + noise, 0, 255).astype(np.uint8)
    if config.proprio:
        shape = (GOLDEN_TICKS, len(config.proprio))
        inputs["proprio"] = rng.standard_normal(shape).astype(np.float32)
    return inputs
