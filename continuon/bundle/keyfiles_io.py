"""Key files: private ones 0600 and encrypted if wished, public ones beside them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import attrs

from continuon.bundle.keys import (
    SigningKey,
    generate_key,
    signing_key_from_pem,
)
from continuon.bundle.public_key_io import read_key_file
from continuon.durable import sync_directory
from continuon.errors import TrustError, UsageError

__all__ = ["KeyFiles", "load_private_key", "new_key"]

PUBLIC_SUFFIX = ".pub.pem"


@attrs.frozen
class KeyFiles:
    """Where a new key lies, and how to recognise it."""

    private_path: Path
    public_path: Path
    algorithm: str
    fingerprint: str
    words: str
    encrypted: bool


def new_key(
    path: Path, *, password: str | None = None, algorithm: str = "ecdsa-p256"
) -> KeyFiles:
    """Write `path` (private, 0600) and its public half; never overwrite either.

    The public half of `release.pem` is `release.pub.pem`.

    Raises:
        UsageError: E-BUNDLE-KEY-003 algorithm, E-BUNDLE-KEY-004 a file is there.
    """
    public_path = path.with_name(path.name.removesuffix(".pem") + PUBLIC_SUFFIX)
    for taken in (path, public_path):
        if os.path.lexists(taken):
            raise UsageError(
                "E-BUNDLE-KEY-004",
                "a key file is there already; it is never overwritten",
                where=taken,
                hint="choose another name, or move the old key away",
            )
    key = generate_key(algorithm)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = key.private_pem(password.encode("utf-8") if password else None)
    try:
        _write_new(path, secret, mode=0o600)
        _write_new(public_path, key.public.pem, mode=0o644)
    except OSError:
        # Half a pair is no key: both are ours, since neither was there before.
        path.unlink(missing_ok=True)
        public_path.unlink(missing_ok=True)
        raise
    return KeyFiles(
        path,
        public_path,
        algorithm,
        key.public.fingerprint,
        key.public.words,
        bool(password),
    )


def load_private_key(path: Path, *, password: str | None = None) -> SigningKey:
    """Return the private key in `path`.

    Raises:
        TrustError: E-BUNDLE-KEY-002 not usable, E-BUNDLE-KEY-005 readable by others.
        UsageError: E-BUNDLE-KEY-006, there is no such file.
    """
    pem = read_key_file(path, UsageError, hint="continuon keys new makes one")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise TrustError(
            "E-BUNDLE-KEY-005",
            "a private key can be read by other users",
            seen=f"mode {stat.S_IMODE(path.stat().st_mode):04o}",
            allowed="0600",
            where=path,
            hint=f"chmod 600 {path}; if others may have read it, make a new key",
        )
    secret = password.encode("utf-8") if password else None
    return signing_key_from_pem(pem, password=secret, where=path)


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_directory(path.parent)
