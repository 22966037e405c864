"""Signing keys that never leave their token: smart cards, HSMs, TPMs, by PKCS#11.

A key is named as RFC 7512 names it: `pkcs11:token=NAME;object=LABEL`, with
`?module-path=FILE` for the token's library. Only ECDSA P-256 keys are used.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from continuon.bundle.keys import SigningKey, verifying_key_from_pem
from continuon.errors import MissingPackageError, TrustError, UsageError

__all__ = ["SCHEME", "TokenKeyName", "load_token_key", "parse_token_uri"]

SCHEME = "pkcs11:"


@attrs.frozen
class TokenKeyName:
    """Which key on which token, and the library that talks to the token."""

    token: str
    label: str
    module: Path | None = None


class _TokenHandle:
    """Signs as `cryptography`'s EC private keys do, inside the token."""

    def __init__(self, session: Any, key: Any, mechanism: Any) -> None:
        self._session = session
        self._key = key
        self._mechanism = mechanism

    def sign(self, message: bytes, _: object) -> bytes:
        """Return a DER signature over the SHA-256 of a message."""
        digest = hashlib.sha256(message).digest()
        raw = bytes(self._key.sign(digest, mechanism=self._mechanism))
        half = len(raw) // 2
        r, s = (int.from_bytes(part, "big") for part in (raw[:half], raw[half:]))
        return encode_dss_signature(r, s)


def parse_token_uri(uri: str) -> TokenKeyName:
    """Return what a `pkcs11:` URI names.

    Raises:
        UsageError: E-BUNDLE-KEY-009, it does not name one key of one token.
    """
    path, _, query = uri.removeprefix(SCHEME).partition("?")
    parts = [part.partition("=") for part in (*path.split(";"), *query.split("&"))]
    named = {name: unquote(value) for name, _, value in parts if value}
    if not uri.startswith(SCHEME) or not {"token", "object"} <= set(named):
        raise UsageError(
            "E-BUNDLE-KEY-009",
            "this names no key on a token",
            seen=uri,
            allowed="pkcs11:token=NAME;object=LABEL?module-path=FILE",
        )
    module = named.get("module-path")
    return TokenKeyName(
        named["token"], named["object"], Path(module) if module else None
    )


def load_token_key(
    uri: str, *, pin: str | None, default_module: Path | None = None
) -> SigningKey:
    """Return the signing key that a `pkcs11:` URI names; its bytes stay in the token.

    Raises:
        MissingPackageError: python-pkcs11 is not installed.
        UsageError: E-BUNDLE-KEY-009 the URI, -010 no library for the token.
        TrustError: E-BUNDLE-KEY-011, the token refuses (no such key, wrong PIN...).
    """
    name = parse_token_uri(uri)
    try:
        import pkcs11
        from pkcs11.util.ec import encode_ec_public_key
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "python-pkcs11", "hsm", purpose="a signing key on a token"
        ) from error
    module = name.module or default_module
    if module is None or not module.is_file():
        raise UsageError(
            "E-BUNDLE-KEY-010",
            "the token's library was not found",
            where=module,
            hint="add ?module-path=FILE to the key, or set PKCS11_MODULE",
        )
    try:
        session = (
            pkcs11.lib(str(module)).get_token(token_label=name.token).open(user_pin=pin)
        )
        kinds = (pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.ObjectClass.PUBLIC_KEY)
        pair: list[Any] = [
            session.get_key(
                object_class=kind, key_type=pkcs11.KeyType.EC, label=name.label
            )
            for kind in kinds
        ]
        private, public = pair
        der = encode_ec_public_key(public)
    except (pkcs11.PKCS11Error, RuntimeError) as error:
        raise TrustError(
            "E-BUNDLE-KEY-011",
            "the token does not give this key for signing",
            seen=f"{type(error).__name__} {error}".strip(),
            allowed=f"an EC P-256 pair labelled {name.label} on token {name.token}",
            hint="CONTINUON_KEY_PASSWORD holds the token's PIN",
        ) from error
    pem = load_der_public_key(der).public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    handle = _TokenHandle(session, private, pkcs11.Mechanism.ECDSA)
    return SigningKey(verifying_key_from_pem(pem, where=uri), handle)
