"""Sign a bundle directory: one `model.sig`, one or more keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import attrs

from continuon.bundle.envelope import seal
from continuon.bundle.keys import SigningKey
from continuon.bundle.manifest import MANIFEST_NAME
from continuon.bundle.manifest_codec import MAX_MANIFEST_BYTES, parse_manifest
from continuon.bundle.manifest_shape import SIGNATURE_NAME
from continuon.bundle.statement import PAYLOAD_TYPE, build_statement, dump_signature
from continuon.bundle.tree_io import hash_file, read_file, scan_tree
from continuon.durable import replace_file
from continuon.errors import UsageError

__all__ = ["SignedBundle", "sign_bundle"]


@attrs.frozen
class SignedBundle:
    """What was signed. `bundle_id` is SHA-256 over the signed payload."""

    directory: Path
    bundle_id: str
    fingerprints: tuple[str, ...]
    algorithms: tuple[str, ...]
    files: int
    signature_bytes: int


def sign_bundle(directory: Path, private_keys: Sequence[SigningKey]) -> SignedBundle:
    """Write `model.sig` over every file of the bundle, replacing an older one.

    The first key must be ECDSA P-256, so that the stock `model_signing` tool can check
    what we sign; Ed25519 and ML-DSA-65 keys may follow.

    Raises:
        UsageError: E-BUNDLE-KEY-007 keys, E-BUNDLE-KEY-008 their order.
        ContractError: the manifest is not legal; an illegal bundle is never signed.
        TrustError: E-BUNDLE-SET-..., the directory holds what cannot be signed.
    """
    if private_keys and private_keys[0].public.algorithm != "ecdsa-p256":
        raise UsageError(
            "E-BUNDLE-KEY-008",
            "the first signature must be ECDSA P-256",
            seen=private_keys[0].public.algorithm,
            hint="give the P-256 key first; others may follow",
        )
    facts = scan_tree(directory)
    facts.pop(SIGNATURE_NAME, None)
    manifest_path = directory / MANIFEST_NAME
    manifest = parse_manifest(read_file(manifest_path, max_bytes=MAX_MANIFEST_BYTES))
    digests = {path: hash_file(directory / path) for path in facts}
    payload = build_statement(manifest.model_name, digests)
    envelope = seal(payload, PAYLOAD_TYPE, private_keys)
    data = dump_signature(envelope)
    replace_file(directory / SIGNATURE_NAME, data)
    return SignedBundle(
        directory,
        hashlib.sha256(payload).hexdigest(),
        tuple(key.public.fingerprint for key in private_keys),
        tuple(key.public.algorithm for key in private_keys),
        len(digests),
        len(data),
    )
