"""Paths that may lie in a bucket: a URL is kept verbatim, never turned into a path."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from continuon.errors import MissingPackageError, UsageError

__all__ = ["download", "fetch_file", "is_url", "remove_file", "send_file", "upload"]


def is_url(path: str | Path) -> bool:
    """Return whether the text names something behind a protocol.

    Raises:
        UsageError: E-LEARN-URL-001, a URL went through a path and lost a slash.
    """
    text = str(path)
    head, colon, rest = text.partition(":")
    protocol = bool(colon) and head.isalnum() and len(head) > 1 and "/" not in head
    if protocol and rest.startswith("/") and not rest.startswith("//"):
        raise UsageError(
            "E-LEARN-URL-001",
            "this URL has lost a slash on its way through a path",
            seen=text,
            allowed=f"{head}://…, given as text",
        )
    return protocol and rest.startswith("//")


def download(
    url: str, scratch: Path, *, open_url: Callable[[str], Any] | None = None
) -> Path:
    """Return a local copy of a folder behind a URL, below `scratch`.

    Raises:
        MissingPackageError: fsspec, or what it needs for this protocol, is absent.
    """
    system, inner = (open_url or _open)(url)
    target = scratch / hashlib.sha256(url.encode()).hexdigest()[:16]
    target.mkdir(parents=True, exist_ok=True)
    system.get(inner.rstrip("/") + "/", str(target) + "/", recursive=True)
    return target


def upload(
    folder: Path, url: str, *, open_url: Callable[[str], Any] | None = None
) -> None:
    """Copy a folder's files to a URL.

    Raises:
        MissingPackageError: as for `download`.
    """
    system, inner = (open_url or _open)(url)
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = file.relative_to(folder).as_posix()
        system.put_file(str(file), f"{inner.rstrip('/')}/{name}")


def send_file(path: Path, url: str) -> None:
    """Copy one file to a URL.

    Raises:
        MissingPackageError: as for `download`.
    """
    system, inner = _open(url)
    system.put_file(str(path), inner)


def fetch_file(url: str, path: Path) -> bool:
    """Copy one file from a URL; return whether there was one.

    Raises:
        MissingPackageError: as for `download`.
    """
    system, inner = _open(url)
    if not system.exists(inner):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    system.get_file(inner, str(path))
    return True


def remove_file(url: str) -> None:
    """Remove one file behind a URL, if it is there.

    Raises:
        MissingPackageError: as for `download`.
    """
    system, inner = _open(url)
    if system.exists(inner):
        system.rm_file(inner)


def _open(url: str) -> Any:
    try:
        fsspec = import_module("fsspec.core")
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "fsspec", "tpu", purpose=f"reading {url}"
        ) from error
    try:
        return fsspec.url_to_fs(url)
    except ImportError as error:
        package = "gcsfs" if url.startswith("gs://") else "fsspec's backend"
        raise MissingPackageError.for_extra(
            package, "tpu", purpose=f"reading {url}"
        ) from error
