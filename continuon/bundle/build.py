"""Put artifacts, evidence and limits together into one reproducible directory.

The same inputs give the same bytes: no clock is read, names are sorted, modes are
fixed, and the manifest is canonical JSON.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from continuon.bundle.canonical import parse_strict
from continuon.bundle.manifest import (
    MANIFEST_NAME,
    Artifact,
    Backend,
    Compat,
    Delta,
    Evidence,
    HealthGate,
    Manifest,
    SafetyReference,
)
from continuon.bundle.manifest_codec import dump_manifest
from continuon.bundle.placeholder import PLACEHOLDER_SUFFIX, check_placeholder
from continuon.bundle.safety import CAR_BASE_RULES, SafetyManifest, dump_safety
from continuon.bundle.sbom import SBOM_NAME, bill_of_materials
from continuon.bundle.tree_io import hash_file, read_file, scan_tree
from continuon.durable import sync_directory
from continuon.errors import DataError, UsageError

__all__ = ["BundleInfo", "build_bundle"]

SAFETY_NAME = "safety.json"
GOLDEN_NAME = "golden.json"
SPEC_NAME = "spec.json"
EVIDENCE_DIR = "evidence"
PREFERENCE = ("litert", "onnxruntime", "numpy", "litert-fp16", "litert-int8")
"""Weights of 8 or 16 bits are another network: last, unless the maker says so."""

_TOLERANCES = {"litert-fp16": 2e-3, "litert-int8": 0.02}
DEFAULT_HEALTH_GATE = HealthGate(
    golden_max_error=1e-3,
    latency_p99_ms=20.0,
    soak_ticks=250,
    timeout_s=60.0,
    max_veto_fraction=0.05,
)
_KNOWN = {
    "policy.tflite": ("policy", "litert"),
    "policy.int8.tflite": ("policy", "litert-int8"),
    "policy.fp16.tflite": ("policy", "litert-fp16"),
    "policy.onnx": ("policy", "onnxruntime"),
    "policy.weights": ("policy", "numpy"),
    "policy.hef": ("policy", "hailo"),
    "policy.stablehlo": ("lowering", None),
    SPEC_NAME: ("spec", None),
    GOLDEN_NAME: ("golden", None),
}


@attrs.frozen
class BundleInfo:
    """A bundle that was built and is not yet signed."""

    directory: Path
    manifest: Manifest
    manifest_bytes: int
    total_bytes: int


def build_bundle(
    output_dir: Path,
    *,
    artifacts_dir: Path,
    model_name: str,
    version: str,
    release_counter: int,
    source: str,
    created_at_unix_ms: int,
    origins: Sequence[str],
    compat: Compat | None = None,
    evidence: Mapping[str, Path] | Sequence[Path] = (),
    safety: SafetyManifest = CAR_BASE_RULES,
    health_gate: HealthGate = DEFAULT_HEALTH_GATE,
    tolerances: Mapping[str, float] | None = None,
    latency_budgets_ms: Mapping[str, float] | None = None,
    backends: Sequence[str] | None = None,
    deltas: Sequence[Delta] = (),
    packages: Mapping[str, str] | None = None,
    safety_critical: bool = False,
    replace: bool = False,
) -> BundleInfo:
    """Write a bundle directory and return its manifest.

    `output_dir` is written as a whole or not at all; with `replace` it takes an older
    one's place. `artifacts_dir` is what `continuon compile` wrote and must hold
    `golden.json`; what the policy is given is read from its
    `spec.json`. `evidence` is copied to `evidence/`, by kind or with each file's stem
    as its kind. `tolerances` (largest absolute golden error) and `latency_budgets_ms`
    are per backend, and default to the health gate's bounds. `backends` is the order of
    preference: LiteRT, ONNX Runtime, numpy, then 16 and 8 bits unless given. `packages`
    (name to version) are what it was made with; with them the evidence holds a bill of
    materials.

    Raises:
        UsageError: E-BUNDLE-BUILD-001, the directory is there already; -003, it is no
            bundle that could be replaced.
        DataError: E-BUNDLE-BUILD-002, the artifacts lack something; E-BUNDLE-SPEC-001,
            their spec is none.
        ContractError: E-BUNDLE-MAN-..., the manifest would be illegal.
    """
    if output_dir.exists() and not replace:
        raise UsageError(
            "E-BUNDLE-BUILD-001",
            "the bundle directory is there already",
            where=output_dir,
            hint="choose another one, or ask for it to be replaced",
        )
    if output_dir.exists() and not _is_bundle(output_dir):
        raise UsageError(
            "E-BUNDLE-BUILD-003",
            "what would be replaced is no bundle",
            where=output_dir,
            allowed=f"a folder with {MANIFEST_NAME}, or an empty one",
            hint="choose another folder; nothing was deleted",
        )
    temporary = output_dir.with_name(f".{output_dir.name}.building")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    with _scratch(temporary):
        artifacts = list(_copy_artifacts(artifacts_dir, temporary))
        safety_path = temporary / SAFETY_NAME
        safety_path.write_bytes(dump_safety(safety))
        safety_digest = hash_file(safety_path)
        artifacts.append(
            Artifact(
                path=SAFETY_NAME,
                role="safety",
                backend=None,
                bytes=safety_path.stat().st_size,
                sha256=safety_digest,
            )
        )
        bill = (
            None
            if packages is None
            else bill_of_materials(model_name, version, artifacts, packages)
        )
        manifest = Manifest(
            model_name=model_name,
            version=version,
            release_counter=release_counter,
            created_at_unix_ms=created_at_unix_ms,
            source=source,
            origins=tuple(sorted(set(origins))),
            compat=_with_senses(compat or Compat(), artifacts_dir),
            artifacts=tuple(sorted(artifacts, key=lambda item: item.path)),
            backends=tuple(
                _backends(
                    artifacts,
                    health_gate,
                    tolerances or {},
                    latency_budgets_ms or {},
                    PREFERENCE if backends is None else tuple(backends),
                )
            ),
            safety=SafetyReference(
                path=SAFETY_NAME,
                sha256=safety_digest,
                min_base_rule_version=safety.base_rule_version,
            ),
            health_gate=health_gate,
            evidence=_all_evidence(temporary, evidence, bill),
            deltas=tuple(deltas),
            safety_critical=safety_critical,
        )
        data = dump_manifest(manifest)
        (temporary / MANIFEST_NAME).write_bytes(data)
        for path in scan_tree(temporary):
            (temporary / path).chmod(0o644)
        _publish(temporary, output_dir)
    return BundleInfo(output_dir, manifest, len(data), manifest.total_bytes + len(data))


@contextmanager
def _scratch(folder: Path) -> Iterator[None]:
    """Leave nothing of a folder that did not get its name."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _with_senses(compat: Compat, artifacts_dir: Path) -> Compat:
    """Return it with what the policy is given by its own spec, where it has one."""
    path = artifacts_dir / SPEC_NAME
    if not path.exists():
        return compat
    spec = parse_strict(read_file(path, max_bytes=1 << 20), where=SPEC_NAME)
    if not isinstance(spec, dict):
        raise DataError(
            "E-BUNDLE-SPEC-001",
            "the policy's spec does not say what the policy is given",
            where=path,
            seen=type(spec).__name__,
            allowed="a JSON object",
            hint="compile the policy again",
        )
    told = {
        "depth": "depth_height",
        "image": "image_height",
        "instruction": "instruction_size",
        "proprio": "proprio",
    }
    senses = tuple(name for name, size in told.items() if spec.get(size))
    return attrs.evolve(compat, senses=senses)


def _is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST_NAME).is_file() or (
        folder.is_dir() and not any(folder.iterdir())
    )


def _copy_artifacts(source: Path, target: Path) -> Iterator[Artifact]:
    facts = scan_tree(source)
    if GOLDEN_NAME not in facts:
        raise DataError(
            "E-BUNDLE-BUILD-002",
            "the artifacts have no golden inputs and outputs",
            where=source / GOLDEN_NAME,
            hint="continuon compile writes them beside the artifacts",
        )
    for path in sorted(facts):
        _copy(source / path, target / path)
        role, backend = _KNOWN.get(path, ("data", None))
        if path.endswith(PLACEHOLDER_SUFFIX):
            check_placeholder(read_file(source / path, max_bytes=1 << 16), path=path)
            role, backend = "placeholder", "hailo"
        yield Artifact(
            path=path,
            role=role,
            backend=backend,
            bytes=facts[path],
            sha256=hash_file(target / path, expected_bytes=facts[path]),
        )


def _all_evidence(
    target: Path, evidence: Mapping[str, Path] | Sequence[Path], bill: bytes | None
) -> tuple[Evidence, ...]:
    found = _copy_evidence(evidence, target)
    if bill is not None:
        path = target / EVIDENCE_DIR / SBOM_NAME
        if path.exists():
            raise DataError(
                "E-BUNDLE-BUILD-002",
                "evidence is missing, or two files have one name",
                where=SBOM_NAME,
            )
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bill)
        name = f"{EVIDENCE_DIR}/{SBOM_NAME}"
        size, digest = len(bill), hash_file(path)
        found.append(Evidence(kind="sbom", path=name, bytes=size, sha256=digest))
    return tuple(sorted(found, key=lambda item: item.path))


def _copy_evidence(
    evidence: Mapping[str, Path] | Sequence[Path], target: Path
) -> list[Evidence]:
    pairs = (
        sorted(evidence.items())
        if isinstance(evidence, Mapping)
        else [(_kind(path), path) for path in sorted(evidence)]
    )
    found = []
    for kind, source in pairs:
        path = f"{EVIDENCE_DIR}/{source.name}"
        if (target / path).exists() or not source.is_file():
            raise DataError(
                "E-BUNDLE-BUILD-002",
                "evidence is missing, or two files have one name",
                where=source,
            )
        _copy(source, target / path)
        size = (target / path).stat().st_size
        digest = hash_file(target / path)
        found.append(Evidence(kind=kind, path=path, bytes=size, sha256=digest))
    return sorted(found, key=lambda item: item.path)


def _backends(
    artifacts: Sequence[Artifact],
    gate: HealthGate,
    tolerances: Mapping[str, float],
    budgets_ms: Mapping[str, float],
    order: Sequence[str],
) -> Iterator[Backend]:
    policies = {item.backend: item for item in artifacts if item.role == "policy"}
    for name in order:
        if name in policies:
            yield Backend(
                name=name,
                artifact=policies[name].path,
                golden=GOLDEN_NAME,
                tolerance=tolerances.get(
                    name, _TOLERANCES.get(name, gate.golden_max_error)
                ),
                latency_budget_ms=budgets_ms.get(name, gate.latency_p99_ms),
            )


def _kind(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-") or "file"


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


def _publish(temporary: Path, output_dir: Path) -> None:
    """Make the tree durable, then give it its name."""
    for path in (*temporary.rglob("*"), temporary):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if output_dir.exists():
        shutil.rmtree(output_dir)
    temporary.rename(output_dir)
    sync_directory(output_dir.parent)
