"""The manifest of an export: relative paths, digests, a package id, a signature."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import attrs
import msgspec

import continuon
from continuon.durable import replace_file
from continuon.errors import DataError, TrustError
from continuon.rlds.file_sink import sha256_of
from continuon.rlds.plan_episode import is_inside
from continuon.rlds.recorder import RecordingSummary
from continuon.rlds.tfds_write import Skipped

__all__ = [
    "MANIFEST",
    "SIGNATURE",
    "Packed",
    "Signer",
    "VerifiedExport",
    "Verifier",
    "verify_export",
    "write_manifest",
]

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
_DAY_NS = 86_400 * 1_000_000_000


class Verifier(Protocol):
    """A public key: what `continuon.bundle` calls a verifying key."""

    @property
    def algorithm(self) -> str:
        """Return the name of its algorithm."""
        ...

    @property
    def fingerprint(self) -> str:
        """Return its SHA-256 as hex."""
        ...

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if it signed the message, else raise TrustError."""
        ...


class Signer(Protocol):
    """A private key: what `continuon.bundle` calls a signing key."""

    @property
    def public(self) -> Verifier:
        """Return its public half."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return a signature."""
        ...


@attrs.frozen(kw_only=True)
class VerifiedExport:
    """An export whose signature and every file were checked."""

    package_id: str
    episodes: tuple[Path, ...]
    key: str
    level: str


@attrs.frozen(kw_only=True)
class Packed:
    """An episode that is in the package; `redacted` None where nobody looked."""

    summary: RecordingSummary
    origin: str
    start_ns: int
    redacted: int | None


def write_manifest(
    work: Path,
    packed: Sequence[Packed],
    skipped: Sequence[Skipped],
    *,
    origin_tag: str,
    level: str,
    signer: Signer | None,
) -> str:
    """Write the manifest and, with a key, its signature; returns the package id.

    The id is the SHA-256 of all that the manifest says, so equal packages have equal
    ids. The capture window is in whole UTC days, of the starts that are known.
    """
    known = [one.start_ns // _DAY_NS for one in packed if one.start_ns]
    redacted = [one.redacted for one in packed if one.redacted is not None]
    facts = {
        "schema_version": 1,
        "origin_tag": origin_tag,
        "sharing_level": level,
        "software": f"continuon {continuon.__version__}",
        "anonymization": "allow-list; identifiers hmac-sha256; secret not included",
        "redacted_pictures": sum(redacted) if redacted else None,
        "capture_window_utc_days": [min(known), max(known)] if known else None,
        "origins": sorted({one.origin for one in packed}),
        "episodes": [
            {
                "path": one.summary.path.name,
                "sha256": one.summary.sha256,
                "bytes": one.summary.bytes,
                "origin": one.origin,
                "counts": dict(one.summary.counts),
            }
            for one in packed
        ],
        "skipped": [item.as_dict() for item in skipped],
        "key": None if signer is None else signer.public.fingerprint,
    }
    content = msgspec.json.encode(facts, order="sorted")
    package_id = hashlib.sha256(content).hexdigest()[:32]
    whole = msgspec.json.encode(facts | {"package_id": package_id}, order="sorted")
    manifest = msgspec.json.format(whole)
    replace_file(work / MANIFEST, manifest)
    if signer is not None:
        signature = {
            "algorithm": signer.public.algorithm,
            "key": signer.public.fingerprint,
            "signature": base64.b64encode(signer.sign(manifest)).decode(),
        }
        replace_file(work / SIGNATURE, msgspec.json.encode(signature, order="sorted"))
    return package_id


def verify_export(directory: Path, key: Verifier) -> VerifiedExport:
    """Return what an export holds, once its signature and every file were checked.

    Raises:
        TrustError: not signed by this key, or a file was changed, added or removed.
        DataError: there is no export, or its manifest does not parse.
    """
    directory = Path(directory)
    manifest, signature = _read(directory, MANIFEST), directory / SIGNATURE
    if not signature.is_file():
        raise TrustError(
            "E-RLDS-EXPORT-008", "this export is not signed", where=directory
        )
    try:
        signed = msgspec.json.decode(signature.read_bytes(), type=dict[str, str])
        data = base64.b64decode(signed.get("signature", ""), validate=True)
    except (msgspec.DecodeError, ValueError) as error:
        raise TrustError(
            "E-RLDS-EXPORT-009", "the signature does not parse", where=signature
        ) from error
    key.verify(data, manifest)
    try:
        facts: dict[str, Any] = msgspec.json.decode(manifest)
        listed = {entry["path"]: entry for entry in facts["episodes"]}
        package_id, level = str(facts["package_id"]), str(facts["sharing_level"])
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise DataError(
            "E-RLDS-EXPORT-010", "the manifest does not parse", where=directory
        ) from error
    there = {file.name for file in directory.iterdir()} - {MANIFEST, SIGNATURE}
    if there != set(listed) or not all(map(is_inside, listed)):
        raise TrustError(
            "E-RLDS-EXPORT-011",
            "files were added to this export or taken from it",
            where=directory,
            seen=", ".join(sorted(there ^ set(listed))[:5]),
        )
    changed = [
        name
        for name, entry in listed.items()
        if sha256_of(directory / name) != entry["sha256"]
    ]
    if changed:
        raise TrustError(
            "E-RLDS-EXPORT-012",
            "files of this export were changed",
            where=directory,
            seen=", ".join(sorted(changed)[:5]),
        )
    return VerifiedExport(
        package_id=package_id,
        episodes=tuple(directory / name for name in sorted(listed)),
        key=key.fingerprint,
        level=level,
    )


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            "E-RLDS-EXPORT-013", "this is no export", where=directory, allowed=name
        ) from error
