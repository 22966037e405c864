"""Ask a repository what may run: TUF on a copy of the trusted metadata.

python-tuf verifies; this module gives it bytes from any source, a time that no clock
jump can turn back, and a directory that changes as a whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from continuon.clock import Clock
from continuon.errors import ContinuonError, DataError, MissingPackageError, TrustError
from continuon.ota.channel import Channel, channel_path, parse_channel
from continuon.ota.metadata_io import MetadataDirectory
from continuon.ota.payload_io import paced
from continuon.ota.source_io import Source

__all__ = ["RepositoryClient"]

_BASE = "repository://"


@attrs.frozen
class RepositoryClient:
    """A repository as seen by one device.

    `root` are the bytes of the pinned first root metadata; `metadata_dir` keeps what is
    trusted since.
    """

    source: Source
    metadata_dir: Path
    root: bytes
    clock: Clock
    t_floor_ns: int = 0

    def read_targets(self, *paths: str) -> dict[str, bytes]:
        """Return the bytes of signed targets after a full refresh.

        Raises:
            DataError: E-OTA-FETCH-001 not reachable, E-OTA-TUF-003 no such target.
            TrustError: E-OTA-TUF-001 metadata that does not verify, -002 expired.
        """
        tuf = _Tuf()
        with MetadataDirectory(self.metadata_dir).working_copy() as copy:
            cached = (copy / "root.json").exists()
            with tempfile.TemporaryDirectory() as scratch:
                try:
                    updater = tuf.Updater(
                        str(copy),
                        f"{_BASE}metadata",
                        scratch,
                        f"{_BASE}targets",
                        fetcher=tuf.fetcher(self.source, self.clock),
                        bootstrap=None if cached else self.root,
                    )
                    trusted = updater._trusted_set  # noqa: SLF001
                    trusted.reference_time = self._now()
                    updater.refresh()
                    return {path: _read_target(updater, path) for path in paths}
                except tuf.errors.ExpiredMetadataError as error:
                    raise TrustError(
                        "E-OTA-TUF-002",
                        "the repository's metadata has expired",
                        seen=str(error),
                        where=self.source.name,
                        hint="the publisher must sign it again, or this clock is wrong",
                    ) from error
                except tuf.errors.DownloadError as error:
                    raise _download_failed(error, self.source.name) from error
                except tuf.errors.RepositoryError as error:
                    raise TrustError(
                        "E-OTA-TUF-001",
                        "the repository's metadata does not verify",
                        seen=f"{type(error).__name__}: {error}",
                        where=self.source.name,
                    ) from error

    def channel(self, name: str) -> Channel:
        """Return what is on offer under a channel's name."""
        path = channel_path(name)
        data = self.read_targets(path)[path]
        return parse_channel(data, where=path)

    def _now(self) -> datetime:
        """Return the wall time, but never one below the signed floor."""
        now_ns = max(self.clock.wall_ns(), self.t_floor_ns)
        return datetime.fromtimestamp(now_ns / 1e9, UTC)


def _read_target(updater: Any, path: str) -> bytes:
    info = updater.get_targetinfo(path)
    if info is None:
        raise DataError("E-OTA-TUF-003", "the repository has no such target", seen=path)
    return Path(updater.download_target(info)).read_bytes()


def _download_failed(error: Exception, where: str) -> ContinuonError:
    cause = error.__cause__
    if isinstance(cause, ContinuonError):
        return cause
    return DataError(
        "E-OTA-FETCH-001",
        "the repository cannot be read",
        seen=f"{type(error).__name__}: {error}",
        where=where,
        hint="check the connection; what was fetched so far is kept",
    )


class _Tuf:
    """python-tuf's names, imported when first needed."""

    def __init__(self) -> None:
        try:
            from tuf.api import exceptions
            from tuf.ngclient.fetcher import FetcherInterface
            from tuf.ngclient.updater import Updater
        except ImportError as error:
            raise MissingPackageError.for_extra(
                "tuf", "ota", purpose="checking for updates"
            ) from error
        self.errors: Any = exceptions
        self.Updater: Any = Updater
        self._interface: Any = FetcherInterface

    def fetcher(self, source: Source, clock: Clock) -> Any:
        """Return python-tuf's fetcher over one of our sources."""
        http_error = self.errors.DownloadHTTPError

        def fetch(_: Any, url: str) -> Iterator[bytes]:
            path = url.removeprefix(_BASE)
            try:
                with source.open(path) as stream:
                    arriving = paced(stream.chunks, path, clock=clock)
                    return iter(list(_capped(arriving)))
            except DataError as error:
                if error.code == "E-OTA-FETCH-404":
                    raise http_error(str(error), 404) from error
                raise

        return type("SourceFetcher", (self._interface,), {"_fetch": fetch})()


def _capped(chunks: Iterator[bytes], limit: int = 8 << 20) -> Iterator[bytes]:
    """Stop far above any metadata's cap; python-tuf judges the exact one."""
    total = 0
    for chunk in chunks:
        yield chunk
        total += len(chunk)
        if total > limit:
            return
