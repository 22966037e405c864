"""Checkpoint in, directory of artifacts out, each one measured against JAX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy as np

from continuon.export.files import write_file
from continuon.export.litert import to_litert
from continuon.export.lowering import lower, rollout
from continuon.export.observations import golden_inputs
from continuon.export.parity import backend_errors, scaled_error
from continuon.export.records import (
    golden_record,
    placeholder_record,
    spec_record,
    to_json,
)
from continuon.export.stablehlo import stablehlo_rollout, to_stablehlo
from continuon.hope.checkpoint import load_checkpoint, save_checkpoint

__all__ = ["TOLERANCE", "ArtifactInfo", "CompileReport", "compile_checkpoint"]

TOLERANCE = 1e-4
"""Largest error of a float32 artifact, as a share of max(1, largest output)."""


@attrs.frozen
class ArtifactInfo:
    """One written file; `max_abs_error` is None for what cannot run."""

    path: Path
    role: str
    backend: str
    bytes: int
    sha256: str
    max_abs_error: float | None
    tolerance: float | None


@attrs.frozen
class CompileReport:
    """What was compiled, and whether each runnable artifact agrees with JAX."""

    directory: Path
    name: str
    parameters: int
    golden_origin: str
    golden_ticks: int
    artifacts: tuple[ArtifactInfo, ...]

    @property
    def parity_ok(self) -> bool:
        """Whether every runnable artifact is within its tolerance."""
        return all(
            info.max_abs_error <= info.tolerance
            for info in self.artifacts
            if info.max_abs_error is not None and info.tolerance is not None
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = msgspec.to_builtins(attrs.asdict(self), enc_hook=str)
        return {**values, "parity_ok": self.parity_ok}


def compile_checkpoint(
    checkpoint: Path,
    output_dir: Path,
    *,
    control_rate_hz: float,
    golden_observations: dict[str, np.ndarray] | None = None,
    golden_origin: str = "replayed",
    name: str = "hope",
) -> CompileReport:
    """Write policy.tflite, .weights, .stablehlo, .hef.json, golden.json, spec.json.

    The spec is written last: a directory without it is no policy.

    Args:
        checkpoint: a `.hope` file.
        output_dir: made if absent; an older policy in it is replaced.
        control_rate_hz: ticks per second that the policy was trained for.
        golden_observations: `image` uint8 [T, h, w, 3], `proprio` float32 [T, P] of an
            episode's start; None makes synthetic ones, labelled so.
        golden_origin: label of the given observations.
        name: model name for the spec.

    Raises:
        DataError, ContractError: the checkpoint or the observations are refused.
        MissingPackageError: the converter or the interpreter is not installed.
    """
    loaded = load_checkpoint(checkpoint)
    inputs = golden_inputs(loaded.config, golden_observations)
    origin = "synthetic" if golden_observations is None else golden_origin
    lowered = lower(loaded)
    outputs = rollout(lowered, inputs)
    litert, stablehlo = to_litert(lowered), to_stablehlo(lowered)
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / "spec.json").unlink(missing_ok=True)
    write_file(output_dir / "policy.tflite", litert)
    write_file(output_dir / "policy.stablehlo", stablehlo)
    write_file(output_dir / "policy.hef.json", to_json(placeholder_record(loaded)))
    save_checkpoint(
        output_dir / "policy.weights",
        loaded.config,
        loaded.params,
        metadata={"checkpoint_sha256": loaded.sha256},
    )
    golden = golden_record(loaded, inputs, outputs, origin=origin, tolerance=TOLERANCE)
    write_file(output_dir / "golden.json", to_json(golden))
    spec = spec_record(
        loaded, lowered, output_dir, name=name, control_rate_hz=control_rate_hz
    )
    write_file(output_dir / "spec.json", to_json(spec))
    errors = backend_errors(output_dir)
    seen = stablehlo_rollout(stablehlo, lowered, inputs)
    errors["stablehlo"] = scaled_error(seen, outputs)
    return CompileReport(
        directory=output_dir,
        name=name,
        parameters=spec["parameters"],
        golden_origin=origin,
        golden_ticks=len(outputs["action"]),
        artifacts=tuple(
            _info(output_dir, entry, errors) for entry in spec["artifacts"]
        ),
    )


def _info(
    directory: Path, entry: dict[str, Any], errors: dict[str, float]
) -> ArtifactInfo:
    backend = entry["backend"]
    return ArtifactInfo(
        path=directory / entry["path"],
        role="placeholder" if entry["is_placeholder"] else "policy",
        backend=backend,
        bytes=entry["bytes"],
        sha256=entry["sha256"],
        max_abs_error=errors.get(backend),
        tolerance=TOLERANCE if backend in errors else None,
    )
