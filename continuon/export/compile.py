"""Checkpoint in, directory of artifacts out, each one measured against JAX."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy as np

from continuon.edge.golden import GOLDEN_FILE, Golden, encode_array, replay_error
from continuon.edge.policy import load_policy
from continuon.edge.spec import SPEC_FILE, Artifact, PolicySpec, TensorSpec
from continuon.export.files import write_file
from continuon.export.litert import to_litert
from continuon.export.lowering import Lowered, lower, rollout
from continuon.export.observations import golden_inputs
from continuon.export.stablehlo import stablehlo_rollout, to_stablehlo
from continuon.hope.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from continuon.hope.config import digest
from continuon.hope.parameters import count_parameters

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
    golden = Golden(
        origin=origin,
        inputs={key: encode_array(value) for key, value in inputs.items()},
        outputs={key: encode_array(value) for key, value in outputs.items()},
        tolerance=TOLERANCE,
        config_digest=digest(loaded.config),
    )
    litert, stablehlo = to_litert(lowered), to_stablehlo(lowered)
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / SPEC_FILE).unlink(missing_ok=True)
    write_file(output_dir / "policy.tflite", litert)
    write_file(output_dir / "policy.stablehlo", stablehlo)
    write_file(output_dir / "policy.hef.json", _placeholder(loaded))
    save_checkpoint(
        output_dir / "policy.weights",
        loaded.config,
        loaded.params,
        metadata={"checkpoint_sha256": loaded.sha256},
    )
    golden_json = msgspec.json.encode(golden)
    write_file(output_dir / GOLDEN_FILE, golden_json)
    spec = attrs.evolve(
        _spec(loaded, lowered, name=name, control_rate_hz=control_rate_hz),
        golden_sha256=hashlib.sha256(golden_json).hexdigest(),
        artifacts=_artifacts(output_dir),
    )
    write_file(output_dir / SPEC_FILE, msgspec.json.format(msgspec.json.encode(spec)))
    errors = {
        "stablehlo": _error(stablehlo_rollout(stablehlo, lowered, inputs), outputs)
    }
    for backend in ("litert", "numpy"):
        errors[backend] = replay_error(
            load_policy(output_dir, backend=backend), golden
        )[0]
    infos = [
        ArtifactInfo(
            path=output_dir / artifact.path,
            role="placeholder" if artifact.is_placeholder else "policy",
            backend=artifact.backend,
            bytes=artifact.bytes,
            sha256=artifact.sha256,
            max_abs_error=errors.get(artifact.backend),
            tolerance=TOLERANCE if artifact.backend in errors else None,
        )
        for artifact in spec.artifacts
    ]
    ticks = len(outputs["action"])
    return CompileReport(output_dir, name, spec.parameters, origin, ticks, tuple(infos))


def _artifacts(directory: Path) -> tuple[Artifact, ...]:
    files = (
        ("policy.tflite", "litert", False),
        ("policy.weights", "numpy", False),
        ("policy.stablehlo", "stablehlo", False),
        ("policy.hef.json", "hailo", True),
    )
    artifacts = []
    for path, backend, is_placeholder in files:
        data = (directory / path).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        artifacts.append(Artifact(path, backend, len(data), sha256, is_placeholder))
    return tuple(artifacts)


def _spec(
    loaded: Checkpoint, lowered: Lowered, *, name: str, control_rate_hz: float
) -> PolicySpec:
    config = loaded.config
    return PolicySpec(
        name=name,
        image_height=config.image_height,
        image_width=config.image_width,
        proprio=config.proprio,
        action=config.action,
        use_previous_action=config.use_previous_action,
        control_rate_hz=control_rate_hz,
        state={
            key: TensorSpec(value.shape, str(value.dtype))
            for key, value in lowered.state.items()
        },
        config_digest=digest(config),
        checkpoint_sha256=loaded.sha256,
        golden_sha256="",
        artifacts=(),
        parameters=count_parameters(loaded.params),
    )


def _placeholder(loaded: Checkpoint) -> bytes:
    facts = {
        "kind": "hef-placeholder",
        "is_placeholder": True,
        "loadable": False,
        "target": "hailo-8",
        "reason": "no Hailo compiler was present; a HEF needs static int8, which only "
        "the stateless image encoder can take",
        "checkpoint_sha256": loaded.sha256,
    }
    return msgspec.json.format(msgspec.json.encode(facts))


def _error(seen: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    return max(
        float(np.max(np.abs(seen[key] - right)) / max(1.0, np.abs(right).max()))
        for key, right in expected.items()
    )
