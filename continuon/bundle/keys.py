"""Keys as values: sign, verify, and a fingerprint two people can compare.

A fingerprint is SHA-256 over the public key's PEM text, because that is what the
OpenSSF Model Signing format calls a key's hint: one definition everywhere.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import attrs
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

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


@attrs.frozen
class VerifyingKey:
    """A public key. Two are equal when their fingerprints are."""

    algorithm: str
    pem: bytes
    fingerprint: str
    handle: Any = attrs.field(eq=False, repr=False)

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
                self.handle.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            else:
                self.handle.verify(signature, message)
        except (InvalidSignature, ValueError) as error:
            raise TrustError(
                "E-BUNDLE-KEY-001",
                "the signature was not made by this key over these bytes",
                seen=f"{self.algorithm} key {self.fingerprint[:16]}",
            ) from error


@attrs.frozen
class SigningKey:
    """A private key with its public half. Its bytes never reach a repr."""

    public: VerifyingKey
    handle: Any = attrs.field(eq=False, repr=False)

    def sign(self, message: bytes) -> bytes:
        """Return a signature: DER for ECDSA, raw for the others."""
        if self.public.algorithm == ECDSA_P256:
            signature = self.handle.sign(message, ec.ECDSA(hashes.SHA256()))
        else:
            signature = self.handle.sign(message)
        return bytes(signature)

    def private_pem(self, password: bytes | None = None) -> bytes:
        """Return PKCS#8 PEM, encrypted when a password is given."""
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
    data = base64.b64decode(text, validate=True)
    if base64.b64encode(data).decode("ascii") != text:
        msg = "base64 with stray bits"
        raise ValueError(msg)
    return data


def _verifying_key(handle: Any, where: object = None) -> VerifyingKey:
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
