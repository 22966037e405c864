"""Verify a bundle directory. It raises, or what it returns may be run.

Order: signatures, statement, exact set of files, manifest, sizes, digests. Nothing of
a bundle is parsed before its signatures were checked but the envelope itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from continuon.bundle.envelope import check_signatures
from continuon.bundle.keys import VerifyingKey
from continuon.bundle.manifest import MANIFEST_NAME, Manifest
from continuon.bundle.manifest_codec import MAX_MANIFEST_BYTES, parse_manifest
from continuon.bundle.manifest_rules import SIGNATURE_NAME
from continuon.bundle.placeholder import check_placeholder
from continuon.bundle.safety import SafetyManifest, parse_safety
from continuon.bundle.statement import (
    MAX_SIGNATURE_BYTES,
    parse_signature,
    parse_statement,
)
from continuon.bundle.tree_io import FileFact, hash_file, read_file, scan_tree
from continuon.errors import ContractError, TrustError

__all__ = ["SignedStatement", "VerifiedBundle", "verify_bundle", "verify_signature"]

_MAX_SMALL_BYTES = 1 << 20


@attrs.frozen
class SignedStatement:
    """What a `model.sig` proves by itself, before any file was looked at."""

    bundle_id: str
    digests: Mapping[str, str]
    fingerprints: tuple[str, ...]
    algorithms: tuple[str, ...]


@attrs.frozen
class VerifiedBundle:
    """A bundle whose every byte is signed by enough trusted keys."""

    directory: Path
    bundle_id: str
    manifest: Manifest
    safety: SafetyManifest
    fingerprints: tuple[str, ...]
    algorithms: tuple[str, ...]
    threshold: int
    files: Mapping[str, str]
    total_bytes: int


def verify_signature(
    data: bytes,
    public_keys: Sequence[VerifyingKey],
    *,
    threshold: int = 1,
    where: str = SIGNATURE_NAME,
) -> SignedStatement:
    """Return what the bytes of a `model.sig` prove.

    Raises:
        TrustError: E-BUNDLE-SIG-... ; UsageError: E-BUNDLE-SIG-012.
    """
    envelope = parse_signature(data, where=where)
    signers = check_signatures(envelope, public_keys, threshold=threshold, where=where)
    return SignedStatement(
        hashlib.sha256(envelope.payload).hexdigest(),
        parse_statement(envelope.payload, where=where),
        tuple(key.fingerprint for key in signers),
        tuple(key.algorithm for key in signers),
    )


def verify_bundle(
    directory: Path, public_keys: Sequence[VerifyingKey], *, threshold: int = 1
) -> VerifiedBundle:
    """Return the verified bundle in `directory`.

    The directory must hold `edge_manifest.json`, `model.sig`, and exactly the signed
    files; `threshold` distinct ones of `public_keys` must have signed.

    Raises:
        TrustError: E-BUNDLE-SIG-... signatures and statement, E-BUNDLE-SET-... files,
            E-BUNDLE-MAN-... a signed manifest that is illegal all the same.
        UsageError: E-BUNDLE-SIG-012.
    """
    signature_path = directory / SIGNATURE_NAME
    facts = scan_tree(directory)
    if facts.pop(SIGNATURE_NAME, None) is None:
        raise TrustError(
            "E-BUNDLE-SIG-001",
            "the bundle is not signed",
            where=signature_path,
            hint="continuon bundle sign",
        )
    statement = verify_signature(
        read_file(signature_path, max_bytes=MAX_SIGNATURE_BYTES),
        public_keys,
        threshold=threshold,
        where=str(signature_path),
    )
    _check_set(facts, statement.digests, directory)
    manifest = _read_manifest(directory, statement.digests)
    _check_agreement(manifest, statement.digests, directory)
    small = {item.path for item in manifest.artifacts if item.role == "placeholder"}
    small.add(manifest.safety.path)
    contents: dict[str, bytes] = {}
    for path, (size, digest) in manifest.files().items():
        if path in small:
            data = read_file(directory / path, max_bytes=_MAX_SMALL_BYTES)
            contents[path] = data
            if len(data) != size:
                raise TrustError(
                    "E-BUNDLE-SET-007",
                    "a file has another size than was signed",
                    seen=f"{len(data)} bytes",
                    allowed=f"{size} bytes",
                    where=directory / path,
                )
            actual = hashlib.sha256(data).hexdigest()
        else:
            actual = hash_file(directory / path, expected_bytes=size)
        _check_digest(actual, digest, directory / path)
    safety = _read_small(manifest, contents, directory)
    return VerifiedBundle(
        directory,
        statement.bundle_id,
        manifest,
        safety,
        statement.fingerprints,
        statement.algorithms,
        threshold,
        statement.digests,
        sum(fact.bytes for fact in facts.values()),
    )


def _check_set(
    facts: Mapping[str, FileFact], digests: Mapping[str, str], directory: Path
) -> None:
    extra = sorted(set(facts) - set(digests))
    if extra:
        raise TrustError(
            "E-BUNDLE-SET-001",
            "the bundle holds a file that nobody signed",
            seen=extra[0],
            where=directory / extra[0],
        )
    missing = sorted(set(digests) - set(facts))
    if missing:
        raise TrustError(
            "E-BUNDLE-SET-002",
            "a signed file is missing",
            seen=missing[0],
            where=directory / missing[0],
        )


def _read_manifest(directory: Path, digests: Mapping[str, str]) -> Manifest:
    path = directory / MANIFEST_NAME
    if MANIFEST_NAME not in digests:
        raise TrustError(
            "E-BUNDLE-SET-008", "the bundle has no signed manifest", where=path
        )
    data = read_file(path, max_bytes=MAX_MANIFEST_BYTES)
    _check_digest(hashlib.sha256(data).hexdigest(), digests[MANIFEST_NAME], path)
    try:
        return parse_manifest(data, where=str(path))
    except ContractError as error:
        raise _as_trust(error) from error


def _check_agreement(
    manifest: Manifest, digests: Mapping[str, str], directory: Path
) -> None:
    listed = {path: digest for path, (_, digest) in manifest.files().items()}
    signed = {path: digests[path] for path in digests if path != MANIFEST_NAME}
    if listed != signed:
        differing = sorted(dict(listed.items() ^ signed.items()))
        raise TrustError(
            "E-BUNDLE-SET-008",
            "manifest and signature list different files",
            seen=", ".join(differing[:4]),
            allowed="every file in both, with one digest",
            where=directory,
        )


def _read_small(
    manifest: Manifest, contents: Mapping[str, bytes], directory: Path
) -> SafetyManifest:
    try:
        for artifact in manifest.artifacts:
            if artifact.role == "placeholder":
                check_placeholder(contents[artifact.path], path=artifact.path)
        path = manifest.safety.path
        safety = parse_safety(contents[path], where=str(directory / path))
    except ContractError as error:
        raise _as_trust(error) from error
    if safety.base_rule_version != manifest.safety.min_base_rule_version:
        raise TrustError(
            "E-BUNDLE-SAFE-004",
            "manifest and safety file name different base-rule versions",
            seen=safety.base_rule_version,
            allowed=manifest.safety.min_base_rule_version,
            where=directory / path,
        )
    return safety


def _check_digest(actual: str, expected: str, path: Path) -> None:
    if actual != expected:
        raise TrustError(
            "E-BUNDLE-SET-003",
            "a file's bytes are not the signed ones",
            seen=actual,
            allowed=expected,
            where=path,
        )


def _as_trust(error: ContractError) -> TrustError:
    return TrustError(
        error.code,
        error.what,
        seen=error.seen,
        allowed=error.allowed,
        where=error.where,
        hint=error.hint,
    )
