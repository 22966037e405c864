"""A HEF that nobody compiled: labelled, without bytes that a runtime could load.

Hailo's runtime recognises a HEF by its first four bytes (01 48 45 46). A placeholder
is a JSON object, so it starts with `{`, and its name ends in `.hef.json`.
"""

from __future__ import annotations

from continuon.bundle.canonical import canonical_json, parse_strict
from continuon.errors import ContractError

__all__ = ["PLACEHOLDER_SUFFIX", "check_placeholder", "hef_placeholder"]

PLACEHOLDER_SUFFIX = ".hef.json"
_MAX_BYTES = 1 << 16


def hef_placeholder(*, model_name: str, source_artifact: str) -> bytes:
    """Return the bytes of a placeholder for `model_name`."""
    return canonical_json(
        {
            "placeholder": True,
            "kind": "hailo-hef",
            "loadable": False,
            "model_name": model_name,
            "source_artifact": source_artifact,
            "why": "no Hailo compiler was present when this bundle was made",
        }
    )


def check_placeholder(data: bytes, *, path: str) -> None:
    """Refuse bytes under a placeholder's name that are no labelled placeholder.

    Raises:
        ContractError: E-BUNDLE-HEF-001 for a wrong name or a missing label,
            E-BUNDLE-HEF-002 for bytes that are no small JSON object.
    """
    if not path.endswith(PLACEHOLDER_SUFFIX):
        raise ContractError(
            "E-BUNDLE-HEF-001",
            "a placeholder's name must say that it is one",
            seen=path,
            allowed=f"a name that ends in {PLACEHOLDER_SUFFIX}",
            where=path,
        )
    if data[:1] != b"{" or len(data) > _MAX_BYTES:
        raise ContractError(
            "E-BUNDLE-HEF-002",
            "a placeholder holds bytes that a runtime might load",
            seen=data[:8].hex(),
            allowed=f"a JSON object of at most {_MAX_BYTES} bytes",
            where=path,
        )
    value = parse_strict(data, where=path, max_bytes=_MAX_BYTES)
    if value.get("placeholder") is not True or value.get("loadable") is True:
        raise ContractError(
            "E-BUNDLE-HEF-001",
            "a placeholder is not labelled as one",
            allowed='"placeholder": true, and "loadable" never true',
            where=path,
        )
