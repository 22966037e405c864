"""Phase 10: what was deployed drives, on time and better than the seed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import msgspec
import numpy as np

from continuon.bundle import verify_bundle
from continuon.durable import replace_file
from continuon.edge import check_golden, load_policy
from continuon.errors import UsageError
from continuon.ota import Updater
from continuon.ota.gate import GateReport
from continuon.pipeline.adapters import measured_without
from continuon.pipeline.bench_robot import LiveRobot, live_robot, make_updater
from continuon.pipeline.context import Context
from continuon.pipeline.drive import (
    LIMIT_LAPS,
    DriveReport,
    compare,
    held_out_places,
)
from continuon.pipeline.gates import ABSENT, Verdict, load_gates
from continuon.pipeline.phase import Outcome, Progress
from continuon.pipeline.places import public_key_path, seed_bundle_dir
from continuon.pipeline.policy_log import record_policy
from continuon.pipeline.receipt import read_receipt
from continuon.pipeline.rigs import rig_input
from continuon.pipeline.told import asked_by
from continuon.pipeline.upstream import receipt_path
from continuon.rlds.validate import validate_recording
from continuon.robot.modes import Motion

__all__ = ["ROOMS", "inputs", "run"]

ROOMS = ("robot", "edge", "sim", "rlds", "ota", "bundle", "rig")
Profile = Literal["strict", "lenient"]
AUTONOMOUS_S = 6.0
TELEOP_S = 2.0
TELEOP_PERIOD_S = 0.05
TELEOP_ACTION = (0.1, 0.2)
DISTANCES = ("distance_ratio", "deployed_distance_m_mean")


def inputs(context: Context) -> dict[str, Path | str]:
    """Return what runs, every byte of it, what it is compared with, and the rig."""
    seed = seed_bundle_dir(context)
    return {
        "state": context.home.model / "state",
        "slots": context.home.model / "slots",
        "seed": seed if seed.is_dir() else "none here",
        "settings": f"{context.starts} {context.seed}",
        "rig": rig_input(context),
    }


def run(context: Context, progress: Progress) -> Outcome:
    """Drive with the deployed bundle; what does not prove itself is rolled back.

    Raises:
        UsageError: E-PIPE-VALIDATE-002, nothing is deployed.
        ContinuonError: the measurement itself failed; a bundle that had not passed
            before is rolled back all the same.
    """
    updater = make_updater(context, public_key_path(context.home))
    updater.recover()
    active = updater.active_slot()
    if active is None:
        raise UsageError(
            "E-PIPE-VALIDATE-002",
            "nothing is deployed here",
            where=context.home.model,
            hint=context.command("ota"),
        )
    measured = False
    try:
        outcome = _measure(context, updater, active, progress)
        measured = True
    finally:
        if not measured and not _proven(context, active):
            updater.rollback(
                "its validation ended with an error", code="E-PIPE-VALIDATE-003"
            )
    notes = _roll_back_if_missed(context, updater, outcome.figures, outcome.origin)
    if not notes and updater.status().on_trial:
        notes = _commit(updater, active, outcome.figures)
    return attrs.evolve(outcome, notes=(*outcome.notes, *notes))


def _commit(updater: Updater, active: Path, figures: Mapping[str, Any]) -> list[str]:
    """Make a bundle that was put on trial by hand the good one: this was its trial.

    Raises:
        GateMissedError: E-OTA-GATE-001, its own manifest asks for more.
    """
    done = updater.commit(
        GateReport(
            bundle=active.name,
            backend="litert",
            golden_max_error=figures["golden_max_abs_error"],
            latency_p99_ms=figures["policy_p99_ms"],
            ticks=figures["autonomous_ticks"],
            veto_fraction=figures["veto_fraction"],
            non_finite=figures["non_finite"],
            missed_periods=figures["missed_periods"],
            elapsed_s=AUTONOMOUS_S,
        )
    )
    return [f"{done.version} was on trial and is the good one now"]


def _proven(context: Context, active: Path) -> bool:
    """Whether this very bundle passed its validation on this kind of rig before.

    A later measurement that failed replaces the receipt, so a pass is also noted in a
    record of its own.
    """
    if _passes(context).get(context.rig) == active.name:
        return True
    receipt = read_receipt(receipt_path(context, "validate"))
    return (
        receipt is not None
        and receipt.verdict is Verdict.PASSED
        and (receipt.origin == "real") is (context.rig == "pi")
        and receipt.figures.get("bundle") == active.name
    )


def _passes(context: Context) -> dict[str, str]:
    """Return the bundle that passed last by rig; a damaged record vouches for none."""
    try:
        return msgspec.json.decode(_record(context).read_bytes(), type=dict[str, str])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _record(context: Context) -> Path:
    return context.home.state / "validated.json"


def _note_pass(context: Context, bundle: str | None) -> None:
    """Note the bundle that passed on this rig; None where the last one did not."""
    passes = _passes(context)
    passes.pop(context.rig, None)
    if bundle is not None:
        passes[context.rig] = bundle
    replace_file(_record(context), msgspec.json.encode(passes))


def _measure(
    context: Context, updater: Updater, active: Path, progress: Progress
) -> Outcome:
    verify_bundle(active, updater.public_keys, threshold=updater.threshold)
    progress(0, 3, "golden ticks on this machine")
    golden = check_golden(load_policy(active, backend="litert"), active)
    figures: dict[str, Any] = {
        "bundle": active.name,
        "adapter": "none",
        "smoke_inference_ok": golden.ok,
        "golden_max_abs_error": golden.max_abs_error,
    }
    progress(1, 3, "autonomous and teleop runs at 50 Hz")
    with live_robot(context, updater) as robot:
        figures |= _live(robot)
        origin = robot.origin
    progress(2, 3, "recording the new policy")
    log = record_policy(context, active)
    profile: Profile = "lenient" if origin == "replayed" else "strict"
    report = validate_recording(log, profile=profile)
    figures["policy_log_valid"] = report.ok
    figures["policy_log_steps"] = report.figures["steps"]
    outputs = [log]
    if origin != "simulated":
        figures |= dict.fromkeys(DISTANCES, ABSENT)
    elif seed_bundle_dir(context).is_dir():
        driven = compare(
            seed_bundle_dir(context),
            active,
            places=held_out_places(context.seed, context.starts),
            seed=context.seed,
            told=asked_by(context, (active,)).told,
            workers=context.workers,
            progress=progress,
        )
        picture = context.home.reports / "drive.json"
        replace_file(picture, json.dumps(_picture(driven), default=float).encode())
        outputs.append(picture)
        figures |= _distances(driven)
    notes = [f"{f.code} {f.text}" for f in report.errors]
    notes.append(measured_without(context.home))
    return Outcome(
        figures=figures, outputs=tuple(outputs), origin=origin, notes=tuple(notes)
    )


def _live(robot: LiveRobot) -> dict[str, Any]:
    """Run the loop with the policy, then with a person's commands."""
    control, guard = robot.control, robot.guard
    trips = guard.report().trips
    control.start_executing(Motion.POLICY)
    first, last = robot.run_for(AUTONOMOUS_S)
    autonomous = control.timing(first, last)
    control.stop_executing()
    control.start_executing(Motion.TELEOP)
    begin = control.log.count
    for _ in range(round(TELEOP_S / TELEOP_PERIOD_S)):
        control.teleop(TELEOP_ACTION, "human_teleop_xr")
        robot.run_for(TELEOP_PERIOD_S)
    commanded = control.status()["command"]
    teleop = control.timing(begin, control.log.count)
    control.stop_executing()
    whole = control.timing(first)
    tripped = guard.report().trips - trips
    return {
        "loop_rate_hz": autonomous.rate_hz,
        "loop_tick_p99_ms": whole.tick_ms.p99,
        "lateness_p99_ms": whole.lateness_ms.p99,
        "policy_p99_ms": whole.policy_ms.p99,
        "missed_periods_fraction": whole.missed_fraction,
        "guard_trips": tripped,
        "autonomous_ticks": autonomous.executed,
        "veto_fraction": autonomous.veto_fraction,
        "non_finite": autonomous.non_finite,
        "missed_periods": autonomous.missed_periods,
        "autonomous_run_ok": bool(
            autonomous.executed > 0
            and autonomous.fresh_frames > 0
            and not autonomous.non_finite
            and not autonomous.policy_failures
            and not tripped
        ),
        "teleop_run_ok": bool(
            teleop.executed > 0
            and not teleop.non_finite
            and not tripped
            and _reached(commanded)
        ),
    }


def _reached(commanded: Sequence[float]) -> bool:
    """Whether what the loop put out is what the person asked for."""
    return bool(np.allclose(commanded, TELEOP_ACTION, atol=1e-3))


def _distances(driven: DriveReport) -> dict[str, Any]:
    def row(name: str, runs: Any) -> dict[str, Any]:
        distances = [run.distance_m for run in runs]
        errors = [run.lateral_rms_m for run in runs]
        return {
            f"{name}_distance_m_mean": float(np.mean(distances)),
            f"{name}_distance_m_std": float(np.std(distances)),
            f"{name}_lateral_rms_m": float(np.mean(errors)),
            f"{name}_stayed": sum(run.stayed for run in runs),
        }

    return {
        "distance_ratio": driven.distance_ratio,
        "starts": len(driven.after),
        **row("seed", driven.before),
        **row("deployed", driven.after),
    }


def _picture(driven: DriveReport) -> dict[str, Any]:
    from continuon.sim import make_track

    def spread(runs: Any) -> dict[str, Any]:
        distances = [run.distance_m for run in runs]
        errors = [run.lateral_rms_m for run in runs]
        return {
            "distance_m": {"mean": np.mean(distances), "std": np.std(distances)},
            "lateral_error_m": {"mean": np.mean(errors), "std": np.std(errors)},
            "stayed": sum(run.stayed for run in runs),
        }

    def on(runs: Any, seed: int) -> list[dict[str, Any]]:
        return [
            {"distance_m": run.distance_m, "path": run.path}
            for run in runs
            if run.place.track_seed == seed
        ]

    tracks = []
    for seed in sorted({run.place.track_seed for run in driven.after}):
        left, right = _edges(make_track(seed))
        tracks.append(
            {
                "seed": seed,
                "left": left,
                "right": right,
                "before": on(driven.before, seed),
                "after": on(driven.after, seed),
            }
        )
    return {
        "starts": len(driven.after),
        "limit_laps": LIMIT_LAPS,
        "distance_ratio": driven.distance_ratio,
        "before": spread(driven.before),
        "after": spread(driven.after),
        "tracks": tracks,
    }


def _edges(track: Any) -> tuple[list[list[float]], list[list[float]]]:
    normal = np.stack([-np.sin(track.heading_rad), np.cos(track.heading_rad)], axis=1)
    half = track.lane_width_m / 2 * normal
    every = slice(None, None, 20)
    return (
        (track.points_m + half)[every].round(3).tolist(),
        (track.points_m - half)[every].round(3).tolist(),
    )


def _roll_back_if_missed(
    context: Context, updater: Updater, figures: Mapping[str, Any], origin: str
) -> list[str]:
    """Judge before the receipt does: a missed gate must not leave it running."""
    gate = next(gate for gate in load_gates() if gate.name == "validate")
    verdict, checks = gate.check(figures, origin=origin)
    if verdict is Verdict.PASSED:
        _note_pass(context, str(figures["bundle"]))
        return []
    _note_pass(context, None)
    missed = "; ".join(check.sentence() for check in checks if not check.ok)
    evidence = {"figures.json": json.dumps(dict(figures), default=str).encode()}
    report = updater.rollback(missed, code="E-PIPE-VALIDATE-001", evidence=evidence)
    if report.triage is not None:
        logs = context.home.reports / "failed"
        shutil.copytree(report.triage, logs, dirs_exist_ok=True)
    return [f"rolled back to {report.active}: {missed}"]
