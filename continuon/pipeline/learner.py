"""The learning process that the robot's service starts: one run of the Mid loop.

It takes the time that nobody else wants, a bounded share of memory, and dies with the
service. A candidate that passes its gate is compiled and handed to the running loop.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from continuon.clock import Clock, SystemClock
from continuon.errors import BudgetError, ContinuonError
from continuon.home import Home
from continuon.parent import die_with_parent
from continuon.robot.learner_run import LearnerRun, Outcome, read_run, write_run

if TYPE_CHECKING:
    from continuon.learn.mid_guard import MidLimits

__all__ = ["be_modest", "cap_memory", "main"]

_NICE = 19
_OOM_FIRST = "1000"
_MEMORY, _LATE = "E-LEARN-MID-007", "E-LEARN-MID-003"
COMPILED = Path("trainer") / "compiled"
"""Below the home: programs that were compiled, kept from run to run."""


def be_modest() -> None:
    """Run after everything else, and be the first to go where memory ends."""
    os.nice(_NICE)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    Path("/proc/self/oom_score_adj").write_text(_OOM_FIRST)


def cap_memory(more_mib: float) -> None:
    """Let writable memory grow by so much from here on, and no further.

    RLIMIT_DATA counts private writable pages (Linux 4.7 on). RLIMIT_AS would count what
    allocators and compilers only reserve, some GiB, and end every run.
    """
    status = Path("/proc/self/status").read_text()
    held_kib = int(status.partition("VmData:")[2].split()[0])
    limit = held_kib * 1024 + round(more_mib * 2**20)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def main(argv: list[str] | None = None) -> int:
    """Learn once; 0 promoted and driving, 3 not good enough, else the error's own."""
    parser = argparse.ArgumentParser(prog="continuon.pipeline.learner")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--max-seconds", type=float)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--max-memory-mib", type=float)
    parser.add_argument("--machine", type=Path, default=Path("/"), help="has proc, sys")
    args = parser.parse_args(argv)
    die_with_parent(args.parent)
    be_modest()
    home, clock = Home.from_environment(), SystemClock()
    told = read_run(home.state)
    if told is None or told.outcome != "running":
        told = LearnerRun(outcome="running", began_wall_ns=clock.wall_ns())

    left_out: list[str] = []

    def say(outcome: Outcome, *reasons: str, **facts: Any) -> None:
        """Note how it stands, for the service and for whoever asks later."""
        run = attrs.evolve(told, outcome=outcome, reasons=reasons, **facts)
        write_run(home.state, attrs.evolve(run, ended_wall_ns=clock.wall_ns()))

    try:
        return _learn(home, args, clock, say=say, left_out=left_out)
    except ContinuonError as error:
        say("refused", str(error), code=error.code, left_out=tuple(left_out))
        sys.stderr.write(f"learner: {error}\n")
        return error.exit_code
    except MemoryError:
        say("refused", "it needs more memory than it may have", code=_MEMORY)
        sys.stderr.write("learner: it needs more memory than it may have\n")
        return 3
    except Exception as error:
        # Told, not handled: the traceback and the status follow.
        say("failed", f"{type(error).__name__}: {error}"[:500])
        raise


def _give_up(say: Callable[..., None], limits: MidLimits) -> None:
    """End the process at its deadline, in whatever it is: what it wrote is whole.

    The guard is asked between updates, and a compiler is not to be asked.
    """
    why = f"it was not done after {limits.max_seconds:g} s, and nothing was promoted"
    say("refused", why, code=_LATE)
    sys.stderr.write(f"learner: {why}\n")
    sys.stderr.flush()
    os._exit(BudgetError.default_exit_code)


def _learn(
    home: Home,
    args: argparse.Namespace,
    clock: Clock,
    *,
    say: Callable[..., None],
    left_out: list[str],
) -> int:
    from continuon.learn.mid_guard import MidLimits
    from continuon.pipeline.adapters import (
        car_bounds,
        compile_or_drop,
        finish_promotion,
        guard_here,
        require_base_weights,
        switch_running,
    )

    names = ("max_seconds", "max_steps", "max_memory_mib")
    asked = {n: v for n in names if (v := getattr(args, n)) is not None}
    limits = MidLimits(**asked)
    guard = guard_here(
        limits, clock=clock, without=tuple(args.without), root=args.machine
    )
    # Before the library is loaded: a hot robot should not spend those seconds.
    guard.check()
    # The library before the cap: what it maps is not what learning takes.
    import jax

    # What was compiled once is read at the next run: compiling was most of it.
    settings: Any = jax.config
    settings.update("jax_compilation_cache_dir", str(home.root / COMPILED))
    jax.devices()

    from continuon.learn.mid import run_mid

    cap_memory(limits.max_memory_mib)
    weights = require_base_weights(home)
    finish_promotion(home)
    deadline = threading.Timer(
        max(limits.max_seconds - guard.elapsed_s, 0.0), _give_up, (say, limits)
    )
    deadline.daemon = True
    deadline.start()
    report = run_mid(
        weights,
        home.episodes,
        home.adapters,
        guard=guard,
        bounds=car_bounds(),
        wall_ns=clock.wall_ns(),
        say_left_out=left_out.extend,
    )
    deadline.cancel()
    facts = {
        "left_out": tuple(left_out),
        "adapter": report.adapter,
        "steps": report.steps,
        "origin": report.origin,
        "figures": attrs.asdict(report.figures),
    }
    if not report.promoted:
        say("not_used", *report.reasons, **facts)
        sys.stderr.write(f"learner: not used: {'; '.join(report.reasons)}\n")
        return 3
    compile_or_drop(home)
    say("promoted", **facts)
    switched = switch_running(home)
    if switched is not None and switched.get("trial") == "missed":
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
