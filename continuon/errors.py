"""One family of errors: a stable code, what was seen, what is allowed, what to do next.

Exit codes: 0 done, 1 failed, 2 usage, 3 finished but a gate was missed or data was
lost, 4 a person must act, 5 refused for safety or trust.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "BudgetError",
    "ContinuonError",
    "ContractError",
    "DataError",
    "GateMissedError",
    "HardwareError",
    "MissingPackageError",
    "TrustError",
    "UsageError",
    "error_from_dict",
    "system_error",
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class ContinuonError(Exception):
    """Base of every error that this library raises on purpose.

    Args:
        code: stable identifier, `E-<ROOM>-<THING>-<NNN>`; callers may match on it.
        what: one sentence that says what is wrong.
        where: file, field, channel or address at which it was seen.
        seen: the offending value.
        allowed: what would have been accepted.
        hint: the next step for the person who reads this.
        exit_code: overrides the family's process exit code.
    """

    family: ClassVar[str] = "error"
    default_exit_code: ClassVar[int] = 1

    def __init__(
        self,
        code: str,
        what: str,
        *,
        where: object = None,
        seen: object = None,
        allowed: object = None,
        hint: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        self.code = code
        self.what = what
        self.where = None if where is None else str(where)
        self.seen = None if seen is None else str(seen)
        self.allowed = None if allowed is None else str(allowed)
        self.hint = hint
        self.exit_code = self.default_exit_code if exit_code is None else exit_code
        super().__init__(str(self))

    def __str__(self) -> str:
        """Return the one line that a person sees."""
        parts = [f"{self.code}: {self.what}"]
        if self.seen is not None:
            parts.append(f"seen {_short(self.seen)}")
        if self.allowed is not None:
            parts.append(f"allowed {_short(self.allowed)}")
        if self.hint is not None:
            parts.append(f"next: {self.hint}")
        if self.where is not None:
            parts.append(f"at {self.where}")
        return _one_line("; ".join(parts))

    def as_dict(self) -> dict[str, Any]:
        """Return the same facts for machines; absent ones are left out."""
        facts = {
            "code": self.code,
            "family": self.family,
            "what": self.what,
            "seen": self.seen,
            "allowed": self.allowed,
            "hint": self.hint,
            "where": self.where,
            "exit_code": self.exit_code,
        }
        return {key: value for key, value in facts.items() if value is not None}


class ContractError(ContinuonError, ValueError):
    """A value breaks a written contract (schema, shape, range, order)."""

    family = "contract"


class DataError(ContinuonError, ValueError):
    """Stored data is missing, torn, stale or not what it claims to be."""

    family = "data"


class HardwareError(ContinuonError, OSError):
    """A device is absent, silent or answers wrongly; a person must look."""

    family = "hardware"
    default_exit_code = 4

    def __str__(self) -> str:
        """Return the one line that a person sees, not OSError's errno form."""
        return ContinuonError.__str__(self)


class TrustError(ContinuonError):
    """Something is unsigned, altered, revoked, or would loosen a safety rule."""

    family = "trust"
    default_exit_code = 5


class BudgetError(ContinuonError):
    """Time, memory, heat, space or latency ran past what was granted."""

    family = "budget"
    default_exit_code = 3


class GateMissedError(BudgetError):
    """A phase finished, but a measured figure misses its gate."""

    family = "gate"


class UsageError(ContinuonError, ValueError):
    """The caller asked for something that does not exist or contradicts itself."""

    family = "usage"
    default_exit_code = 2


class MissingPackageError(UsageError, ImportError):
    """An optional package is needed here and is not installed."""

    family = "usage"

    @classmethod
    def for_extra(
        cls, package: str, extra: str, *, purpose: str
    ) -> MissingPackageError:
        """Return the error whose hint holds the install line."""
        return cls(
            "E-ENV-PKG-001",
            f"{purpose} needs the package {package}, which is not installed",
            hint=f"pip install 'continuon[{extra}]'",
        )


def _one_line(text: str) -> str:
    """Return the text with control characters spelt: a name may hold any of them."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


def _short(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


_SYSTEM = {
    errno.ENOSPC: ("E-IO-FULL-001", "the disk is full", "free space and run again"),
    errno.EROFS: (
        "E-IO-READONLY-002",
        "the disk is mounted read-only",
        "check the card: a failing one is remounted read-only",
    ),
    errno.EACCES: (
        "E-IO-DENIED-003",
        "this user may not read or write here",
        "choose another folder or set CONTINUON_HOME",
    ),
    errno.ENOENT: (
        "E-IO-MISSING-004",
        "there is no such file or folder",
        "check the name",
    ),
    errno.EEXIST: ("E-IO-KIND-005", "a file stands where a folder must be", None),
    errno.ENOTDIR: ("E-IO-KIND-005", "a file stands where a folder must be", None),
    errno.EISDIR: ("E-IO-KIND-005", "a folder stands where a file must be", None),
}


def system_error(error: OSError) -> DataError:
    """Return what the system refused as one of ours: code, file, next step."""
    code, what, hint = _SYSTEM.get(
        error.errno or 0, ("E-IO-OTHER-006", "the system refused", None)
    )
    seen = error if error.errno not in _SYSTEM else None
    return DataError(code, what, where=error.filename, seen=seen, hint=hint)


def error_from_dict(facts: Mapping[str, Any]) -> ContinuonError:
    """Return the error that `as_dict` spelt in another process, of its own family."""
    kinds: dict[str, type[ContinuonError]] = {
        kind.family: kind
        for kind in (
            ContractError,
            DataError,
            HardwareError,
            TrustError,
            BudgetError,
            GateMissedError,
            UsageError,
        )
    }
    more = {k: v for k, v in facts.items() if k not in ("family", "code", "what")}
    kind = kinds.get(str(facts.get("family")), ContinuonError)
    return kind(str(facts["code"]), str(facts["what"]), **more)
