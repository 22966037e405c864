"""Prove that a bundle directory is what enough trusted keys signed.

Order: signatures, statement, exact set of files, manifest, sizes, digests. Nothing of
a bundle is parsed before its signatures were checked but the envelope itself.

Plain values and no path objects: `continuon bundle verify` needs nothing more, and
loading what makes typed values would cost it more than hashing 100 MB leaves over
(decision 0207). `verify` makes them of the same proof.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from continuon.bundle.envelope import check_signatures
from continuon.bundle.keys import VerifyingKey
from continuon.bundle.manifest_read import (
    MAX_MANIFEST_BYTES,
    PlainManifest,
    PlainSafety,
    read_manifest,
    read_safety,
)
from continuon.bundle.manifest_rules import listed_files
from continuon.bundle.manifest_shape import MANIFEST_NAME, SIGNATURE_NAME
from continuon.bundle.placeholder import check_placeholder
from continuon.bundle.statement import (
    MAX_SIGNATURE_BYTES,
    parse_signature,
    parse_statement,
)
from continuon.bundle.tree_io import AnyPath, hash_file, read_file, scan_tree
from continuon.errors import ContractError, TrustError

if TYPE_CHECKING:
    from continuon.bundle.manifest import Manifest

__all__ = ["Proof", "SignedStatement", "prove_bundle", "verify_signature"]

_MAX_SMALL_BYTES = 1 << 20


class SignedStatement(NamedTuple):
    """What a `model.sig` proves by itself, before any file was looked at."""

    bundle_id: str
    digests: Mapping[str, str]
    fingerprints: tuple[str, ...]
    algorithms: tuple[str, ...]


class Proof(NamedTuple):
    """A bundle whose every byte is signed by enough trusted keys."""

    statement: SignedStatement
    manifest: PlainManifest
    safety: PlainSafety
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


def prove_bundle(
    directory: AnyPath, public_keys: Sequence[VerifyingKey], *, threshold: int = 1
) -> Proof:
    """Return the proof for the bundle in `directory`, or raise.

    Raises:
        TrustError: E-BUNDLE-SIG-... signatures and statement, E-BUNDLE-SET-... files,
            E-BUNDLE-MAN-... a signed manifest that is illegal all the same.
        UsageError: E-BUNDLE-SIG-012.
    """
    root = os.fspath(directory)
    signature_path = f"{root}/{SIGNATURE_NAME}"
    sizes = scan_tree(root)
    if sizes.pop(SIGNATURE_NAME, None) is None:
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
        where=signature_path,
    )
    _check_set(sizes, statement.digests, root)
    manifest = _read_manifest(root, statement.digests)
    _check_agreement(manifest.values, statement.digests, root)
    contents = _check_files(manifest.values, root)
    safety = _read_small(manifest.values, contents, root)
    return Proof(statement, manifest, safety, sum(sizes.values()))


def _check_files(manifest: Manifest, directory: str) -> dict[str, bytes]:
    """Check sizes and digests; return the contents of what is parsed afterwards."""
    small = {item.path for item in manifest.artifacts if item.role == "placeholder"}
    small.add(manifest.safety.path)
    contents: dict[str, bytes] = {}
    for name, (size, digest) in listed_files(manifest).items():
        path = f"{directory}/{name}"
        if name in small:
            data = read_file(path, max_bytes=_MAX_SMALL_BYTES)
            contents[name] = data
            if len(data) != size:
                raise TrustError(
                    "E-BUNDLE-SET-007",
                    "a file has another size than was signed",
                    seen=f"{len(data)} bytes",
                    allowed=f"{size} bytes",
                    where=path,
                )
            actual = hashlib.sha256(data).hexdigest()
        else:
            actual = hash_file(path, expected_bytes=size)
        _check_digest(actual, digest, path)
    return contents


def _check_set(
    sizes: Mapping[str, int], digests: Mapping[str, str], directory: str
) -> None:
    extra = sorted(set(sizes) - set(digests))
    if extra:
        raise TrustError(
            "E-BUNDLE-SET-001",
            "the bundle holds a file that nobody signed",
            seen=extra[0],
            where=f"{directory}/{extra[0]}",
        )
    missing = sorted(set(digests) - set(sizes))
    if missing:
        raise TrustError(
            "E-BUNDLE-SET-002",
            "a signed file is missing",
            seen=missing[0],
            where=f"{directory}/{missing[0]}",
        )


def _read_manifest(directory: str, digests: Mapping[str, str]) -> PlainManifest:
    path = f"{directory}/{MANIFEST_NAME}"
    if MANIFEST_NAME not in digests:
        raise TrustError(
            "E-BUNDLE-SET-008", "the bundle has no signed manifest", where=path
        )
    data = read_file(path, max_bytes=MAX_MANIFEST_BYTES)
    _check_digest(hashlib.sha256(data).hexdigest(), digests[MANIFEST_NAME], path)
    try:
        return read_manifest(data, where=path)
    except ContractError as error:
        raise _as_trust(error) from error


def _check_agreement(
    manifest: Manifest, digests: Mapping[str, str], directory: str
) -> None:
    listed = {path: digest for path, (_, digest) in listed_files(manifest).items()}
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
    manifest: Manifest, contents: Mapping[str, bytes], directory: str
) -> PlainSafety:
    try:
        for artifact in manifest.artifacts:
            if artifact.role == "placeholder":
                check_placeholder(contents[artifact.path], path=artifact.path)
        path = manifest.safety.path
        safety = read_safety(contents[path], where=f"{directory}/{path}")
    except ContractError as error:
        raise _as_trust(error) from error
    if safety.values.base_rule_version != manifest.safety.min_base_rule_version:
        raise TrustError(
            "E-BUNDLE-SAFE-004",
            "manifest and safety file name different base-rule versions",
            seen=safety.values.base_rule_version,
            allowed=manifest.safety.min_base_rule_version,
            where=f"{directory}/{path}",
        )
    return safety


def _check_digest(actual: str, expected: str, path: str) -> None:
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
