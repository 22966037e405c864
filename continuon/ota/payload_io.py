"""Fetch one payload file by its digest: resumed, capped, never taken before verified.

The file grows under `.part` and gets its name only when length and digest are right.
More bytes than signed are refused as they arrive (endless data), and so is a server
that is slower than a bound (slow retrieval).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import attrs

from continuon.clock import Clock, SystemClock
from continuon.errors import BudgetError, DataError, TrustError
from continuon.ota.source_io import Source

__all__ = ["FetchLimits", "Fetched", "fetch_payload", "paced", "payload_path"]

PART_SUFFIX = ".part"
_BLOCK_BYTES = 1 << 20


@attrs.frozen(kw_only=True)
class FetchLimits:
    """Bounds of one download.

    Over every window of `window_s`, at least `min_bytes_per_s` must arrive on average.
    """

    min_bytes_per_s: float = 512.0
    window_s: float = 30.0


@attrs.frozen
class Fetched:
    """What one file cost."""

    fetched_bytes: int
    resumed_bytes: int


def payload_path(digest: str) -> str:
    """Return where a repository's content-addressed store has a digest."""
    return f"payload/{digest[:2]}/{digest}"


def fetch_payload(
    source: Source,
    digest: str,
    size_bytes: int,
    target: Path,
    *,
    part: Path | None = None,
    remote: str | None = None,
    limits: FetchLimits | None = None,
    clock: Clock | None = None,
) -> Fetched:
    """Put the file with SHA-256 `digest` and exactly `size_bytes` at `target`.

    A `.part` of an earlier try is continued, and dropped where that does not lead to
    the signed bytes. `remote` is the path in the repository; by default the
    content-addressed one.

    Raises:
        DataError: E-OTA-FETCH-001, -404; the part is kept for another try.
        TrustError: E-OTA-FETCH-002 more bytes than signed, -004 other bytes than
            signed; the part is thrown away.
        BudgetError: E-OTA-FETCH-003, too slow; the part is kept.
    """
    part = part or target.with_name(target.name + PART_SUFFIX)
    part.parent.mkdir(parents=True, exist_ok=True)
    hasher = hashlib.sha256()
    have = _continue(part, hasher, size_bytes)
    resumed = have
    fetched = 0
    if have < size_bytes or size_bytes == 0:
        pace = _Pace(limits or FetchLimits(), clock or SystemClock())
        path = remote or payload_path(digest)
        with source.open(path, offset=have) as stream, part.open("ab") as file:
            if stream.offset != have:
                file.truncate(stream.offset)
                file.seek(stream.offset)
                hasher = hashlib.sha256()
                have = resumed = stream.offset
            for chunk in stream.chunks:
                have += len(chunk)
                fetched += len(chunk)
                if have > size_bytes:
                    break
                file.write(chunk)
                hasher.update(chunk)
                pace.count(len(chunk), digest)
        if have > size_bytes:
            part.unlink()
            raise TrustError(
                "E-OTA-FETCH-002",
                "the repository sends more bytes than were signed",
                seen=f"at least {have} bytes",
                allowed=f"{size_bytes} bytes",
                where=path,
            )
    if have < size_bytes:
        raise DataError(
            "E-OTA-FETCH-001",
            "the connection ended early",
            seen=f"{have} of {size_bytes} bytes",
            where=digest,
            hint="try again; it continues where it stopped",
        )
    if hasher.hexdigest() != digest:
        part.unlink()
        if (
            resumed
        ):  # the part may be what is wrong: a power cut tears what is unflushed
            whole = fetch_payload(
                source,
                digest,
                size_bytes,
                target,
                part=part,
                remote=remote,
                limits=limits,
                clock=clock,
            )
            return Fetched(fetched + whole.fetched_bytes, 0)
        raise TrustError(
            "E-OTA-FETCH-004",
            "the repository sent other bytes than were signed",
            seen=hasher.hexdigest(),
            allowed=digest,
            where=source.name,
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    part.rename(target)
    return Fetched(fetched, resumed)


def paced(
    chunks: Iterator[bytes],
    where: str,
    *,
    limits: FetchLimits | None = None,
    clock: Clock | None = None,
) -> Iterator[bytes]:
    """Yield chunks as long as they come fast enough.

    Raises:
        BudgetError: E-OTA-FETCH-003.
    """
    pace = _Pace(limits or FetchLimits(), clock or SystemClock())
    for chunk in chunks:
        pace.count(len(chunk), where)
        yield chunk


def _continue(part: Path, hasher: hashlib._Hash, size_bytes: int) -> int:
    """Feed an earlier part to `hasher` and return its length; drop one too long."""
    if part.is_symlink():
        part.unlink()
    if not part.exists():
        return 0
    if part.stat().st_size > size_bytes:
        part.unlink()
        return 0
    have = 0
    with part.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            hasher.update(block)
            have += len(block)
    return have


class _Pace:
    """Raises when a window passes with too few bytes."""

    def __init__(self, limits: FetchLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._since_ns = clock.monotonic_ns()
        self._bytes = 0

    def count(self, arrived_bytes: int, where: str) -> None:
        self._bytes += arrived_bytes
        now_ns = self._clock.monotonic_ns()
        passed_s = (now_ns - self._since_ns) / 1e9
        if passed_s < self._limits.window_s:
            return
        if self._bytes < self._limits.min_bytes_per_s * passed_s:
            raise BudgetError(
                "E-OTA-FETCH-003",
                "the repository answers too slowly to be told from a stalled one",
                seen=f"{self._bytes / passed_s:.0f} bytes/s over {passed_s:.0f} s",
                allowed=f"at least {self._limits.min_bytes_per_s:.0f} bytes/s",
                where=where,
                hint="try again later or elsewhere; it continues where it stopped",
                exit_code=1,
            )
        self._since_ns, self._bytes = now_ns, 0
