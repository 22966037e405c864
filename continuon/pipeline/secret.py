"""What makes an export anonymous and signed: made once, never leaves the robot."""

from __future__ import annotations

import os
import secrets

from continuon.bundle.keyfiles_io import load_private_key, new_key
from continuon.bundle.keys import ED25519, SigningKey
from continuon.errors import TrustError
from continuon.home import Home

__all__ = ["export_secret", "export_signer"]

SECRET_BYTES = 32


def export_secret(home: Home) -> bytes:
    """Return the home's 32-byte secret, making it on first use.

    Raises:
        TrustError: the file is readable by others or has another length.
    """
    path = home.keys / "export-secret"
    home.keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
    mode = path.stat().st_mode & 0o077
    secret = path.read_bytes()
    if mode or len(secret) != SECRET_BYTES:
        raise TrustError(
            "E-KEY-SECRET-001",
            "the anonymisation secret is readable by others or damaged",
            where=path,
            seen=f"mode {mode:03o} for others, {len(secret)} bytes",
            allowed=f"mode 000 for others, {SECRET_BYTES} bytes",
            hint="delete it; later exports then use other pseudonyms",
        )
    return secret


def export_signer(home: Home) -> SigningKey:
    """Return the home's Ed25519 key for exports, making `export.pem` on first use.

    Ed25519, because its signatures are deterministic: equal exports are equal bytes.

    Raises:
        TrustError: the file is readable by others, or holds no key.
    """
    path = home.keys / "export.pem"
    if not path.exists():
        new_key(path, algorithm=ED25519)
    return load_private_key(path)
