"""Checks of the machine: disk, memory, and how long tasks wait for memory."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from continuon.health.levels import Level, regrade, worst
from continuon.health.report import Check
from continuon.health.thresholds import bounds

__all__ = ["check_disk", "check_memory", "check_pressure"]

ORIGIN = "host"
_FULL = re.compile(r"^full avg10=([0-9.]+)", re.MULTILINE)


def check_disk(
    root: Path, limits: dict[str, Any], *, before: Level | None = None
) -> Check:
    """Grade free space where recordings go, and whether it is writable."""
    place = root
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        usage = os.statvfs(place)
    except OSError as error:
        return Check(name="disk", level=Level.UNKNOWN, text=str(error), origin=ORIGIN)
    free = usage.f_bavail * usage.f_frsize
    fraction = usage.f_bavail / max(usage.f_blocks, 1)
    read_only = bool(usage.f_flag & os.ST_RDONLY) or not os.access(place, os.W_OK)
    level = worst(
        [
            regrade(
                fraction, bounds(limits, "free_fraction", above=False), before=before
            ),
            regrade(free, bounds(limits, "free_bytes", above=False), before=before),
            Level.CRITICAL if read_only else Level.OK,
        ]
    )
    return Check(
        name="disk",
        level=level,
        text="not writable" if read_only else f"{free / 1e9:.1f} GB free",
        figures={
            "disk_free_bytes": free,
            "disk_free_fraction": round(fraction, 4),
            "disk_writable": not read_only,
        },
        origin=ORIGIN,
        hint=None if level is Level.OK else f"free space or fix the mount of {place}",
    )


def check_memory(
    limits: dict[str, Any], *, proc: Path = Path("/proc"), before: Level | None = None
) -> Check:
    """Grade the memory that is available without swapping."""
    try:
        text = (proc / "meminfo").read_text("ascii")
        sizes = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE))
        total, available = int(sizes["MemTotal"]), int(sizes["MemAvailable"])
    except (OSError, KeyError) as error:
        return Check(
            name="memory",
            level=Level.UNKNOWN,
            text=f"available memory cannot be read: {error}",
            origin=ORIGIN,
        )
    fraction = available / total
    limit = bounds(limits, "available_fraction", above=False)
    level = regrade(fraction, limit, before=before)
    return Check(
        name="memory",
        level=level,
        text=f"{available / 1e6:.1f} GB of {total / 1e6:.1f} GB available",
        figures={
            "memory_available_bytes": available * 1024,
            "memory_available_fraction": round(fraction, 4),
        },
        origin=ORIGIN,
        hint=None if level is Level.OK else "stop the learner or other processes",
    )


def check_pressure(
    limits: dict[str, Any], *, proc: Path = Path("/proc"), before: Level | None = None
) -> Check:
    """Grade the share of time in which everything waited for memory (PSI)."""
    try:
        text = (proc / "pressure/memory").read_text("ascii")
    except OSError as error:
        text, why = "", error.strerror
    else:
        why = "no 'full' line"
    match = _FULL.search(text)
    if match is None:
        return Check(
            name="pressure",
            level=Level.UNKNOWN,
            text=f"memory pressure cannot be read: {why}",
            origin=ORIGIN,
            required=bool(limits["required"]),
            hint="a Raspberry Pi needs psi=1 in cmdline.txt",
        )
    percent = float(match[1])
    level = regrade(percent, bounds(limits, "percent", above=True), before=before)
    return Check(
        name="pressure",
        level=level,
        text=f"all tasks waited for memory {percent:g} % of the last 10 s",
        figures={"pressure_memory_full_percent": percent},
        origin=ORIGIN,
        required=bool(limits["required"]),
    )
