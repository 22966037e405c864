"""Who may ask what of the robot's API: a pure decision on facts that cannot be faked.

A peer's address comes from the socket, never from a header. Until a first token exists,
a person at the robot (loopback) is its owner; from then on everybody shows a token.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from enum import IntEnum

import attrs

from continuon.errors import TrustError

__all__ = [
    "Access",
    "PairingWindow",
    "Role",
    "Token",
    "decide_access",
    "hash_token",
    "is_loopback",
    "names_this_host",
    "try_code",
]

CODE_TTL_NS = 300_000_000_000
CODE_ATTEMPTS = 5
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


class Role(IntEnum):
    """What a token allows; each includes the ones below it."""

    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2
    OWNER = 3


@attrs.frozen(kw_only=True)
class Token:
    """A paired client. Only the token's SHA-256 is kept."""

    name: str
    role: Role = attrs.field(converter=Role)
    sha256: str
    created_wall_ns: int = 0

    @property
    def client(self) -> str:
        """An id that tells this client from others and opens nothing."""
        return self.sha256[:12]


@attrs.frozen(kw_only=True)
class Access:
    """A caller's role, and why it is not more."""

    role: Role
    name: str
    reason: str = ""


@attrs.frozen(kw_only=True)
class PairingWindow:
    """A code that the robot shows, for a short while and a few attempts.

    Attributes:
        code: six digits.
        role: what the token of this pairing will allow.
        expires_ns: host monotonic.
        attempts_left: wrong guesses still allowed.
    """

    code: str
    role: Role = Role.OWNER
    expires_ns: int
    attempts_left: int = CODE_ATTEMPTS


def hash_token(token: str) -> str:
    """Return what is stored in a token's place."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_loopback(peer: str | None) -> bool:
    """Return whether a socket's peer address is this machine itself."""
    return peer is not None and (peer == "::1" or peer.startswith("127."))


def names_this_host(host_header: str | None, allowed: Sequence[str] = ()) -> bool:
    """Return whether a Host header names this robot and no page's own domain.

    A browser that was lured by another name (DNS rebinding) sends that name here.
    """
    if not host_header:
        return False
    host = host_header.strip().lower()
    name = host[: host.rindex("]") + 1] if "]" in host else host.partition(":")[0]
    return name in _LOOPBACK_NAMES or name in {item.lower() for item in allowed}


def decide_access(
    *,
    peer: str | None,
    host_header: str | None,
    authorization: str | None,
    tokens: Sequence[Token],
    own_names: Sequence[str] = (),
    local_sha256: str | None = None,
) -> Access:
    """Return a caller's role.

    Args:
        peer: address at the other end of the socket.
        host_header: the request's Host.
        authorization: the request's Authorization, "Bearer TOKEN".
        tokens: the paired clients.
        own_names: names and addresses that this robot is reached by.
        local_sha256: hash of the secret that this run of the service keeps in a file
            for its own user; whoever can read it is a person at the robot.
    """
    if not names_this_host(host_header, own_names):
        return _nobody("the Host header does not name this robot")
    if authorization:
        scheme, _, secret = authorization.partition(" ")
        digest = hash_token(secret.strip())
        for token in tokens:
            if scheme.lower() == "bearer" and hmac.compare_digest(token.sha256, digest):
                return Access(role=token.role, name=token.name)
        is_own = local_sha256 is not None and hmac.compare_digest(local_sha256, digest)
        if is_own and scheme.lower() == "bearer" and is_loopback(peer):
            return Access(role=Role.OWNER, name="local")
        return _nobody("the token is not known")
    if tokens:
        return _nobody("a token is needed: pair with the code that the robot shows")
    if not is_loopback(peer):
        return _nobody("not paired yet: only this machine itself may ask")
    return Access(role=Role.OWNER, name="local")


def try_code(
    window: PairingWindow | None, code: str, now_ns: int
) -> tuple[PairingWindow | None, Role]:
    """Return the window that is left, and the role that the right code earns.

    Raises:
        TrustError: E-ROBOT-PAIR-001 no window is open or it is over, -002 wrong code.
            The caller keeps `remaining_window` for the latter.
    """
    if window is None or now_ns >= window.expires_ns or window.attempts_left <= 0:
        raise TrustError(
            "E-ROBOT-PAIR-001",
            "no pairing is under way",
            hint="ask the robot for a new code: `continuon robot pair`",
        )
    if not hmac.compare_digest(window.code.encode(), code.encode()):
        raise TrustError(
            "E-ROBOT-PAIR-002",
            "the code is wrong",
            seen=f"{window.attempts_left - 1} attempts left",
            hint="read it from the robot again",
        )
    return None, window.role


def after_wrong_code(window: PairingWindow | None) -> PairingWindow | None:
    """Return the window after a wrong guess; None when that was the last one."""
    if window is None or window.attempts_left <= 1:
        return None
    return attrs.evolve(window, attempts_left=window.attempts_left - 1)


def _nobody(reason: str) -> Access:
    return Access(role=Role.NOBODY, name="nobody", reason=reason)
