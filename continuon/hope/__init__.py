"""HOPE: a network with three time scales, as pure functions over plain trees.

Importing this room is light; JAX is loaded when a name that needs it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from continuon.hope.config import HopeConfig, config_from_dict, digest
from continuon.hope.presets import PRESETS, preset

if TYPE_CHECKING:
    from continuon.hope.checkpoint import (
        Checkpoint,
        load_checkpoint,
        save_checkpoint,
    )
    from continuon.hope.model import Output, sequence, step
    from continuon.hope.parameters import (
        Params,
        count_parameters,
        init,
        trainable_mask,
    )
    from continuon.hope.stability import spectral_radius
    from continuon.hope.state import State, init_state

__all__ = [
    "PRESETS",
    "Checkpoint",
    "HopeConfig",
    "Output",
    "Params",
    "State",
    "config_from_dict",
    "count_parameters",
    "digest",
    "init",
    "init_state",
    "load_checkpoint",
    "preset",
    "save_checkpoint",
    "sequence",
    "spectral_radius",
    "step",
    "trainable_mask",
]

_HOMES = {
    "Checkpoint": "checkpoint",
    "Output": "model",
    "Params": "parameters",
    "State": "state",
    "count_parameters": "parameters",
    "init": "parameters",
    "init_state": "state",
    "load_checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
    "sequence": "model",
    "spectral_radius": "stability",
    "step": "model",
    "trainable_mask": "parameters",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    return getattr(module, name)
