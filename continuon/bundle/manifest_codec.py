"""Bytes to manifest and back; what is written is canonical JSON."""

from __future__ import annotations

from continuon.bundle.canonical import canonical_json, parse_strict
from continuon.bundle.manifest import MANIFEST_NAME, Manifest
from continuon.bundle.manifest_rules import check_manifest
from continuon.bundle.structure import structure, unstructure
from continuon.errors import ContractError

__all__ = ["MAX_MANIFEST_BYTES", "dump_manifest", "parse_manifest"]

MAX_MANIFEST_BYTES = 1 << 20
_EXTENSION = "x-"


def parse_manifest(data: bytes, *, where: str = MANIFEST_NAME) -> Manifest:
    """Return the manifest that `data` spells; it is legal in every respect.

    Raises:
        ContractError: E-BUNDLE-JSON-..., E-BUNDLE-MAN-..., E-BUNDLE-VER-001.
    """
    value = parse_strict(data, where=where, max_bytes=MAX_MANIFEST_BYTES)
    if not isinstance(value, dict):
        raise ContractError(
            "E-BUNDLE-MAN-001",
            "the manifest is no JSON object",
            seen=type(value).__name__,
            where=where,
        )
    known = {key: item for key, item in value.items() if not key.startswith(_EXTENSION)}
    if "extensions" in known:
        raise ContractError(
            "E-BUNDLE-MAN-002",
            "a key that this schema does not define",
            seen="$.extensions",
            where=where,
        )
    if "schema" not in known:
        raise ContractError(
            "E-BUNDLE-MAN-003", "the manifest names no schema", where=where
        )
    extensions = {key: value[key] for key in value if key.startswith(_EXTENSION)}
    manifest = structure({**known, "extensions": extensions}, Manifest, where=where)
    return check_manifest(manifest, where=where)


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a legal manifest; same value, same bytes."""
    check_manifest(manifest)
    plain = unstructure(manifest)
    extensions = plain.pop("extensions")
    for name in extensions:
        if not name.startswith(_EXTENSION):
            raise ContractError(
                "E-BUNDLE-MAN-002",
                "an extension without the x- prefix",
                seen=name,
                allowed="names that start with x-",
                where=MANIFEST_NAME,
            )
    return canonical_json({**plain, **extensions})
