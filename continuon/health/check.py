"""Look at a whole rig and the machine it runs on: `continuon health`."""

from __future__ import annotations

from pathlib import Path

from continuon.health.body import (
    check_battery,
    check_servos,
    check_supply,
    check_thermal,
)
from continuon.health.bus import check_bus
from continuon.health.host import check_disk, check_memory, check_pressure
from continuon.health.report import HealthReport
from continuon.health.senses import check_camera, check_skew, watch_camera
from continuon.health.thresholds import load_thresholds
from continuon.home import Home
from continuon.rig.protocols import Rig

__all__ = ["check_health"]


def check_health(
    rig: Rig,
    *,
    quick: bool = False,
    home: Home | Path | None = None,
    proc: Path = Path("/proc"),
    before: HealthReport | None = None,
) -> HealthReport:
    """Measure every signal once; nothing moves.

    Args:
        rig: whose devices are looked at; its clock is waited on.
        quick: watch the camera shortly and take fewer skew pairs.
        home: where recordings go; from the environment when None.
        proc: root of procfs.
        before: the last report on this rig; its levels are left for better ones only
            beyond the hysteresis.
    """
    limits = load_thresholds()
    where = Home.from_environment() if home is None else home
    root = where.root if isinstance(where, Home) else where
    camera = limits["camera"]
    watch_s = camera["watch_quick_s" if quick else "watch_s"]
    watched = watch_camera(rig, watch_s=watch_s)
    min_pairs = limits["skew"]["min_pairs_quick" if quick else "min_pairs"]
    age_s = limits["freshness"]["max_age_s"]
    was = {} if before is None else {c.name: c.level for c in before.checks}
    checks = (
        check_camera(rig, watched, camera, before=was.get("camera")),
        check_skew(
            rig, watched, limits["skew"], min_pairs=min_pairs, before=was.get("skew")
        ),
        check_servos(rig, limits["servos"]),
        check_bus(rig, limits["bus"], before=was.get("bus")),
        check_battery(
            rig, limits["battery"], max_age_s=age_s, before=was.get("battery")
        ),
        check_thermal(
            rig, limits["thermal"], max_age_s=age_s, before=was.get("thermal")
        ),
        check_supply(rig, max_age_s=age_s),
        check_disk(root, limits["disk"], before=was.get("disk")),
        check_memory(limits["memory"], proc=proc, before=was.get("memory")),
        check_pressure(limits["pressure"], proc=proc, before=was.get("pressure")),
    )
    return HealthReport(
        rig=rig.name,
        origin=rig.origin,
        checks=checks,
        measured_wall_ns=rig.clock.wall_ns(),
    )
