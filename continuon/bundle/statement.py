"""The signed statement: which files, in which order, with which digests.

OpenSSF Model Signing v1.0 (an in-toto Statement v1 in a sigstore bundle v0.3), profile
`files` + `sha256`, so that the stock `model_signing` tool verifies what we sign. Ours
is stricter to read: code-point order, canonical names, each once, no ignored paths.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from continuon.bundle.canonical import canonical_json, parse_strict
from continuon.bundle.envelope import Envelope, parse_envelope
from continuon.bundle.manifest_shape import SIGNATURE_NAME
from continuon.bundle.paths import (
    check_paths_distinct,
    check_relative_path,
    is_hex_digest,
)
from continuon.errors import ContractError, TrustError

__all__ = [
    "PAYLOAD_TYPE",
    "build_statement",
    "dump_signature",
    "parse_signature",
    "parse_statement",
]

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MAX_SIGNATURE_BYTES = 4 << 20
MAX_RESOURCES = 4098
_STOCK_IGNORED = frozenset(
    {SIGNATURE_NAME, ".git", ".gitignore", ".gitattributes", ".github"}
)


def build_statement(name: str, digests: Mapping[str, str]) -> bytes:
    """Return the payload for files {path: sha256 hex}; the same files, the same bytes.

    The subject's digest is SHA-256 over the binary digests in the listed order.
    """
    names = sorted(digests)
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": name, "digest": {"sha256": _root_digest(digests, names)}}
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "serialization": {
                    "method": "files",
                    "hash_type": "sha256",
                    "allow_symlinks": False,
                },
                "resources": [
                    {"name": path, "algorithm": "sha256", "digest": digests[path]}
                    for path in names
                ],
            },
        }
    )


def dump_signature(envelope: Envelope) -> bytes:
    """Return the bytes of `model.sig`; the first signature's key is the hint."""
    return canonical_json(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": envelope.signatures[0][0]},
                "tlogEntries": [],
            },
            "dsseEnvelope": envelope.as_dict(),
        }
    )


def parse_signature(data: bytes, *, where: str = SIGNATURE_NAME) -> Envelope:
    """Return the envelope in `model.sig`.

    Raises:
        TrustError: E-BUNDLE-SIG-002 malformed, -003 another kind of file, -011 too
            large, or too many signatures.
    """
    if len(data) > MAX_SIGNATURE_BYTES:
        raise TrustError(
            "E-BUNDLE-SIG-011",
            "the signature file is larger than its cap",
            seen=f"{len(data)} bytes",
            allowed=f"at most {MAX_SIGNATURE_BYTES} bytes",
            where=where,
        )
    value = _strict(data, where, MAX_SIGNATURE_BYTES)
    keys = {"mediaType", "verificationMaterial", "dsseEnvelope"}
    if not isinstance(value, dict) or set(value) != keys:
        raise _malformed(where, "the keys " + ", ".join(sorted(keys)))
    if value["mediaType"] != MEDIA_TYPE:
        raise _other_kind(where, value["mediaType"], MEDIA_TYPE)
    envelope = parse_envelope(value["dsseEnvelope"], where=where)
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _other_kind(where, envelope.payload_type, PAYLOAD_TYPE)
    material = value["verificationMaterial"]
    if not isinstance(material, dict) or not set(material) <= {
        "publicKey",
        "tlogEntries",
    }:
        raise _malformed(where, "a public key's hint as verification material")
    public = material.get("publicKey")
    if material.get("tlogEntries", []) != [] or not isinstance(public, dict):
        raise _malformed(where, "a public key's hint and no log entries")
    hint = public.get("hint")
    named = [key_id for key_id, _ in envelope.signatures if key_id is not None]
    if set(public) - {"hint"} or not (hint is None or is_hex_digest(hint)):
        raise _malformed(where, "a hint that is a SHA-256")
    if named and hint is not None and hint != named[0]:
        raise _malformed(where, "a hint that names the first signature's key")
    if not named and hint is not None and envelope.signatures:
        first = envelope.signatures[0]
        rest = envelope.signatures[1:]
        return Envelope(PAYLOAD_TYPE, envelope.payload, ((hint, first[1]), *rest))
    return envelope


def parse_statement(payload: bytes, *, where: str = SIGNATURE_NAME) -> dict[str, str]:
    """Return {path: sha256 hex} in the signed order.

    Raises:
        TrustError: E-BUNDLE-SIG-006 another statement, -007 another serialization,
            -008 names (order, twice, not canonical), -009 digests, -010 the subject.
    """
    value = _strict(payload, where, MAX_SIGNATURE_BYTES)
    keys = {"_type", "subject", "predicateType", "predicate"}
    if not isinstance(value, dict) or set(value) != keys:
        raise _other_statement(where, "an in-toto statement")
    if (value["_type"], value["predicateType"]) != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise _other_statement(where, f"{STATEMENT_TYPE} with {PREDICATE_TYPE}")
    predicate = value["predicate"]
    if not isinstance(predicate, dict) or set(predicate) != {
        "serialization",
        "resources",
    }:
        raise _other_statement(where, "a predicate of serialization and resources")
    _check_serialization(predicate["serialization"], where)
    digests = _read_resources(predicate["resources"], where)
    subject = value["subject"]
    if (
        not isinstance(subject, list)
        or len(subject) != 1
        or not isinstance(subject[0], dict)
        or set(subject[0]) != {"name", "digest"}
        or subject[0]["digest"] != {"sha256": _root_digest(digests, list(digests))}
    ):
        raise TrustError(
            "E-BUNDLE-SIG-010",
            "the statement's subject is not the digest of its resources",
            where=where,
        )
    return digests


def _check_serialization(value: Any, where: str) -> None:
    plain = dict(value) if isinstance(value, dict) else {}
    ignored = plain.pop("ignore_paths", [])
    ok = (
        plain == {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
        and plain["allow_symlinks"] is False
        and isinstance(ignored, list)
        and all(isinstance(name, str) for name in ignored)
        and {name.rpartition("/")[2] for name in ignored} <= _STOCK_IGNORED
    )
    if not ok:
        raise TrustError(
            "E-BUNDLE-SIG-007",
            "the statement was serialised in a way that is not accepted",
            seen=value,
            allowed="files, sha256, no symlinks, only the stock tool's ignored names",
            where=where,
        )


def _read_resources(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_RESOURCES:
        raise _bad_names(where, f"1 to {MAX_RESOURCES} resources")
    names: list[str] = []
    digests: dict[str, str] = {}
    for item in value:
        if not isinstance(item, dict) or set(item) != {"name", "algorithm", "digest"}:
            raise _bad_names(where, "resources of name, algorithm and digest")
        name, digest = item["name"], item["digest"]
        if not isinstance(name, str):
            raise _bad_names(where, "a name that is text")
        if item["algorithm"] != "sha256" or not is_hex_digest(digest):
            raise TrustError(
                "E-BUNDLE-SIG-009",
                "a resource has no SHA-256 digest",
                seen=f"{item['algorithm']}: {digest}",
                allowed="sha256, 64 lower-case hex digits",
                where=f"{where} {name!r}",
            )
        names.append(name)
        digests[name] = digest
    try:
        for name in names:
            check_relative_path(name, where=where)
        check_paths_distinct(names, where=where)
    except ContractError as error:
        raise TrustError(
            "E-BUNDLE-SIG-008", error.what, seen=error.seen, where=where
        ) from error
    if names != sorted(names) or SIGNATURE_NAME in digests:
        raise _bad_names(where, f"code-point order, without {SIGNATURE_NAME}")
    return digests


def _root_digest(digests: Mapping[str, str], names: Sequence[str]) -> str:
    joined = b"".join(bytes.fromhex(digests[name]) for name in names)
    return hashlib.sha256(joined).hexdigest()


def _strict(data: bytes, where: str, max_bytes: int) -> Any:
    try:
        return parse_strict(data, where=where, max_bytes=max_bytes)
    except ContractError as error:
        raise _malformed(where, str(error)) from error


def _malformed(where: str, allowed: str) -> TrustError:
    return TrustError(
        "E-BUNDLE-SIG-002",
        "the signature file is malformed",
        allowed=allowed,
        where=where,
    )


def _other_kind(where: str, seen: object, allowed: str) -> TrustError:
    return TrustError(
        "E-BUNDLE-SIG-003",
        "the signature file is of another kind",
        seen=seen,
        allowed=allowed,
        where=where,
    )


def _other_statement(where: str, allowed: str) -> TrustError:
    return TrustError(
        "E-BUNDLE-SIG-006",
        "what was signed is no statement about a model's files",
        allowed=allowed,
        where=where,
    )


def _bad_names(where: str, allowed: str) -> TrustError:
    return TrustError(
        "E-BUNDLE-SIG-008",
        "the list of signed files is not canonical",
        allowed=allowed,
        where=where,
    )
