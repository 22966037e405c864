"""The learning process that the robot's service starts: one run of the Mid loop.

It takes the time that nobody else wants, a bounded share of memory, and dies with the
service. A candidate that passes its gate is compiled and handed to the running loop.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from pathlib import Path

from continuon.clock import SystemClock
from continuon.errors import ContinuonError
from continuon.home import Home
from continuon.parent import die_with_parent

__all__ = ["be_modest", "cap_memory", "main"]

_NICE = 19
_OOM_FIRST = "1000"


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
    args = parser.parse_args(argv)
    die_with_parent(args.parent)
    be_modest()
    try:
        return _learn(Home.from_environment(), tuple(args.without))
    except ContinuonError as error:
        sys.stderr.write(f"learner: {error}\n")
        return error.exit_code


def _learn(home: Home, without: tuple[str, ...]) -> int:
    # The library first: what it and its threads map is not what learning takes.
    import jax

    jax.devices()

    from continuon.learn.mid import run_mid
    from continuon.learn.mid_guard import MidLimits
    from continuon.pipeline.adapters import (
        car_bounds,
        compile_adapter,
        guard_here,
        require_base_weights,
        switch_running,
    )

    limits, clock = MidLimits(), SystemClock()
    cap_memory(limits.max_memory_mib)
    report = run_mid(
        require_base_weights(home),
        home.episodes,
        home.adapters,
        guard=guard_here(limits, clock=clock, without=without),
        bounds=car_bounds(),
        wall_ns=clock.wall_ns(),
    )
    if not report.promoted:
        sys.stderr.write(f"learner: not used: {'; '.join(report.reasons)}\n")
        return 3
    compile_adapter(home)
    switch_running(home)
    return 0


if __name__ == "__main__":
    sys.exit(main())
