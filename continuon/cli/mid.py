"""`continuon mid`: adapters that the robot learns by itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import attrs

from continuon.cli.render import Result
from continuon.clock import SystemClock
from continuon.environment import read_environment
from continuon.errors import UsageError
from continuon.home import Home

__all__ = ["rollback", "run", "status", "use"]


def run(
    *,
    checkpoint: Path | None = None,
    rlds_dir: Path | None = None,
    store: Path | None = None,
    enable: bool = False,
    trainer: Literal["jax", "pytorch"] = "jax",
    max_seconds: float = 300.0,
    max_steps: int = 300,
    batch_size: int = 8,
    rank: int = 8,
    max_memory_mib: float = 1536.0,
    action_delta: float = 0.25,
    without: tuple[str, ...] = (),
    with_own: bool = False,
    seed: int = 0,
) -> Result:
    """Learn an adapter from the latest episodes; 3 if it is not good enough to use.

    Off unless CONTINUON_ENABLE_BACKGROUND_TRAINER=1 or --enable says otherwise.

    Parameters
    ----------
    checkpoint
        What the robot runs; default the active bundle's weights, without a bundle
        trainer/checkpoints/slow/policy.hope.
    rlds_dir
        Recordings; default rlds/episodes below the home.
    store
        Where adapters live; default model/adapters below the home.
    enable
        Learn, this once.
    trainer
        Which library makes the updates; the adapter's format is the same.
    max_seconds
        Of the whole run.
    max_steps
        Updates.
    batch_size
        Windows an update.
    rank
        Of a fresh adapter.
    max_memory_mib
        Resident memory of this process.
    action_delta
        Largest mean change of an action in a held-out episode.
    without
        A sensor that this machine does not have; the report names it.
    with_own
        Learn from episodes that a policy drove, too; without it they are left out,
        named and counted.
    seed
        Of the adapter and the windows.
    """
    from continuon.learn.mid import run_mid
    from continuon.learn.mid_gate import GateLimits
    from continuon.learn.mid_guard import MidLimits
    from continuon.pipeline.adapters import base_weights, car_bounds, guard_here

    if not (enable or read_environment().background_trainer):
        raise UsageError(
            "E-LEARN-MID-001",
            "learning on the robot is off",
            seen="CONTINUON_ENABLE_BACKGROUND_TRAINER is not 1",
            hint="set it, or say --enable for this run",
        )
    home, clock = Home.from_environment(), SystemClock()
    limits = MidLimits(
        max_seconds=max_seconds,
        max_steps=max_steps,
        batch_size=batch_size,
        rank=rank,
        max_memory_mib=max_memory_mib,
    )
    report = run_mid(
        checkpoint or base_weights(home) or home.checkpoints / "slow" / "policy.hope",
        rlds_dir or home.episodes,
        store or home.adapters,
        guard=guard_here(limits, clock=clock, without=without),
        bounds=car_bounds(),
        gate=GateLimits(max_action_delta=action_delta),
        trainer=trainer,
        seed=seed,
        wall_ns=clock.wall_ns(),
        with_own=with_own,
        say_left_out=_warn,
    )
    figures = report.figures
    lines = [
        (
            f"{'promoted' if report.promoted else 'not used'} after {report.steps} "
            f"steps in {report.seconds:.0f} s ({report.origin})"
        ),
        (
            f"held-out error {figures.mae_before:.4f} -> {figures.mae_after:.4f}, "
            f"actions moved by {figures.action_delta:.3f}, "
            f"{figures.violations} violations"
        ),
        *report.reasons,
        *report.left_out,
    ]
    if report.promoted:
        lines.append("next: continuon mid use")
    return Result(
        data=report.as_dict(),
        text="\n".join(lines),
        exit_code=0 if report.promoted else 3,
    )


def _warn(lines: tuple[str, ...]) -> None:
    """Say what was left out on stderr: the run may yet fail, and say nothing else."""
    for line in lines:
        sys.stderr.write(f"mid: {line}\n")


def use(*, home: Path | None = None) -> Result:
    """Compile the adapter in use for the active bundle, and let it drive.

    A running service takes it over under way, in the bundle's own limits, on trial; 3
    if it missed its trial and was rolled back. Else it is tried at the next start.

    Parameters
    ----------
    home
        The data root.
    """
    from continuon.pipeline.adapters import compile_adapter, switch_running

    place = Home(home) if home is not None else Home.from_environment()
    report = compile_adapter(place)
    switched = switch_running(place)
    errors = ", ".join(f"{name} {error:.1e}" for name, error in report.errors.items())
    lines = [
        f"adapter {report.adapter} on bundle {report.bundle[:16]}: {report.directory}",
        f"moves actions by up to {report.activity:.3f} on the golden ticks",
        f"golden errors: {errors}",
        *(f"not made: {name}: {why}" for name, why in report.missing.items()),
        _switched(switched),
    ]
    missed = switched is not None and switched["trial"] == "missed"
    return Result(
        data=report.as_dict() | {"switched": switched},
        text="\n".join(lines),
        exit_code=3 if missed else 0,
    )


def status(*, store: Path | None = None) -> Result:
    """Say which adapter is in use, and every change before.

    Parameters
    ----------
    store
        Where adapters live; default model/adapters below the home.
    """
    from continuon.adapter_record import read_record

    record = read_record(store or Home.from_environment().adapters)
    lines = [f"in use: {_name(record.use.adapter)}"]
    lines += [f"  {_name(entry.adapter)}: {entry.reason}" for entry in record.trail]
    return Result(data=attrs.asdict(record), text="\n".join(lines))


def rollback(
    *, store: Path | None = None, reason: str = "rolled back by a person"
) -> Result:
    """Use the adapter before, or the bare network; a running service follows.

    Parameters
    ----------
    store
        Where adapters live; default model/adapters below the home. Of another one no
        service knows.
    reason
        For the record.
    """
    from continuon.adapter_record import roll_back_adapter
    from continuon.pipeline.adapters import bases_here, switch_running

    home = Home.from_environment()
    record = roll_back_adapter(
        store or home.adapters,
        reason=reason,
        wall_ns=SystemClock().wall_ns(),
        bases=None if store is not None else bases_here(home),
    )
    switched = None if store is not None else switch_running(home)
    return Result(
        data=attrs.asdict(record) | {"switched": switched},
        text=f"in use: {_name(record.use.adapter)}\n{_switched(switched)}",
    )


def _switched(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return "no service runs here: it is tried at the next start"
    if answer["swap"] is None:
        return f"the loop drives with it already ({answer['why']})"
    at = f"since tick {answer['swap']['tick']}"
    if answer["trial"] is None:
        return f"the loop drives with it {at}"
    if answer["trial"] == "missed":
        why = "; ".join(answer["misses"])
        return f"it missed its trial and is rolled back: {why}"
    return f"the loop drives with it {at}; its trial: {answer['trial']}"


def _name(adapter: int | None) -> str:
    return "the bare network" if adapter is None else f"adapter {adapter}"
