"""Who made a figure: the code's digest, the host's facts."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from continuon.durable import replace_file

__all__ = [
    "code_digest",
    "host_facts",
    "peak_memory_bytes",
    "to_json",
    "write_json",
]

_ROOMS = ("hope", "learn", "rlds")
_PACKAGES = ("continuon", "jax", "jaxlib", "optax", "numpy")


def code_digest() -> str:
    """Return the SHA-256, hex, of the Python sources that decide what is learned.

    Covers each file's POSIX path within the package and its bytes, sorted by path: the
    rooms learn, hope and rlds, and the modules beside the rooms.
    """
    import continuon

    root = Path(str(continuon.__file__)).parent
    total = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if "/" not in name or name.split("/")[0] in _ROOMS:
            total.update(name.encode() + b"\0")
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def host_facts() -> dict[str, Any]:
    """Return what the figures were measured on, without names of host or user."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "packages": versions,
    }


def peak_memory_bytes() -> int:
    """Return the largest resident set that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def to_json(document: Any) -> bytes:
    """Return a JSON document for people and machines; NaN and infinities are null."""
    plain = json.loads(msgspec.json.encode(document))
    return json.dumps(plain, indent=2, sort_keys=True).encode() + b"\n"


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole, as `to_json` has it."""
    replace_file(path, to_json(document))
