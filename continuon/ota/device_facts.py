"""What was installed and what the kernel said, for the triage of a failed bundle."""

from __future__ import annotations

import json
import os
import platform
from importlib import metadata
from pathlib import Path

import continuon

__all__ = ["kernel_log", "triage_facts", "versions"]

_PACKAGES = ("numpy", "ai-edge-litert", "onnxruntime", "cryptography", "tuf", "msgspec")
_KERNEL_LOG = Path("/dev/kmsg")
_MAX_LINES = 200
_MAX_RECORD_BYTES = 8192


def triage_facts() -> dict[str, bytes]:
    """Return small files by name; what cannot be read says why instead."""
    facts = {"versions.json": json.dumps(versions(), indent=1).encode() + b"\n"}
    try:
        facts["kernel.log"] = kernel_log()
    except OSError as error:
        facts["kernel.log.unreadable"] = f"{error.strerror}\n".encode()
    return facts


def versions() -> dict[str, str]:
    """Return the versions of this library, of what runs policies, and of the system."""
    found = {
        "continuon": continuon.__version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
    }
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def kernel_log(path: Path = _KERNEL_LOG) -> bytes:
    """Return the newest lines of the kernel's log; waits for none.

    Raises:
        OSError: it may not be read here.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    lines: list[bytes] = []
    try:
        while record := _next_record(handle):
            lines += record.rstrip(b"\n").split(b"\n")
            del lines[:-_MAX_LINES]
    finally:
        os.close(handle)
    return b"\n".join(lines) + b"\n"


def _next_record(handle: int) -> bytes:
    """Return one record, empty at the end of what there is by now."""
    while True:
        try:
            return os.read(handle, _MAX_RECORD_BYTES)
        except BlockingIOError:
            return b""
        except BrokenPipeError:  # that record was overwritten meanwhile; the next one
            continue
