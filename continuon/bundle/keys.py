"""Keys as values: sign, verify, and a fingerprint two people can compare.

A fingerprint is SHA-256 over the public key's PEM text, because that is what the
OpenSSF Model Signing format calls a key's hint: one definition everywhere.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from continuon.bundle.words import spell
from continuon.errors import TrustError, UsageError

__all__ = [
    "ALGORITHMS",
    "SigningKey",
    "VerifyingKey",
    "generate_key",
    "signing_key_from_pem",
    "verifying_key_from_pem",
]

ECDSA_P256 = "ecdsa-p256"
ED25519 = "ed25519"
ML_DSA_65 = "ml-dsa-65"
ALGORITHMS = (ECDSA_P256, ED25519, ML_DSA_65)
_MAX_PEM_BYTES = 1 << 16
_PEM_HEAD = b"-----BEGIN PUBLIC KEY-----\n"
_PEM_TAIL = b"-----END PUBLIC KEY-----\n"
_P256_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
"""The DER of every P-256 public key up to its uncompressed point (RFC 5480)."""


class _Sha256Ecdsa(ec.ECDSA):
    """ECDSA over SHA-256, never deterministic.

    The library's own constructor loads every cipher and RSA to learn whether RFC 6979
    is there, which a verifier never asks.
    """

    algorithm = hashes.SHA256()
    deterministic_signing = False

    def __init__(self) -> None:
        """Take no option."""


class VerifyingKey(NamedTuple):
    """A public key. Two are equal when their fingerprints are."""

    algorithm: str
    pem: bytes
    fingerprint: str
    handle: Any

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, VerifyingKey):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        return f"VerifyingKey({self.algorithm}, {self.fingerprint})"

    @property
    def words(self) -> str:
        """Return the fingerprint's first 96 bits as twelve words."""
        return spell(bytes.fromhex(self.fingerprint))

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if this key signed `message`.

        Raises:
            TrustError: E-BUNDLE-KEY-001.
        """
        try:
            if self.algorithm == ECDSA_P256:
                self.handle.verify(signature, message, _Sha256Ecdsa())
            else:
                self.handle.verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise TrustError(
                "E-BUNDLE-KEY-001",
                "the signature was not made by this key over these bytes",
                seen=f"{self.algorithm} key {self.fingerprint[:16]}",
            ) from error


class SigningKey(NamedTuple):
    """A private key with its public half. Its bytes never reach a repr."""

    public: VerifyingKey
    handle: Any

    def __repr__(self) -> str:
        return f"SigningKey({self.public!r})"

    def sign(self, message: bytes) -> bytes:
        """Return a signature: DER for ECDSA, raw for the others."""
        if self.public.algorithm == ECDSA_P256:
            signature = self.handle.sign(message, _Sha256Ecdsa())
        else:
            signature = self.handle.sign(message)
        return bytes(signature)

    def private_pem(self, password: bytes | None = None) -> bytes:
        """Return PKCS#8 PEM, encrypted when a password is given."""
        from cryptography.hazmat.primitives import serialization

        encryption: serialization.KeySerializationEncryption = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        pem: bytes = self.handle.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
        )
        return pem


def generate_key(algorithm: str = ECDSA_P256) -> SigningKey:
    """Return a new key.

    Raises:
        UsageError: E-BUNDLE-KEY-003, the algorithm is unknown or not available here.
    """
    handle: Any
    if algorithm == ECDSA_P256:
        handle = ec.generate_private_key(ec.SECP256R1())
    elif algorithm == ED25519:
        from cryptography.hazmat.primitives.asymmetric import ed25519

        handle = ed25519.Ed25519PrivateKey.generate()
    elif algorithm == ML_DSA_65 and (mldsa := _mldsa()) is not None:
        handle = mldsa.MLDSA65PrivateKey.generate()
    else:
        raise UsageError(
            "E-BUNDLE-KEY-003",
            "this signature algorithm is not available",
            seen=algorithm,
            allowed=", ".join(ALGORITHMS),
            hint="ml-dsa-65 needs a cryptography package built on OpenSSL 3.5",
        )
    return SigningKey(_verifying_key(handle.public_key()), handle)


def signing_key_from_pem(
    pem: bytes, *, password: bytes | None = None, where: object = None
) -> SigningKey:
    """Return the private key that `pem` holds.

    Raises:
        TrustError: E-BUNDLE-KEY-002 for a wrong password or unusable bytes.
    """
    from cryptography.hazmat.primitives import serialization

    try:
        handle = serialization.load_pem_private_key(pem[:_MAX_PEM_BYTES], password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(str(error), where) from error
    return SigningKey(_verifying_key(handle.public_key(), where), handle)


def verifying_key_from_pem(pem: bytes, *, where: object = None) -> VerifyingKey:
    """Return the public key that `pem` holds.

    Raises:
        TrustError: E-BUNDLE-KEY-002 for unusable bytes or another kind of key.
    """
    handle: Any
    if (point := _p256_point(pem)) is not None:
        try:
            handle = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        except ValueError as error:
            raise _unusable(str(error), where) from error
        return VerifyingKey(ECDSA_P256, pem, hashlib.sha256(pem).hexdigest(), handle)
    from cryptography.hazmat.primitives import serialization

    try:
        handle = serialization.load_pem_public_key(pem[:_MAX_PEM_BYTES])
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable(str(error), where) from error
    return _verifying_key(handle, where)


def canonical_base64(text: str) -> bytes:
    """Return the bytes of base64 text in its one canonical spelling.

    Raises:
        ValueError: any other spelling.
    """
    data = binascii.a2b_base64(text, strict_mode=True)
    if binascii.b2a_base64(data, newline=False).decode("ascii") != text:
        msg = "base64 with stray bits"
        raise ValueError(msg)
    return data


def _p256_point(pem: bytes) -> bytes | None:
    """Return the point of a P-256 key in the PEM that we write, else None.

    It spares a verifier the import of all other key formats, half of its start.
    """
    body = pem.removeprefix(_PEM_HEAD).removesuffix(_PEM_TAIL)
    try:
        der = binascii.a2b_base64(body.replace(b"\n", b""), strict_mode=True)
    except binascii.Error:
        return None
    text = binascii.b2a_base64(der, newline=False)
    lines = b"".join(text[at : at + 64] + b"\n" for at in range(0, len(text), 64))
    point = der.removeprefix(_P256_HEAD)
    if pem != _PEM_HEAD + lines + _PEM_TAIL or point == der:
        return None
    return point if point[:1] == b"\x04" else None


def _verifying_key(handle: Any, where: object = None) -> VerifyingKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    if isinstance(handle, ec.EllipticCurvePublicKey) and handle.curve.name == (
        "secp256r1"
    ):
        algorithm = ECDSA_P256
    elif isinstance(handle, ed25519.Ed25519PublicKey):
        algorithm = ED25519
    elif (mldsa := _mldsa()) and isinstance(handle, mldsa.MLDSA65PublicKey):
        algorithm = ML_DSA_65
    else:
        raise _unusable(f"a key of type {type(handle).__name__}", where)
    pem = handle.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return VerifyingKey(algorithm, pem, hashlib.sha256(pem).hexdigest(), handle)


def _mldsa() -> Any | None:
    """Return cryptography's ML-DSA module, or None where it is too old for it."""
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa
    except ImportError:
        return None
    return mldsa


def _unusable(seen: str, where: object) -> TrustError:
    return TrustError(
        "E-BUNDLE-KEY-002",
        "this is no key that can be used here",
        seen=seen,
        allowed="PEM of " + ", ".join(ALGORITHMS) + ", with its right password",
        where=where,
    )
