"""Where a repository's bytes come from: a directory, or any web server or bucket.

A source opens one path at an offset and streams from there; it promises nothing about
what arrives. Every length and digest is checked by the reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import attrs

from continuon.errors import DataError, MissingPackageError, UsageError

__all__ = ["DirectorySource", "HttpSource", "Source", "Stream", "open_source"]

CHUNK_BYTES = 1 << 18
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0


@attrs.frozen
class Stream:
    """Bytes of one file from `offset` on, which may be below the one asked for."""

    offset: int
    chunks: Iterator[bytes]


class Source(Protocol):
    """Something that serves a repository's files by relative path."""

    @property
    def name(self) -> str:
        """Return what a person calls this source."""
        ...

    def open(self, path: str, *, offset: int = 0) -> AbstractContextManager[Stream]:
        """Stream a file.

        Raises:
            DataError: E-OTA-FETCH-001 not reachable, E-OTA-FETCH-404 not there.
        """
        ...


@attrs.frozen
class DirectorySource:
    """A repository in a directory, such as a USB stick or a shared disk."""

    root: Path

    @property
    def name(self) -> str:
        """Return what a person calls this source."""
        return str(self.root)

    @contextmanager
    def open(self, path: str, *, offset: int = 0) -> Iterator[Stream]:
        """See `Source`."""
        target = self.root.joinpath(*_segments(path))
        try:
            file = target.open("rb")
        except FileNotFoundError as error:
            raise not_there(target) from error
        except OSError as error:
            raise unreachable(target, str(error)) from error
        with file:
            file.seek(offset)
            yield Stream(offset, iter(lambda: file.read(CHUNK_BYTES), b""))


@attrs.frozen
class HttpSource:
    """A repository behind HTTP(S); ranges are used where the server has them."""

    base_url: str

    @property
    def name(self) -> str:
        """Return what a person calls this source."""
        return self.base_url

    @contextmanager
    def open(self, path: str, *, offset: int = 0) -> Iterator[Stream]:
        """See `Source`."""
        try:
            import urllib3
        except ImportError as error:
            raise MissingPackageError.for_extra(
                "urllib3", "ota", purpose="fetching updates over HTTP"
            ) from error
        url = f"{self.base_url.rstrip('/')}/{'/'.join(_segments(path))}"
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
        with urllib3.PoolManager() as pool:
            try:
                response = pool.request(
                    "GET",
                    url,
                    headers=headers,
                    timeout=timeout,
                    retries=urllib3.Retry(2, backoff_factor=0.2, raise_on_status=False),
                    preload_content=False,
                )
            except urllib3.exceptions.HTTPError as error:
                raise unreachable(url, str(error)) from error
            try:
                start = _start_of(response.status, response.headers, offset, url)
                yield Stream(start, _chunks(response, url))
            finally:
                response.release_conn()
                response.close()


def open_source(location: str | Path) -> Source:
    """Return the source at a directory or an http(s) URL.

    Raises:
        UsageError: E-OTA-FETCH-005, another kind of location.
    """
    text = str(location)
    if text.startswith(("http://", "https://")):
        return HttpSource(text)
    if text.startswith("file://"):
        return DirectorySource(Path(text.removeprefix("file://")))
    if "://" in text:
        raise UsageError(
            "E-OTA-FETCH-005",
            "a repository is a directory or an http(s) address",
            seen=text,
        )
    return DirectorySource(Path(text))


def _segments(path: str) -> list[str]:
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        raise UsageError(
            "E-OTA-FETCH-005", "a path that leaves the repository", seen=path
        )
    return parts


def _start_of(status: int, headers: Mapping[str, str], offset: int, url: str) -> int:
    if status in {403, 404}:
        raise not_there(url)
    if status == 200:
        return 0
    if status == 206:
        span = headers.get("Content-Range", "")
        first = span.removeprefix("bytes ").partition("-")[0]
        if first.isdigit() and int(first) == offset:
            return offset
    raise unreachable(url, f"HTTP status {status}")


def _chunks(response: object, url: str) -> Iterator[bytes]:
    """Yield what has arrived, as it arrives.

    `stream` and `read` wait until a whole chunk is there, which a server that drips
    one byte every half minute can drag out for months, unseen by any bound on the pace.
    """
    import urllib3

    try:
        while chunk := response.read1(CHUNK_BYTES):  # type: ignore[attr-defined]
            yield chunk
    except urllib3.exceptions.HTTPError as error:
        raise unreachable(url, str(error)) from error


def not_there(where: object) -> DataError:
    """Return the error for a file that a repository does not have."""
    return DataError(
        "E-OTA-FETCH-404", "the repository does not have this file", where=where
    )


def unreachable(where: object, seen: str) -> DataError:
    """Return the error for a repository that does not answer."""
    return DataError(
        "E-OTA-FETCH-001",
        "the repository cannot be read",
        seen=seen,
        where=where,
        hint="check the connection; what was fetched so far is kept",
    )
