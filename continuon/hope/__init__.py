"""HOPE: a network with three time scales, as pure functions over plain trees.

Importing this room is light; JAX is loaded when a name that needs it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from continuon.hope.config import HopeConfig, config_from_dict, digest
from continuon.hope.presets import PRESETS, preset

if TYPE_CHECKING:
    from continuon.hope.adapter import (
        Adapter,
        attach_adapter,
        init_adapter,
        load_adapter,
        merge_adapter,
        save_adapter,
    )
    from continuon.hope.checkpoint import (
        Checkpoint,
        load_checkpoint,
        params_digest,
        save_checkpoint,
    )
    from continuon.hope.experience import Experience, Lived
    from continuon.hope.flax_module import HopeModule
    from continuon.hope.model import Output, sequence, step
    from continuon.hope.parameters import (
        Params,
        count_parameters,
        init,
        near_neutral,
        trainable_mask,
    )
    from continuon.hope.plane import (
        MemoryPlane,
        check_base,
        merge_planes,
        plane_of,
        recall,
    )
    from continuon.hope.plane_file import load_plane, save_plane
    from continuon.hope.plane_store import (
        append_plane,
        latest_plane,
        plane_at,
        plane_versions,
        roll_back_plane,
    )
    from continuon.hope.stability import spectral_radius
    from continuon.hope.state import State, init_state
    from continuon.hope.tokens import observed_tokens, token_fields
    from continuon.instruction import embed_instruction

__all__ = [
    "PRESETS",
    "Adapter",
    "Checkpoint",
    "Experience",
    "HopeConfig",
    "HopeModule",
    "Lived",
    "MemoryPlane",
    "Output",
    "Params",
    "State",
    "append_plane",
    "attach_adapter",
    "check_base",
    "config_from_dict",
    "count_parameters",
    "digest",
    "embed_instruction",
    "init",
    "init_adapter",
    "init_state",
    "latest_plane",
    "load_adapter",
    "load_checkpoint",
    "load_plane",
    "merge_adapter",
    "merge_planes",
    "near_neutral",
    "observed_tokens",
    "params_digest",
    "plane_at",
    "plane_of",
    "plane_versions",
    "preset",
    "recall",
    "roll_back_plane",
    "save_adapter",
    "save_checkpoint",
    "save_plane",
    "sequence",
    "spectral_radius",
    "step",
    "token_fields",
    "trainable_mask",
]

_HOMES = {
    "embed_instruction": "continuon.instruction",
    "Adapter": "adapter",
    "Checkpoint": "checkpoint",
    "Experience": "experience",
    "HopeModule": "flax_module",
    "Lived": "experience",
    "MemoryPlane": "plane",
    "Output": "model",
    "Params": "parameters",
    "State": "state",
    "append_plane": "plane_store",
    "attach_adapter": "adapter",
    "check_base": "plane",
    "count_parameters": "parameters",
    "init": "parameters",
    "init_adapter": "adapter",
    "init_state": "state",
    "latest_plane": "plane_store",
    "load_adapter": "adapter",
    "load_checkpoint": "checkpoint",
    "load_plane": "plane_file",
    "merge_adapter": "adapter",
    "merge_planes": "plane",
    "params_digest": "checkpoint",
    "plane_at": "plane_store",
    "plane_of": "plane",
    "plane_versions": "plane_store",
    "recall": "plane",
    "roll_back_plane": "plane_store",
    "save_adapter": "adapter",
    "save_checkpoint": "checkpoint",
    "save_plane": "plane_file",
    "sequence": "model",
    "spectral_radius": "stability",
    "step": "model",
    "token_fields": "tokens",
    "near_neutral": "parameters",
    "observed_tokens": "tokens",
    "trainable_mask": "parameters",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    home = _HOMES[name]
    # what the robot needs too stands in no room
    module = importlib.import_module(home if "." in home else f"{__name__}.{home}")
    return getattr(module, name)
