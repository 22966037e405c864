"""Public keys from their files."""

from __future__ import annotations

from continuon.bundle.keys import VerifyingKey, verifying_key_from_pem
from continuon.bundle.tree_io import AnyPath
from continuon.errors import ContinuonError, TrustError

__all__ = ["load_public_key", "read_key_file"]

_MAX_PEM_BYTES = 1 << 16


def load_public_key(path: AnyPath) -> VerifyingKey:
    """Return the public key in `path`.

    Raises:
        TrustError: E-BUNDLE-KEY-002 not usable, E-BUNDLE-KEY-006 there is none: without
            it nothing can be trusted, which is a refusal like any other.
    """
    hint = "put the publisher's public key there, or name it"
    return verifying_key_from_pem(
        read_key_file(path, TrustError, hint=hint), where=path
    )


def read_key_file(path: AnyPath, kind: type[ContinuonError], *, hint: str) -> bytes:
    """Return a key file's bytes, or raise `kind`: E-BUNDLE-KEY-006."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(_MAX_PEM_BYTES)
    except OSError as error:
        raise kind(
            "E-BUNDLE-KEY-006",
            "the key file cannot be read",
            seen=error.strerror,
            where=path,
            hint=hint,
        ) from error
