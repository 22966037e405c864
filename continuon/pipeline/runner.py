"""Run phases in order; skip what is up to date; stop at the first missed gate."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import attrs
import msgspec

import continuon
from continuon.errors import ContinuonError, DataError
from continuon.pipeline.context import Context
from continuon.pipeline.digest import digest_path, digest_text
from continuon.pipeline.gates import PhaseGate, Verdict, load_gates
from continuon.pipeline.lock import hold_home
from continuon.pipeline.memory import watch_tree
from continuon.pipeline.phase import PHASES, Progress, load_phase, quiet
from continuon.pipeline.receipt import (
    Receipt,
    host_facts,
    read_receipt,
    write_receipt,
)
from continuon.pipeline.upstream import (
    is_updated_by_hand,
    outputs_match,
    receipt_path,
    require_upstream,
)

__all__ = ["PhaseRun", "receipt_path", "run_phase", "run_pipeline"]

_CHATTER = re.compile(
    rb"INFO: Created TensorFlow Lite XNNPACK delegate"
    rb"|.*Applying Transformations to tensors:"
    rb"|WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|I\d{4} [\d:.]+ +\d+ "  # absl at level INFO; warnings and errors begin W and E
)
_WORDS_S = 5.0


@attrs.frozen(kw_only=True)
class PhaseRun:
    """A phase's receipt, and whether it was made now or was up to date."""

    receipt: Receipt
    fresh: bool

    @property
    def exit_code(self) -> int:
        """0 passed, 3 a gate was missed or a figure is unknown, else the error's."""
        if self.receipt.verdict is Verdict.PASSED:
            return 0
        if self.receipt.error is not None:
            return int(self.receipt.error.get("exit_code", 1))
        return 3


def run_pipeline(
    context: Context,
    *,
    phases: Iterable[str] = PHASES,
    force: bool = False,
    on_start: Callable[[PhaseGate], None] = quiet,
    on_done: Callable[[PhaseRun], None] = quiet,
    progress: Progress = quiet,
) -> tuple[PhaseRun, ...]:
    """Run phases in order until one does not pass.

    A phase is up to date, and skipped, when its receipt passed, its inputs have the
    digests that stand there, and its outputs are still what it left. A phase whose
    predecessors have not passed is refused.

    Raises:
        BudgetError: E-PIPE-BUSY-001, another run works on this home.
    """
    gates = {gate.name: gate for gate in load_gates()}
    runs: list[PhaseRun] = []
    with hold_home(context.root) as lock:
        for name in phases:
            on_start(gates[name])
            run = run_phase(
                context, gates[name], force=force, progress=progress, lock=lock
            )
            runs.append(run)
            on_done(run)
            if run.exit_code:
                break
    return tuple(runs)


def run_phase(
    context: Context,
    gate: PhaseGate,
    *,
    force: bool = False,
    progress: Progress = quiet,
    lock: int | None = None,
) -> PhaseRun:
    """Run one phase in a process of its own and judge what it measured.

    `lock` is a descriptor that the process inherits and holds for as long as it lives.
    """
    path = receipt_path(context, gate.name)
    started = time.time_ns() // 1_000_000
    clock = time.monotonic()
    try:
        if not is_updated_by_hand(context, gate.name):
            require_upstream(context, gate.name)
        inputs = _digest_inputs(context, gate)
    except ContinuonError as error:
        message = {"error": error.as_dict()}
        receipt = _judge(gate, context, {}, message, started=started, clock=clock)
        write_receipt(path, receipt)
        return PhaseRun(receipt=receipt, fresh=True)
    before = None if force else read_receipt(path)
    if before is not None and _up_to_date(context, before, inputs):
        return PhaseRun(receipt=before, fresh=False)
    message = _run_worker(gate.name, context, progress, lock)
    receipt = _judge(gate, context, inputs, message, started=started, clock=clock)
    write_receipt(path, receipt)
    return PhaseRun(receipt=receipt, fresh=True)


def _digest_inputs(context: Context, gate: PhaseGate) -> dict[str, str]:
    phase = load_phase(gate.name)
    named = {
        key: digest_path(value) if isinstance(value, Path) else digest_text(value)
        for key, value in phase.inputs(context).items()
    }
    code = [digest_path(source) for source in _sources(phase.ROOMS, gate.name)]
    return {**named, "code": digest_text("".join(code)), "gate": digest_text(str(gate))}


def _sources(rooms: Iterable[str], name: str) -> list[Path]:
    """Return every file of this package that can change what a phase measures.

    Of the contracts, those that are data (thresholds, modes, schemas) count; the gate
    table is an input of its own, so that one phase's threshold is not another's news.
    """
    package = Path(continuon.__file__).parent
    pipeline, specs = package / "pipeline", package / "_specs"
    sources = [f for room in rooms for f in (package / room).rglob("*.py")]
    sources += [*package.glob("*.py"), *pipeline.glob("*.py")]
    sources += [*specs.glob("*/*.toml"), *specs.glob("*/*.json")]
    return sorted([*sources, pipeline / "phases" / f"{name}.py"])


def _up_to_date(context: Context, before: Receipt, inputs: dict[str, str]) -> bool:
    if before.verdict is not Verdict.PASSED or before.inputs != inputs:
        return False
    return outputs_match(context, before)


def _run_worker(
    name: str, context: Context, progress: Progress, lock: int | None = None
) -> dict[str, Any]:
    settings = msgspec.json.encode(context, enc_hook=str).decode()
    program = [sys.executable, "-m", "continuon.pipeline.worker"]
    command = [*program, name, settings, str(os.getpid())]
    environment = {
        "OMP_NUM_THREADS": "2",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "JAX_COMPILATION_CACHE_DIR": str(_compiled()),
        **os.environ,
    }
    with (
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=() if lock is None else (lock,),
        ) as worker,
        watch_tree(worker.pid) as peak,
    ):
        assert worker.stdout is not None
        assert worker.stderr is not None
        words = threading.Thread(target=_pass_on, args=(worker.stderr,), daemon=True)
        words.start()
        message: dict[str, Any] = {}
        for line in worker.stdout:
            event = json.loads(line)
            if "progress" in event:
                progress(*event["progress"])
            else:
                message = event
        code = worker.wait()
        words.join(_WORDS_S)
    if "error" in message:
        return message
    if message and code == 0:
        told = message["outcome"]
        told["peak_memory_bytes"] = max(peak.bytes, told["peak_memory_bytes"])
        return message
    error = DataError(
        "E-PIPE-WORKER-001",
        f"the process of phase {name} ended without a result",
        seen=f"exit status {code}",
        hint=f"its own words stand above; then `{context.command(name)}`",
    )
    return {"error": error.as_dict()}


def _pass_on(words: IO[bytes]) -> None:
    """Pass on what a worker says, but for its libraries' chatter."""
    for line in words:
        if not _CHATTER.match(line):
            sys.stderr.write(line.decode("utf-8", "replace"))
            sys.stderr.flush()


def _compiled() -> Path:
    """Return where compiled programs are kept between runs, for this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "continuon" / "jax"


def _judge(
    gate: PhaseGate,
    context: Context,
    inputs: dict[str, str],
    message: dict[str, Any],
    *,
    started: int,
    clock: float,
) -> Receipt:
    outcome = message.get("outcome", {})
    error = message.get("error")
    figures = outcome.get("figures", {})
    origin = outcome.get("origin", "unknown")
    if error is None:
        verdict, checks = gate.check(figures, origin=origin)
    else:
        verdict, checks = Verdict.REFUSED, ()
    outputs = {
        Path(path).relative_to(context.root).as_posix(): digest_path(Path(path))
        for path in outcome.get("outputs", [])
    }
    return Receipt(
        phase=gate.number,
        name=gate.name,
        verdict=verdict,
        origin=origin,
        inputs=inputs,
        outputs=outputs,
        figures=figures,
        checks=checks,
        host=host_facts(),
        started_unix_ms=started,
        duration_s=round(time.monotonic() - clock, 3),
        peak_memory_bytes=int(outcome.get("peak_memory_bytes", 0)),
        notes=tuple(outcome.get("notes", ())),
        error=error,
    )
