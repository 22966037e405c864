"""Phase 9: publish, fetch, verify, stage, swap under the running loop, gate, commit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from continuon.bundle import VerifiedBundle, load_public_key, verify_bundle
from continuon.durable import replace_file
from continuon.errors import ContinuonError, TrustError
from continuon.ota import Updater, publish
from continuon.ota.download import Downloader
from continuon.ota.repository_keys import (
    RepositoryKeys,
    load_repository_keys,
    new_repository_keys,
)
from continuon.pipeline.adapters import measured_without
from continuon.pipeline.bench_robot import LiveRobot, live_robot, make_updater
from continuon.pipeline.context import Context
from continuon.pipeline.phase import Outcome, Progress
from continuon.pipeline.places import (
    bundle_dir,
    public_key_path,
    seed_bundle_dir,
)
from continuon.pipeline.rigs import rig_input
from continuon.robot.deployed import active_policy
from continuon.robot.health_gate import watch_trial
from continuon.robot.update import HotSwapReport, hot_swap_update

__all__ = ["ROOMS", "inputs", "run"]

FAILED_HERE = "E-OTA-STATE-004"

ROOMS = ("ota", "robot", "edge", "bundle", "rig", "sim", "rlds")


def inputs(context: Context) -> dict[str, Path | str]:
    """Return both bundles and the key that signed them."""
    return {
        "bundle": bundle_dir(context),
        "seed": seed_bundle_dir(context),
        "key": public_key_path(context.home),
        "rig": rig_input(context),
    }


def run(context: Context, progress: Progress) -> Outcome:
    """Update a running robot from the bundle that it has to the one just made.

    Raises:
        UsageError: E-OTA-STATE-004, it failed here before, and nobody asked to retry.
    """
    try:
        return _run(context, progress)
    except ContinuonError as error:
        if error.code == FAILED_HERE:
            error.hint = (
                "train a better one; or try this one once more: "
                "continuon pipeline run --only ota --force"
            )
        raise


def _run(context: Context, progress: Progress) -> Outcome:
    home = context.home
    key = load_public_key(public_key_path(home))
    repository = context.root / "repository"
    offered = verify_bundle(bundle_dir(context), [key])
    keys = _repository_keys(home.keys / "repository")
    progress(0, 4, "publishing")
    root = _publish(context, repository, keys)
    updater = make_updater(
        context,
        public_key_path(home),
        Downloader(repository, root.read_bytes(), home.model / "tuf"),
    )
    updater.recover()
    progress(1, 4, "starting the robot with the bundle that it has")
    installed = updater.active_slot()
    with live_robot(context, updater) as robot:
        notes: list[str] = []
        if installed is None:
            seed = seed_bundle_dir(context)
            first = _update(
                robot, updater, notes, source=seed, again=seed, retry=context.retry
            )
            notes.append(f"seed bundle {first.version} installed and committed")
            _require(first)
        status = updater.status()
        if status.active is not None and status.active.bundle == offered.bundle_id:
            notes.append("the robot had this bundle already; it was swapped in again")
            return _outcome(context, _again(robot, updater, offered), robot, notes)
        robot.control.start_executing()
        robot.run_for(1.0)
        progress(2, 4, "fetching and verifying")
        fetched = updater.fetch(retry=context.retry)
        _require_same(fetched.bundle, offered.bundle_id)
        notes.append(
            f"fetched {fetched.fetched_bytes} bytes, reused {fetched.reused_bytes}"
        )
        progress(3, 4, "swapping under the running loop")
        report = _update(
            robot, updater, notes, again=bundle_dir(context), retry=context.retry
        )
        robot.run_for(1.0)
        robot.control.stop_executing()
        if report.error is not None:
            notes.append(f"{report.error['code']}: {report.error['what']}")
        return _outcome(context, report.figures, robot, notes)


def _update(
    robot: LiveRobot,
    updater: Updater,
    notes: list[str],
    *,
    again: Path,
    source: Path | None = None,
    retry: bool = False,
) -> HotSwapReport:
    """Swap a bundle in; where only periods were missed, try once more, and say so.

    On a shared machine the host can hold both cores for longer than a period. A policy
    that is to blame misses again; every other miss is final at once.
    """
    report = hot_swap_update(
        robot.control,
        robot.guard,
        updater,
        source=source,
        state_names=robot.state_names,
        retry=retry,
    )
    misses = report.health.misses if report.health is not None else ()
    only_late = bool(misses) and all(m.figure == "missed_periods" for m in misses)
    if report.committed or not only_late:
        return report
    notes.append(f"the first trial was rolled back, {misses[0]}; tried once more")
    return hot_swap_update(
        robot.control,
        robot.guard,
        updater,
        source=again,
        state_names=robot.state_names,
        retry=True,
    )


def _publish(context: Context, repository: Path, keys: RepositoryKeys) -> Path:
    """Put the bundle on offer and return the repository's first root.

    Raises:
        TrustError: E-OTA-REPO-002, a newer one is on offer already.
    """
    key = load_public_key(public_key_path(context.home))
    return publish(bundle_dir(context), repository, keys, bundle_keys=[key]).root_path


def _repository_keys(folder: Path) -> RepositoryKeys:
    """Return the lab repository's keys, made on first use."""
    if (folder / "root-1.pem").exists():
        return load_repository_keys(folder)
    return new_repository_keys(folder)


def _require_same(fetched: str, offered: str) -> None:
    """Refuse to swap in another bundle than the one that this phase was given."""
    if fetched != offered:
        raise TrustError(
            "E-PIPE-OTA-002",
            "the repository offers another bundle than the one just built",
            seen=fetched,
            allowed=offered,
            hint="continuon pipeline run --only bundle --force, then phase 9 again",
        )


def _require(first: HotSwapReport) -> None:
    if not first.committed:
        raise ContinuonError(
            "E-PIPE-OTA-001",
            "the seed bundle did not pass its own health gate",
            seen=(first.error or {}).get("seen"),
            hint="the robot has no bundle to fall back to: see the triage folder",
            exit_code=3,
        )


def _again(
    robot: LiveRobot, updater: Updater, offered: VerifiedBundle
) -> dict[str, Any]:
    """Measure a swap to the bundle that the robot has: every figure is measured anew.

    Raises:
        TrustError: the slot that is to run does not verify.
    """
    status = updater.status()
    active = active_policy(updater, state_names=robot.state_names)
    assert active is not None
    robot.control.start_executing()
    robot.run_for(1.0)
    requested_tick = robot.control.log.count
    trips_before = robot.guard.report().trips
    swap = robot.control.swap(active.directory, active.backend, limits=active.limits)
    health = watch_trial(
        robot.control,
        robot.guard,
        swap,
        bundle=offered.bundle_id,
        gate=active.gate,
        requested_tick=requested_tick,
        trips_before=trips_before,
    )
    robot.control.stop_executing()
    committed = status.good is not None and status.good.bundle == offered.bundle_id
    return {
        "staged": True,
        "swapped": swap.tick > requested_tick,
        "committed": committed,
        "missed_periods_at_swap": health.report.missed_periods,
        "golden_max_abs_error": health.report.golden_max_error,
        "policy_latency_p99_ms": health.report.latency_p99_ms,
        "lateness_p99_ms": health.timing.lateness_ms.p99,
        "lateness_max_ms": health.timing.lateness_ms.max,
        "veto_fraction": health.report.veto_fraction,
        "soak_ticks": health.report.ticks,
        "health_gate": "passed" if health.passed and committed else "missed",
        "previous_bundle_verifies": _previous_verifies(updater),
    }


def _previous_verifies(updater: Updater) -> bool:
    """Verify from the medium what there is to go back to; nothing there is a no."""
    previous = updater.status().previous
    if previous is None:
        return False
    try:
        verify_bundle(
            previous.directory, updater.public_keys, threshold=updater.threshold
        )
    except ContinuonError:
        return False
    return True


def _scheduling(grants: dict[str, Any]) -> str:
    """Say in plain words how the loop's process was scheduled."""
    return "SCHED_FIFO" if grants["fifo"] else "ordinary, SCHED_FIFO was refused"


def _outcome(
    context: Context, figures: dict[str, Any], robot: LiveRobot, notes: list[str]
) -> Outcome:
    rows = robot.control.log.rows()
    timing = robot.control.timing()
    picture = context.home.reports / "ota.json"
    data = {
        "rate_hz": robot.control.config.rate_hz,
        "period_ms": robot.control.config.period_ns / 1e6,
        "lateness_us": [float(value) / 1000 for value in rows["lateness_ns"]],
        "swap_ticks": list(timing.swap_ticks),
        "scheduling": _scheduling(robot.control.status()["grants"]),
    }
    replace_file(picture, json.dumps(data, default=str).encode())
    return Outcome(
        figures={
            **figures,
            "adapter": "none",
            "ticks": timing.ticks,
            "loop_rate_hz": timing.rate_hz,
        },
        outputs=(
            picture,
            context.home.model / "state",
            context.home.model / "slots",
        ),
        origin=robot.origin,
        notes=(*notes, measured_without(context.home)),
    )
