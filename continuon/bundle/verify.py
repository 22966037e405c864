"""Verify a bundle directory. It raises, or what it returns may be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from continuon.bundle.keys import VerifyingKey
from continuon.bundle.manifest import Manifest
from continuon.bundle.proof import SignedStatement, prove_bundle, verify_signature
from continuon.bundle.safety import SafetyManifest
from continuon.bundle.structure import structure

__all__ = ["SignedStatement", "VerifiedBundle", "verify_bundle", "verify_signature"]


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
    proof = prove_bundle(directory, public_keys, threshold=threshold)
    statement = proof.statement
    where = str(directory)
    return VerifiedBundle(
        directory,
        statement.bundle_id,
        structure(proof.manifest.plain, Manifest, where=where),
        structure(proof.safety.plain, SafetyManifest, where=where),
        statement.fingerprints,
        statement.algorithms,
        threshold,
        statement.digests,
        proof.total_bytes,
    )
