"""Paired clients on disk, and the pairing under way in memory."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path

import msgspec

from continuon.clock import Clock
from continuon.durable import replace_file
from continuon.errors import DataError, TrustError, UsageError
from continuon.robot.access import (
    CODE_TTL_NS,
    PairingWindow,
    Role,
    Token,
    after_wrong_code,
    hash_token,
    try_code,
)

__all__ = ["TokenStore"]


class TokenStore:
    """The file of token hashes at `path`, mode 0600. Safe to call from threads.

    A file that cannot be understood stops the service rather than un-pairing it.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._window: PairingWindow | None = None
        self._tokens: tuple[Token, ...] = ()
        self._local_sha256: str | None = None

    @property
    def local_sha256(self) -> str | None:
        """Hash of the local secret; None until `open_local`."""
        return self._local_sha256

    def open_local(self, path: Path) -> None:
        """Write a new secret for this machine's own user to `path`, mode 0600.

        Raises:
            OSError: it cannot be written.
        """
        secret = secrets.token_urlsafe(32)
        replace_file(path, secret.encode(), mode=0o600)
        self._local_sha256 = hash_token(secret)

    def load(self) -> tuple[Token, ...]:
        """Read the file; a missing one is an unpaired robot.

        Raises:
            DataError: E-ROBOT-TOKENS-001, the file is damaged.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            data = b"[]"
        try:
            self._tokens = msgspec.json.decode(data, type=tuple[Token, ...])
        except (msgspec.DecodeError, ValueError) as error:
            raise DataError(
                "E-ROBOT-TOKENS-001",
                f"the file of paired clients is damaged: {error}",
                where=self._path,
                hint="remove it and pair again, standing by the robot",
            ) from error
        return self._tokens

    def revoke(self, client: str) -> Token:
        """Forget a client, on disk first; what it was given opens nothing from then on.

        Raises:
            UsageError: E-ROBOT-CLIENT-004, there is no such client.
            OSError: the file could not be written; the client is still known.
        """
        with self._lock:
            gone = next((t for t in self._tokens if t.client == client), None)
            if gone is None:
                raise UsageError(
                    "E-ROBOT-CLIENT-004",
                    "there is no such client",
                    seen=client,
                    allowed=", ".join(t.client for t in self._tokens)
                    or "none is paired",
                    hint="`continuon robot clients` lists them",
                )
            left = tuple(token for token in self._tokens if token is not gone)
            replace_file(self._path, msgspec.json.encode(left), mode=0o600)
            self._tokens = left
            return gone

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The paired clients."""
        return self._tokens

    def open_window(self, role: Role = Role.OWNER) -> PairingWindow:
        """Begin a pairing and return the code to show; an older one is void."""
        with self._lock:
            self._window = PairingWindow(
                code=f"{secrets.randbelow(1_000_000):06d}",
                role=role,
                expires_ns=self._clock.monotonic_ns() + CODE_TTL_NS,
            )
            return self._window

    def pair(self, code: str, name: str) -> tuple[str, Role]:
        """Return a new token for the right code; it is told this once only.

        Raises:
            TrustError: the code is wrong, or none is asked for.
            OSError: the token could not be stored; no pairing happened.
        """
        with self._lock:
            try:
                window, role = try_code(self._window, code, self._clock.monotonic_ns())
            except TrustError:
                self._window = after_wrong_code(self._window)
                raise
            secret = secrets.token_urlsafe(32)
            token = Token(
                name=name[:64],
                role=role,
                sha256=hash_token(secret),
                created_wall_ns=self._clock.wall_ns(),
            )
            tokens = (*self._tokens, token)
            replace_file(self._path, msgspec.json.encode(tokens), mode=0o600)
            self._tokens, self._window = tokens, window
            return secret, role
