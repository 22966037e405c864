"""DSSE: bytes, the type of what they mean, and signatures over both.

Source: github.com/secure-systems-lab/dsse, protocol.md. Signatures are counted by
distinct keys; a signature that names a trusted key and fails is an attack, one that
names an unknown key is no vote.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from continuon.bundle.keys import SigningKey, VerifyingKey, canonical_base64
from continuon.errors import TrustError, UsageError

__all__ = ["Envelope", "check_signatures", "parse_envelope", "seal"]

MAX_SIGNATURES = 16
_SIGNATURE_KEYS = frozenset({"sig", "keyid"})


class Envelope(NamedTuple):
    """A payload with its signatures as (key id or None, signature bytes)."""

    payload_type: str
    payload: bytes
    signatures: tuple[tuple[str | None, bytes], ...]

    @property
    def message(self) -> bytes:
        """Return DSSE's pre-authentication encoding, the bytes that are signed."""
        kind = self.payload_type.encode("utf-8")
        head = b"DSSEv1 %d %s %d " % (len(kind), kind, len(self.payload))
        return head + self.payload

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object of the protocol."""
        return {
            "payload": _text(self.payload),
            "payloadType": self.payload_type,
            "signatures": [
                {"sig": _text(signature), "keyid": key_id}
                for key_id, signature in self.signatures
            ],
        }


def seal(
    payload: bytes, payload_type: str, private_keys: Sequence[SigningKey]
) -> Envelope:
    """Return `payload` signed by each key, in the order given.

    Raises:
        UsageError: E-BUNDLE-KEY-007, no key or one key twice.
    """
    prints = [key.public.fingerprint for key in private_keys]
    if not prints or len(set(prints)) != len(prints):
        raise UsageError(
            "E-BUNDLE-KEY-007",
            "signing needs at least one key, and each key once",
            seen=f"{len(prints)} keys, {len(set(prints))} of them distinct",
        )
    blank = Envelope(payload_type, payload, ())
    signatures = tuple(
        (key.public.fingerprint, key.sign(blank.message)) for key in private_keys
    )
    return blank._replace(signatures=signatures)


def parse_envelope(value: Any, *, where: str) -> Envelope:
    """Return the envelope in a parsed JSON object.

    Raises:
        TrustError: E-BUNDLE-SIG-002 for its form, -011 for too many signatures.
    """
    if not isinstance(value, Mapping) or set(value) != {
        "payload",
        "payloadType",
        "signatures",
    }:
        raise _malformed("the keys payload, payloadType and signatures", where)
    found = value["signatures"]
    if not isinstance(found, list) or not isinstance(value["payloadType"], str):
        raise _malformed("a list of signatures and a payload type", where)
    if len(found) > MAX_SIGNATURES:
        raise TrustError(
            "E-BUNDLE-SIG-011",
            "the envelope holds too many signatures",
            seen=len(found),
            allowed=f"at most {MAX_SIGNATURES}",
            where=where,
        )
    signatures = []
    for item in found:
        if not isinstance(item, Mapping) or set(item) - _SIGNATURE_KEYS:
            raise _malformed("signatures of sig and keyid", where)
        key_id = item.get("keyid")
        if key_id is not None and not isinstance(key_id, str):
            raise _malformed("a keyid that is text", where)
        signatures.append((key_id or None, _decode(item.get("sig"), where)))
    payload = _decode(value["payload"], where)
    return Envelope(value["payloadType"], payload, tuple(signatures))


def check_signatures(
    envelope: Envelope,
    public_keys: Sequence[VerifyingKey],
    *,
    threshold: int,
    where: str,
) -> tuple[VerifyingKey, ...]:
    """Return the distinct keys that signed, in the order of their signatures.

    Raises:
        UsageError: E-BUNDLE-SIG-012, a threshold that the keys cannot meet.
        TrustError: E-BUNDLE-SIG-005 if a signature that names one of the keys is not
            that key's, E-BUNDLE-SIG-004 if fewer than `threshold` keys signed.
    """
    keys = {key.fingerprint: key for key in public_keys}
    if not 1 <= threshold <= len(keys):
        raise UsageError(
            "E-BUNDLE-SIG-012",
            "the threshold of signatures cannot be met by the keys given",
            seen=threshold,
            allowed=f"1 to {len(keys)}, the number of distinct keys",
            where=where,
        )
    signed: dict[str, VerifyingKey] = {}
    for key_id, signature in envelope.signatures:
        if key_id in keys:
            try:
                keys[key_id].verify(signature, envelope.message)
            except TrustError as error:
                raise TrustError(
                    "E-BUNDLE-SIG-005",
                    "a signature names a trusted key that did not make it",
                    seen=key_id,
                    where=where,
                ) from error
            signed[key_id] = keys[key_id]
        elif key_id is None:
            match = _match(signature, envelope.message, keys.values())
            if match is not None:
                signed[match.fingerprint] = match
    if len(signed) < threshold:
        raise TrustError(
            "E-BUNDLE-SIG-004",
            "too few trusted keys signed this",
            seen=f"{len(signed)} of {len(keys)} trusted keys",
            allowed=f"at least {threshold}",
            where=where,
            hint="compare the key's words with those of its publisher",
        )
    return tuple(signed.values())


def _match(signature: bytes, message: bytes, keys: Any) -> VerifyingKey | None:
    for key in keys:
        try:
            key.verify(signature, message)
        except TrustError:
            continue
        return key  # type: ignore[no-any-return]
    return None


def _text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _decode(text: Any, where: str) -> bytes:
    try:
        return canonical_base64(text)
    except (ValueError, TypeError) as error:
        raise _malformed("canonical base64", where) from error


def _malformed(allowed: str, where: str) -> TrustError:
    return TrustError(
        "E-BUNDLE-SIG-002",
        "the signature envelope is malformed",
        allowed=allowed,
        where=where,
    )
