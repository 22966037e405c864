"""Bytes of a manifest to plain values that are legal in every respect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from continuon.bundle.canonical import parse_strict
from continuon.bundle.manifest_rules import check_manifest
from continuon.bundle.manifest_shape import (
    MANIFEST_NAME,
    MANIFEST_SHAPE,
    SAFETY_SHAPE,
)
from continuon.bundle.safety_rules import check_safety
from continuon.bundle.shape import check_shape
from continuon.errors import ContractError

if TYPE_CHECKING:
    from continuon.bundle.manifest import Manifest
    from continuon.bundle.safety import SafetyManifest

__all__ = [
    "EXTENSION",
    "MAX_MANIFEST_BYTES",
    "PlainManifest",
    "PlainSafety",
    "read_manifest",
    "read_safety",
]

MAX_MANIFEST_BYTES = 1 << 20
EXTENSION = "x-"


class PlainManifest(NamedTuple):
    """A manifest as its JSON object, extensions apart, and by attribute.

    `values` has the attributes of a `Manifest` and none of its methods.
    """

    plain: dict[str, Any]
    values: Manifest


class PlainSafety(NamedTuple):
    """A safety manifest as its JSON object, and by attribute."""

    plain: dict[str, Any]
    values: SafetyManifest


def read_manifest(data: bytes, *, where: str = MANIFEST_NAME) -> PlainManifest:
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
    known = {key: item for key, item in value.items() if not key.startswith(EXTENSION)}
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
    known["extensions"] = {key: value[key] for key in value if key not in known}
    values = cast("Manifest", check_shape(known, MANIFEST_SHAPE, where=where))
    return PlainManifest(known, check_manifest(values, where=where))


def read_safety(data: bytes, *, where: str = "safety.json") -> PlainSafety:
    """Return the safety manifest that `data` spells.

    Raises:
        ContractError: E-BUNDLE-JSON-..., E-BUNDLE-MAN-001 or -002 for its shape,
            E-BUNDLE-SAFE-001 for a value out of range.
    """
    plain = parse_strict(data, where=where)
    values = cast("SafetyManifest", check_shape(plain, SAFETY_SHAPE, where=where))
    return PlainSafety(plain, check_safety(values, where=where))
