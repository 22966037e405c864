"""The two JSON files beside the artifacts: `spec.json` and `golden.json`.

Their fields are the contract `specs/edge`; `continuon.edge` reads them.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from continuon.export.files import file_sha256
from continuon.export.lowering import Lowered
from continuon.export.variants import Variant
from continuon.hope.checkpoint import Checkpoint
from continuon.hope.config import digest
from continuon.hope.parameters import count_parameters

__all__ = ["golden_record", "placeholder_record", "spec_record", "to_json"]

VERSION = 1
HAILO_COMPILER = "hailo_sdk_client"
"""The package of Hailo's Dataflow Compiler."""
Array = np.ndarray[Any, Any]


def golden_record(
    loaded: Checkpoint,
    inputs: dict[str, Array],
    outputs: dict[str, Array],
    *,
    origin: str,
    tolerance: float,
) -> dict[str, Any]:
    """Return golden.json: inputs [T, ...] by name and what JAX answered."""
    return {
        "version": VERSION,
        "origin": origin,
        "inputs": {name: _encoded(value) for name, value in inputs.items()},
        "outputs": {name: _encoded(value) for name, value in outputs.items()},
        "tolerance": tolerance,
        "config_digest": digest(loaded.config),
    }


def spec_record(
    loaded: Checkpoint,
    lowered: Lowered,
    directory: Path,
    *,
    variants: Sequence[Variant],
    name: str,
    control_rate_hz: float,
    fold_every: int,
) -> dict[str, Any]:
    """Return spec.json for the files that already stand in `directory`.

    `fold_every` is the lean step's: see `continuon.export.lean_lowering.Lean`.
    """
    config = loaded.config
    return {
        "version": VERSION,
        "name": name,
        "image_height": config.image_height,
        "image_width": config.image_width,
        "proprio": config.proprio,
        "action": config.action,
        "use_previous_action": config.use_previous_action,
        "control_rate_hz": control_rate_hz,
        "state": {
            key: {"shape": value.shape, "dtype": str(value.dtype)}
            for key, value in lowered.state.items()
        },
        "config_digest": digest(config),
        "checkpoint_sha256": loaded.sha256,
        "golden_sha256": file_sha256(directory / "golden.json"),
        "artifacts": [
            {
                "path": made.path,
                "backend": made.backend,
                "bytes": (directory / made.path).stat().st_size,
                "sha256": file_sha256(directory / made.path),
                "is_placeholder": made.is_placeholder,
                "precision": made.precision,
                "measure": made.measure,
                # a runtime on another machine may round otherwise: the golden file's
                # own, wider tolerance serves there for float32
                "tolerance": None if made.precision == "fp32" else made.tolerance,
                "fold_every": fold_every if made.folds else 0,
            }
            for made in variants
        ],
        "parameters": count_parameters(loaded.params),
        "depth_height": config.depth_height,
        "depth_width": config.depth_width,
        "instruction_size": config.instruction_size,
    }


def placeholder_record(loaded: Checkpoint) -> dict[str, Any]:
    """Return what stands where a compiled HEF would: it cannot be loaded.

    It says whether Hailo's compiler was found, and that it would not do.
    """
    found = find_spec(HAILO_COMPILER) is not None
    seen = "a Hailo compiler is present" if found else "no Hailo compiler was present"
    return {
        "kind": "hef-placeholder",
        "placeholder": True,
        "loadable": False,
        "target": "hailo-8",
        "compiler_found": found,
        "reason": f"{seen}; a HEF needs static int8, which only the stateless image "
        "encoder can take, and that is not compiled here",
        "checkpoint_sha256": loaded.sha256,
    }


def to_json(record: dict[str, Any]) -> bytes:
    """Return indented JSON."""
    return msgspec.json.format(msgspec.json.encode(record)) + b"\n"


def _encoded(array: Array) -> dict[str, Any]:
    """Return dtype (little-endian), shape, and base64 of the bytes."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {
        "dtype": little.dtype.str,
        "shape": array.shape,
        "base64": base64.b64encode(little.tobytes()).decode(),
    }
