"""Is this machine ready, and what must be fixed how: `continuon doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from continuon.health.host import check_disk, check_memory, check_pressure
from continuon.health.levels import Level
from continuon.health.report import Check
from continuon.health.thresholds import load_thresholds
from continuon.home import Home
from continuon.rig.boottime import measure_boottime_offset

__all__ = ["EXTRAS", "DoctorReport", "doctor"]

MIN_PYTHON = (3, 11)
# Import names of each extra's packages with native code, or that are easily missing.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "core": ("attrs", "msgspec", "numpy", "cryptography", "google_crc32c", "cyclopts"),
    "pi": ("smbus2", "simplejpeg", "ai_edge_litert", "zeroconf", "starlette"),
    "oak": ("depthai",),
    "data": ("simplejpeg", "pandera", "polars"),
    "train": ("jax", "jaxlib", "flax", "optax", "chex"),
    "export": ("ai_edge_litert", "litert_converter"),
    "ota": ("tuf", "securesystemslib"),
}
_APT = {
    "picamera2": "sudo apt install python3-picamera2",
    "libcamera": "sudo apt install python3-libcamera",
}


@attrs.frozen(kw_only=True)
class DoctorReport:
    """What was looked at, each with what to do about it."""

    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """0 when core works and nothing is CRITICAL; 4 when a person must act."""
        levels = {check.level for check in self.checks}
        return 4 if Level.CRITICAL in levels else 0

    def as_dict(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "schema": "continuon.doctor/1",
            "exit_code": self.exit_code,
            "checks": [check.as_dict() for check in self.checks],
        }


_IMPORT_EACH = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    print(name, flush=True)
"""


def try_imports(modules: Sequence[str]) -> dict[str, str]:
    """Import modules in another process; return the failures by module.

    A native module that was built for another processor or page size can kill the
    process that imports it; the rest is then tried in a new one.
    """
    failures: dict[str, str] = {}
    left = list(dict.fromkeys(modules))
    while left:
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT_EACH, *left],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        imported = set(done.stdout.split())
        left = [name for name in left if name not in imported]
        if left:
            last_words = done.stderr.strip().splitlines()[-1:]
            failures[left.pop(0)] = "".join(last_words) or f"status {done.returncode}"
    return failures


def doctor(
    *,
    home: Home | None = None,
    extras: Sequence[str] | None = None,
    deep: bool = True,
    import_all: Callable[[Sequence[str]], dict[str, str]] = try_imports,
    proc: Path = Path("/proc"),
) -> DoctorReport:
    """Look at the machine; nothing is changed.

    Args:
        home: where recordings go; from the environment when None.
        extras: which extras to look at; all of them when None.
        deep: import what is installed, in processes of its own (slow); else only look
            whether it is installed.
        import_all: imports modules and returns failures by name.
        proc: root of procfs.
    """
    limits = load_thresholds()
    where = Home.from_environment() if home is None else home
    wanted = tuple(EXTRAS) if extras is None else tuple(extras)
    installed = [
        name
        for extra in wanted
        for name in EXTRAS[extra]
        if importlib.util.find_spec(name) is not None
    ]
    broken = import_all(installed) if deep else {}
    checks = [_python(), _page_size()]
    checks += [_extra(extra, broken) for extra in wanted]
    checks += [
        _camera_stack(),
        _clocks(),
        check_disk(where.root, limits["disk"]),
        check_memory(limits["memory"], proc=proc),
        check_pressure(limits["pressure"], proc=proc),
    ]
    return DoctorReport(checks=tuple(checks))


def _python() -> Check:
    version = platform.python_version()
    new_enough = sys.version_info[:2] >= MIN_PYTHON
    return Check(
        name="python",
        level=Level.OK if new_enough else Level.CRITICAL,
        text=f"{platform.python_implementation()} {version} on {platform.machine()}",
        figures={"python": version, "machine": platform.machine()},
        origin="host",
        hint=None if new_enough else "install Python 3.11 or newer",
    )


def _page_size() -> Check:
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    usual = page_bytes in (4096, 16384)
    return Check(
        name="page size",
        level=Level.OK if usual else Level.WARN,
        text=f"{page_bytes} bytes"
        + (" (Raspberry Pi 5 kernel)" if page_bytes == 16384 else ""),
        figures={"page_bytes": page_bytes},
        origin="host",
        hint=None if usual else "wheels are built for pages of 4 and 16 KiB",
    )


def _extra(extra: str, failures: Mapping[str, str]) -> Check:
    modules = EXTRAS[extra]
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    broken = {name: failures[name] for name in modules if name in failures}
    install = (
        "pip install continuon"
        if extra == "core"
        else f"pip install 'continuon[{extra}]'"
    )
    if broken:
        name, why = next(iter(broken.items()))
        return Check(
            name=f"extra {extra}",
            level=Level.CRITICAL,
            text=f"{name} is installed and cannot be imported: {why}",
            figures={"absent": absent, "broken": broken},
            origin="host",
            hint=f"pip install --force-reinstall --no-cache-dir {name}",
        )
    if absent:
        return Check(
            name=f"extra {extra}",
            level=Level.CRITICAL if extra == "core" else Level.WARN,
            text=f"not installed: {', '.join(absent)}",
            figures={"absent": absent},
            origin="host",
            hint=install,
        )
    return Check(
        name=f"extra {extra}",
        level=Level.OK,
        text=", ".join(modules),
        figures={"absent": []},
        origin="host",
    )


def _camera_stack() -> Check:
    absent = [name for name in _APT if importlib.util.find_spec(name) is None]
    return Check(
        name="camera stack",
        level=Level.WARN if absent else Level.OK,
        text=f"not installed: {', '.join(absent)}"
        if absent
        else "picamera2, libcamera",
        figures={"camera_stack_absent": absent},
        origin="host",
        hint="; ".join(_APT[name] for name in absent)
        + "; on a Raspberry Pi, and a virtual environment made with "
        "--system-site-packages"
        if absent
        else None,
    )


def _clocks() -> Check:
    offset = measure_boottime_offset()
    fine = offset.uncertainty_ns < 1_000_000
    return Check(
        name="clocks",
        level=Level.OK if fine else Level.WARN,
        text=f"monotonic is {offset.offset_ns} ns from boottime, "
        f"known to {offset.uncertainty_ns} ns",
        figures={
            "boottime_offset_ns": offset.offset_ns,
            "boottime_uncertainty_ns": offset.uncertainty_ns,
        },
        origin="host",
        hint=None if fine else "the machine is overloaded: measure again",
    )
