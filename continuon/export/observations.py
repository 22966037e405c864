"""The golden inputs: given ones, or a deterministic, labelled, synthetic stand-in."""

from __future__ import annotations

from typing import Any

import numpy as np

from continuon.errors import ContractError
from continuon.export.lowering import senses
from continuon.hope.config import HopeConfig

__all__ = ["GOLDEN_TICKS", "MIN_GOLDEN_TICKS", "golden_inputs"]

GOLDEN_TICKS = 40
MIN_GOLDEN_TICKS = 16
Array = np.ndarray[Any, Any]


def golden_inputs(
    config: HopeConfig, given: dict[str, Array] | None
) -> dict[str, Array]:
    """Return `image` uint8 [T, h, w, 3], the other senses float32 [T, ...].

    Args:
        config: the network's shape.
        given: observations of one episode from its first tick, cut to 40 ticks; None
            for a moving pattern made from nothing but the config's sizes.

    Raises:
        ContractError: E-EXPORT-GOLDEN-001 names, -002 shapes, -003 too few ticks.
    """
    sensed = senses(config)
    sensed.pop("previous_action", None)
    wanted = list(sensed)
    if given is None:
        return _synthetic(config)
    if set(given) != set(wanted):
        raise ContractError(
            "E-EXPORT-GOLDEN-001",
            "the golden observations do not have the network's inputs",
            seen=sorted(given),
            allowed=sorted(wanted),
        )
    ticks = len(given[wanted[0]])
    for name in wanted:
        tail, dtype = sensed[name].shape[1:], sensed[name].dtype
        array = given[name]
        if array.shape != (ticks, *tail) or array.dtype != dtype:
            raise ContractError(
                "E-EXPORT-GOLDEN-002",
                "a golden observation has the wrong shape or type",
                where=name,
                seen=f"{array.dtype}{list(array.shape)}",
                allowed=f"{dtype}{[ticks, *tail]}",
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
    if config.has_depth:
        size = (GOLDEN_TICKS, config.depth_height, config.depth_width)
        metres = rng.uniform(-0.2, 1.2, size) * config.depth_limit_m
        inputs["depth"] = np.maximum(metres, 0.0).astype(np.float32)
    if config.instruction_size:
        told = rng.standard_normal(config.instruction_size)
        told /= np.linalg.norm(told)
        inputs["instruction"] = np.tile(told, (GOLDEN_TICKS, 1)).astype(np.float32)
    return inputs
