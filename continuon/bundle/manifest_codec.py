"""Bytes to manifest and back; what is written is canonical JSON."""

from __future__ import annotations

from continuon.bundle.canonical import canonical_json
from continuon.bundle.manifest import MANIFEST_NAME, Manifest
from continuon.bundle.manifest_read import (
    EXTENSION,
    MAX_MANIFEST_BYTES,
    read_manifest,
)
from continuon.bundle.manifest_rules import check_manifest
from continuon.bundle.structure import structure, unstructure
from continuon.errors import ContractError

__all__ = ["MAX_MANIFEST_BYTES", "dump_manifest", "parse_manifest"]


def parse_manifest(data: bytes, *, where: str = MANIFEST_NAME) -> Manifest:
    """Return the manifest that `data` spells; it is legal in every respect.

    Raises:
        ContractError: E-BUNDLE-JSON-..., E-BUNDLE-MAN-..., E-BUNDLE-VER-001.
    """
    return structure(read_manifest(data, where=where).plain, Manifest, where=where)


def dump_manifest(manifest: Manifest) -> bytes:
    """Return the canonical bytes of a legal manifest; same value, same bytes."""
    check_manifest(manifest)
    plain = unstructure(manifest)
    extensions = plain.pop("extensions")
    for name in extensions:
        if not name.startswith(EXTENSION):
            raise ContractError(
                "E-BUNDLE-MAN-002",
                "an extension without the x- prefix",
                seen=name,
                allowed="names that start with x-",
                where=MANIFEST_NAME,
            )
    return canonical_json({**plain, **extensions})
