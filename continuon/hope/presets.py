"""Named sizes; a misspelt name is an error, never another preset."""

from __future__ import annotations

from typing import Any

from continuon.errors import ContractError, UsageError
from continuon.hope.config import HopeConfig

__all__ = ["PRESETS", "preset"]

PRESETS: dict[str, dict[str, Any]] = {
    "seed": {
        "d": 32,
        "layers": 1,
        "heads": 2,
        "head_size": 16,
        "mid_units": 32,
        "slow_hidden": 64,
        "slow_key": 16,
        "periods": (16, 64),
        "latent": 16,
        "image_channels": (8, 16, 16),
        "motion_bands": 3,
    },
    "nano": {
        "d": 64,
        "layers": 2,
        "heads": 2,
        "mid_units": 64,
        "slow_hidden": 128,
        "slow_key": 32,
        "periods": (16, 64, 256),
        "motion_bands": 3,
    },
    "pi5": {"motion_bands": 3},
    "dev": {
        "d": 192,
        "layers": 4,
        "heads": 6,
        "mid_units": 192,
        "slow_hidden": 384,
        "motion_bands": 3,
    },
    "tpu": {
        "d": 512,
        "layers": 8,
        "heads": 8,
        "head_size": 64,
        "mid_units": 512,
        "slow_hidden": 1024,
        "periods": (16, 128, 1024, 8192),
        "latent": 64,
        "image_channels": (32, 64, 64),
        "motion_bands": 3,
    },
}


def preset(name: str, **overrides: Any) -> HopeConfig:
    """Return a named config, with some fields replaced.

    Raises:
        UsageError: E-HOPE-PRESET-001, no such preset; the message lists them.
        ContractError: an override names no field, or makes the config inconsistent.
    """
    if name not in PRESETS:
        raise UsageError(
            "E-HOPE-PRESET-001",
            "there is no such preset",
            seen=name,
            allowed=", ".join(PRESETS),
        )
    values = {**PRESETS[name], **overrides}
    try:
        return HopeConfig(**values)
    except TypeError as error:
        raise ContractError(
            "E-HOPE-CONFIG-002", f"an override fits no field: {error}", where=name
        ) from error
