"""Checkpoint in, directory of artifacts out, each one measured against JAX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy as np

from continuon.durable import replace_file
from continuon.errors import UsageError
from continuon.export.files import file_sha256
from continuon.export.lean_lowering import layer_products, lower_lean
from continuon.export.litert import to_litert
from continuon.export.lowering import lower, rollout
from continuon.export.observations import golden_inputs
from continuon.export.onnx_graph import to_onnx
from continuon.export.parity import backend_errors, scaled_error
from continuon.export.quantise import to_fp16, to_int8
from continuon.export.records import (
    golden_record,
    placeholder_record,
    spec_record,
    to_json,
)
from continuon.export.stablehlo import stablehlo_rollout, to_stablehlo
from continuon.export.task import TaskEpisode, TaskScore, task_scores
from continuon.export.variants import VARIANTS, Variant, available, chosen
from continuon.hope.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

__all__ = [
    "TOLERANCE",
    "ArtifactInfo",
    "CompileReport",
    "TaskEpisode",
    "TaskScore",
    "compile_checkpoint",
]

TOLERANCE = 1e-4
"""Of the golden ticks where they are met again: other machines round otherwise."""


@attrs.frozen
class ArtifactInfo:
    """One written file; `max_abs_error` goes by `measure`, None for what cannot run."""

    path: Path
    role: str
    backend: str
    bytes: int
    sha256: str
    max_abs_error: float | None
    tolerance: float | None
    precision: str = "fp32"
    measure: str = "worst"


@attrs.frozen
class CompileReport:
    """What was compiled, and whether each runnable artifact agrees with JAX.

    `missing` says by variant what was not made for want of a package. `task` judges the
    artifacts that are another network; it is empty without held-out episodes.
    """

    directory: Path
    name: str
    parameters: int
    golden_origin: str
    golden_ticks: int
    artifacts: tuple[ArtifactInfo, ...]
    missing: dict[str, str] = attrs.field(factory=dict)
    task: tuple[TaskScore, ...] = ()

    @property
    def parity_ok(self) -> bool:
        """Whether every runnable artifact is within its tolerance, and able."""
        return all(score.ok for score in self.task) and all(
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
    variants: Sequence[str] | None = (),
    held_out: Sequence[TaskEpisode] = (),
) -> CompileReport:
    """Write policy.tflite, .weights, .stablehlo, .hef.json, golden.json, spec.json.

    The spec is written last: a directory without it is no policy.

    Args:
        checkpoint: a `.hope` file.
        output_dir: made if absent; an older policy in it is replaced.
        control_rate_hz: ticks per second that the policy was trained for.
        golden_observations: `image` uint8 [T, h, w, 3], `proprio` float32 [T, P],
            `depth` [T, h, w], `instruction` [T, n] of an episode's start, as the
            network has them; None makes synthetic ones, labelled so.
        golden_origin: label of the given observations.
        name: model name for the spec.
        variants: also make `int8`, `fp16` (of the `.tflite`) or `onnx`; None makes
            ONNX and int8 where their packages are installed, and names what is not.
        held_out: episodes on which int8 must be about as good as float32.

    Raises:
        UsageError: no such variant; E-EXPORT-RATE-001, a rate of 0 Hz or less.
        DataError, ContractError: the checkpoint or the observations are refused.
        MissingPackageError: the converter or the interpreter is not installed.
    """
    if not 0 < control_rate_hz < math.inf:
        raise UsageError(
            "E-EXPORT-RATE-001",
            "a policy cannot run at this rate",
            where="control_rate_hz",
            seen=control_rate_hz,
            allowed="above 0 Hz, finite",
        )
    wanted, missing = available() if variants is None else (tuple(variants), {})
    made = chosen(wanted)
    loaded = load_checkpoint(checkpoint)
    inputs = golden_inputs(loaded.config, golden_observations)
    origin = "synthetic" if golden_observations is None else golden_origin
    lowered = lower(loaded)
    outputs = rollout(lowered, inputs)
    lean = lower_lean(loaded)
    litert, stablehlo = to_litert(lean.step, lean.fold), to_stablehlo(lowered)
    extras = _extras(loaded, litert, wanted)
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / "spec.json").unlink(missing_ok=True)
    for other in set(VARIANTS) - set(made):
        # Another checkpoint's artifact would be bundled as this one's.
        (output_dir / other.path).unlink(missing_ok=True)
    replace_file(output_dir / "policy.tflite", litert)
    replace_file(output_dir / "policy.stablehlo", stablehlo)
    for path, data in extras.items():
        replace_file(output_dir / path, data)
    replace_file(output_dir / "policy.hef.json", to_json(placeholder_record(loaded)))
    save_checkpoint(
        output_dir / "policy.weights",
        loaded.config,
        loaded.params,
        metadata={
            "checkpoint_sha256": loaded.sha256,
            "origin": loaded.metadata.get("origin"),
        },
    )
    golden = golden_record(loaded, inputs, outputs, origin=origin, tolerance=TOLERANCE)
    replace_file(output_dir / "golden.json", to_json(golden))
    spec = spec_record(
        loaded,
        lowered,
        output_dir,
        variants=made,
        name=name,
        control_rate_hz=control_rate_hz,
        fold_every=lean.every,
    )
    replace_file(output_dir / "spec.json", to_json(spec))
    runnable = [v.backend for v in made if v.tolerance and v.backend != "stablehlo"]
    errors = backend_errors(output_dir, runnable)
    seen = stablehlo_rollout(stablehlo, lowered, inputs)
    errors["stablehlo"] = scaled_error(seen, outputs)
    smaller = [v.backend for v in made if v.measure == "action"]
    return CompileReport(
        directory=output_dir,
        name=name,
        parameters=spec["parameters"],
        golden_origin=origin,
        golden_ticks=len(outputs["action"]),
        artifacts=tuple(_info(output_dir, variant, errors) for variant in made),
        missing=missing,
        task=task_scores(output_dir, smaller, held_out),
    )


def _extras(
    loaded: Checkpoint, litert: bytes, variants: Sequence[str]
) -> dict[str, bytes]:
    made: dict[str, bytes] = {}
    if "int8" in variants:
        made["policy.int8.tflite"] = to_int8(litert)
    if "fp16" in variants:
        made["policy.fp16.tflite"] = to_fp16(litert, layer_products(loaded))
    if "onnx" in variants:
        made["policy.onnx"] = to_onnx(loaded)
    return made


def _info(directory: Path, variant: Variant, errors: dict[str, float]) -> ArtifactInfo:
    path = directory / variant.path
    return ArtifactInfo(
        path=path,
        role="placeholder" if variant.is_placeholder else "policy",
        backend=variant.backend,
        bytes=path.stat().st_size,
        sha256=file_sha256(path),
        max_abs_error=errors.get(variant.backend),
        tolerance=variant.tolerance,
        precision=variant.precision,
        measure=variant.measure,
    )
