"""The keys of a TUF repository: who may change what, and how many must agree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from continuon.bundle.keyfiles_io import load_private_key, new_key
from continuon.bundle.keys import SigningKey, generate_key
from continuon.errors import UsageError

__all__ = [
    "ROLES",
    "RepositoryKeys",
    "generate_repository_keys",
    "load_repository_keys",
    "new_repository_keys",
]

ROLES: Mapping[str, tuple[str, int, int]] = {
    "root": ("root", 3, 2),
    "targets": ("targets", 3, 2),
    "snapshot": ("online", 1, 1),
    "timestamp": ("online", 1, 1),
}
"""TUF role: (name of the key files, how many keys there are, how many must sign)."""


@attrs.frozen
class RepositoryKeys:
    """Private keys per role. Offline roles may be empty where they are not needed."""

    keys: Mapping[str, tuple[SigningKey, ...]]

    def signers(self, role: str) -> list[Any]:
        """Return python-tuf signers of a role.

        Raises:
            UsageError: E-OTA-KEYS-001, fewer keys are here than must sign.
        """
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

        name, _, threshold = ROLES[role]
        found = self.keys.get(name, ())
        if len(found) < threshold:
            raise UsageError(
                "E-OTA-KEYS-001",
                f"too few keys of the role {role} are here to sign",
                seen=len(found),
                allowed=f"at least {threshold}",
                hint=f"bring the {name} keys together on this machine",
            )
        return [CryptoSigner(key.handle) for key in found]


def new_repository_keys(
    directory: Path, *, password: str | None = None
) -> RepositoryKeys:
    """Make root-1..3, targets-1..3 and online-1 in `directory`, and return them.

    For a release of weight, keep the root and targets keys on different machines.
    """
    for name, count, _ in _files():
        for number in range(1, count + 1):
            new_key(directory / f"{name}-{number}.pem", password=password)
    return load_repository_keys(directory, password=password)


def load_repository_keys(
    directory: Path, *, password: str | None = None
) -> RepositoryKeys:
    """Return those repository keys that lie in `directory`."""
    found: dict[str, tuple[SigningKey, ...]] = {}
    for name, count, _ in _files():
        paths = [directory / f"{name}-{number}.pem" for number in range(1, count + 1)]
        found[name] = tuple(
            load_private_key(path, password=password) for path in paths if path.exists()
        )
    return RepositoryKeys(found)


def generate_repository_keys() -> RepositoryKeys:
    """Return keys that are written nowhere."""
    return RepositoryKeys(
        {
            name: tuple(generate_key() for _ in range(count))
            for name, count, _ in _files()
        }
    )


def _files() -> list[tuple[str, int, int]]:
    return sorted(set(ROLES.values()))
