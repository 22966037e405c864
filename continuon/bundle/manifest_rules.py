"""Which manifests are legal: ranges, references, digests, names."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from continuon.bundle.manifest_shape import (
    MANIFEST_NAME,
    ORIGINS,
    SCHEMA,
    SENSES,
    SIGNATURE_NAME,
)
from continuon.bundle.paths import (
    check_paths_distinct,
    check_relative_path,
    is_hex_digest,
)
from continuon.bundle.semver_text import split_version
from continuon.errors import ContractError

if TYPE_CHECKING:
    from continuon.bundle.manifest import Artifact, Evidence, Manifest

__all__ = ["DELTA_CODECS", "check_manifest", "listed_files"]

DELTA_CODECS = ("zstd-prefix", "xor-shuffle-zstd")
MAX_FILES = 4096
MAX_FILE_BYTES = 64 << 30
WIDEST_SHADOW = 2.0
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_NAME = _FIRST | frozenset("._-")
_WORD = _NAME | frozenset("+")
_MAX_WORD = 64
_RESERVED = frozenset({MANIFEST_NAME, SIGNATURE_NAME})


def listed_files(manifest: Manifest) -> dict[str, tuple[int, str]]:
    """Return {path: (bytes, sha256)} of every file that the manifest names."""
    return {item.path: (item.bytes, item.sha256) for item in _listed(manifest)}


def check_manifest(manifest: Manifest, *, where: str = MANIFEST_NAME) -> Manifest:
    """Return the manifest if it is legal; only its attributes are looked at.

    Raises:
        ContractError: E-BUNDLE-MAN-003 schema, -004 and -005 paths, -006 a reference
            to a file that is not listed, -007 a value out of range, -008 a placeholder
            as a backend, -009 a malformed digest, -010 an origin, E-BUNDLE-VER-001.
    """
    if manifest.schema != SCHEMA:
        raise ContractError(
            "E-BUNDLE-MAN-003",
            "the manifest follows a schema that this version does not read",
            seen=manifest.schema,
            allowed=SCHEMA,
            where=where,
        )
    _check_head(manifest, where)
    _check_files(manifest, where)
    _check_backends(manifest, where)
    _check_gate(manifest, where)
    return manifest


def _check_head(manifest: Manifest, where: str) -> None:
    split_version(manifest.version, where=f"{where} version")
    _require(
        _is_word(manifest.model_name, _NAME),
        where,
        "model_name",
        manifest.model_name,
        "1 to 64 lower-case letters, digits and . _ -",
    )
    _require(
        0 <= manifest.release_counter < 1 << 31,
        where,
        "release_counter",
        manifest.release_counter,
        "0 to 2^31 - 1",
    )
    _require(
        0 < manifest.created_at_unix_ms < 1 << 43,
        where,
        "created_at_unix_ms",
        manifest.created_at_unix_ms,
        "a Unix time in milliseconds",
    )
    _require(
        0 < len(manifest.source) <= 200 and manifest.source.isprintable(),
        where,
        "source",
        manifest.source,
        "1 to 200 printable characters",
    )
    origins = manifest.origins
    if not origins or len(set(origins)) != len(origins) or set(origins) - set(ORIGINS):
        raise ContractError(
            "E-BUNDLE-MAN-010",
            "the origin of the training data is missing or unknown",
            seen=", ".join(origins) or "none",
            allowed="one or more of " + ", ".join(ORIGINS),
            where=f"{where} origins",
        )
    compat = manifest.compat
    split_version(compat.library_min, where=f"{where} compat.library_min")
    if compat.library_below is not None:
        split_version(compat.library_below, where=f"{where} compat.library_below")
    rate_hz = compat.control_rate_hz
    _require(
        rate_hz is None or (math.isfinite(rate_hz) and 0 < rate_hz <= 1000),
        where,
        "compat.control_rate_hz",
        rate_hz,
        "above 0, at most 1000",
    )
    _require(
        0 <= compat.min_free_bytes < 1 << 50,
        where,
        "compat.min_free_bytes",
        compat.min_free_bytes,
        "0 to 2^50",
    )
    senses = compat.senses
    _require(
        len(set(senses)) == len(senses) and not set(senses) - set(SENSES),
        where,
        "compat.senses",
        ", ".join(senses),
        "some of " + ", ".join(SENSES) + ", each once",
    )
    for name in ("observation_sha256", "action_sha256", "base_bundle"):
        digest = getattr(compat, name)
        if digest is not None:
            _check_digest(digest, f"{where} compat.{name}")


def _check_files(manifest: Manifest, where: str) -> None:
    listed = _listed(manifest)
    _require(
        0 < len(listed) <= MAX_FILES and len(manifest.artifacts) > 0,
        where,
        "artifacts",
        len(listed),
        f"1 to {MAX_FILES} files, one artifact at least",
    )
    for item in listed:
        check_relative_path(item.path, where=f"{where} {item.path!r}")
        _check_digest(item.sha256, f"{where} {item.path!r}")
        _require(
            0 <= item.bytes <= MAX_FILE_BYTES,
            where,
            f"bytes of {item.path!r}",
            item.bytes,
            f"0 to {MAX_FILE_BYTES}",
        )
    check_paths_distinct(
        [*_RESERVED, *(item.path for item in listed)], where=f"{where} paths"
    )
    words = [item.role for item in manifest.artifacts]
    words += [item.backend for item in manifest.artifacts if item.backend is not None]
    words += [item.kind for item in manifest.evidence]
    for word in words:
        _require(
            _is_word(word, _WORD),
            where,
            "role, backend or kind",
            word,
            "a lower-case word of at most 64 characters",
        )
    for delta in manifest.deltas:
        _check_reference(manifest, delta.path, f"{where} deltas")
        _check_digest(delta.from_sha256, f"{where} deltas")
        _check_digest(delta.sha256, f"{where} deltas")
        _require(
            delta.codec in DELTA_CODECS and 0 < delta.bytes <= MAX_FILE_BYTES,
            where,
            f"deltas of {delta.path!r}",
            f"{delta.codec}, {delta.bytes} bytes",
            "a codec of " + ", ".join(DELTA_CODECS) + " and a size above 0",
        )


def _check_backends(manifest: Manifest, where: str) -> None:
    names = [backend.name for backend in manifest.backends]
    artifacts = {item.path: item for item in manifest.artifacts}
    _require(
        bool(names) and len(set(names)) == len(names),
        where,
        "backends",
        ", ".join(names) or "none",
        "at least one, each name once",
    )
    for backend in manifest.backends:
        place = f"{where} backends.{backend.name}"
        _check_reference(manifest, backend.artifact, place)
        _check_reference(manifest, backend.golden, place)
        artifact = artifacts[backend.artifact]
        if artifact.role == "placeholder":
            raise ContractError(
                "E-BUNDLE-MAN-008",
                "a placeholder is listed as a backend that could be run",
                seen=backend.artifact,
                allowed="an artifact with bytes that a runtime loads",
                where=place,
            )
        _require(
            artifact.backend == backend.name,
            where,
            f"backends.{backend.name}.artifact",
            f"made for {artifact.backend}",
            backend.name,
        )
        for name in ("tolerance", "latency_budget_ms"):
            value = getattr(backend, name)
            _require(
                math.isfinite(value) and value > 0,
                where,
                f"backends.{backend.name}.{name}",
                value,
                "finite, above 0",
            )
    safety = manifest.safety
    _check_digest(safety.sha256, f"{where} safety")
    _check_reference(manifest, safety.path, f"{where} safety")
    _require(
        artifacts[safety.path].sha256 == safety.sha256
        and safety.min_base_rule_version >= 1,
        where,
        "safety",
        f"{safety.sha256}, base rules {safety.min_base_rule_version}",
        "the digest of the listed file, a base-rule version from 1",
    )


def _check_gate(manifest: Manifest, where: str) -> None:
    gate = manifest.health_gate
    for name in ("golden_max_error", "latency_p99_ms", "timeout_s"):
        value = getattr(gate, name)
        _require(
            math.isfinite(value) and value > 0,
            where,
            f"health_gate.{name}",
            value,
            "finite, above 0",
        )
    _require(
        0 < gate.soak_ticks < 1 << 31,
        where,
        "health_gate.soak_ticks",
        gate.soak_ticks,
        "at least 1",
    )
    _require(
        0 <= gate.max_veto_fraction < 1,
        where,
        "health_gate.max_veto_fraction",
        gate.max_veto_fraction,
        "0 to below 1",
    )
    for name in ("max_shadow_mean", "max_shadow_peak"):
        value = getattr(gate, name)
        _require(
            0 < value <= WIDEST_SHADOW,
            where,
            f"health_gate.{name}",
            value,
            f"above 0, at most {WIDEST_SHADOW:g}: the whole range of an action",
        )


def _listed(manifest: Manifest) -> tuple[Artifact | Evidence, ...]:
    return (*manifest.artifacts, *manifest.evidence)


def _is_word(text: str, letters: frozenset[str]) -> bool:
    return 0 < len(text) <= _MAX_WORD and text[0] in _FIRST and letters.issuperset(text)


def _check_reference(manifest: Manifest, path: str, where: str) -> None:
    if path not in {item.path for item in manifest.artifacts}:
        raise ContractError(
            "E-BUNDLE-MAN-006",
            "the manifest refers to a file that it does not list",
            seen=path,
            allowed="the path of one of its artifacts",
            where=where,
        )


def _check_digest(digest: str, where: str) -> None:
    if not is_hex_digest(digest):
        raise ContractError(
            "E-BUNDLE-MAN-009",
            "this is no SHA-256 digest",
            seen=repr(digest),
            allowed="64 lower-case hex digits",
            where=where,
        )


def _require(ok: bool, where: str, name: str, seen: object, allowed: str) -> None:  # noqa: FBT001
    if not ok:
        raise ContractError(
            "E-BUNDLE-MAN-007",
            f"{name} is out of range",
            seen=seen,
            allowed=allowed,
            where=where,
        )
