"""`continuon pipeline`, `validate` and `manage`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

from continuon.cli.options import check_at_least_one
from continuon.cli.progress import Bar
from continuon.cli.render import Result, say
from continuon.errors import ContinuonError, GateMissedError, UsageError
from continuon.home import Home

__all__ = ["manage", "report", "run", "status", "validate"]


def _home(home: Path | None, episodes_from: Path | None) -> Path:
    from continuon.pipeline.context import require_source, workspace

    require_source(episodes_from)
    named = home or os.environ.get("CONTINUON_HOME")
    return Path(named) if named else workspace(Path("continuon-home"), episodes_from)


def run(
    *,
    episodes_from: Path | None = None,
    home: Path | None = None,
    rig: Literal["sim", "pi"] = "sim",
    seed: int = 0,
    only: str | None = None,
    preset: str | None = None,
    num_steps: int | None = None,
    episodes: int = 16,
    short: bool = False,
    force: bool = False,
) -> Result:
    """Run the ten phases; what is up to date is skipped, a missed gate stops.

    Parameters
    ----------
    episodes_from
        A recording to import (a Donkeycar tub); without it, episodes are captured.
    home
        Root of everything that is read and written; default CONTINUON_HOME, else a
        folder of its own for each recording below ./continuon-home.
    rig
        The simulated rig, or the Pi's own.
    seed
        Fixes tracks, sensor noise, initial parameters and batch order.
    only
        Run this phase alone.
    preset
        HOPE preset that is trained.
    num_steps
        Training steps.
    episodes
        How many episodes to record.
    short
        Shorter episodes, fewer steps and starts: the same gates in less time.
    force
        Run phases again even if they are up to date, and try a bundle that failed here
        once more.
    """
    from continuon.pipeline.context import Context, workspace
    from continuon.pipeline.phase import PHASES
    from continuon.pipeline.runner import run_pipeline

    workspace(Path(), episodes_from)  # refuses a recording that is not there
    check_at_least_one(episodes=episodes)
    if num_steps is not None:
        check_at_least_one(num_steps=num_steps)
    if only is not None and only not in PHASES:
        raise UsageError(
            "E-PIPE-PHASE-001",
            "there is no such phase",
            seen=only,
            allowed=", ".join(PHASES),
        )
    settings: dict[str, Any] = {"rig": rig, "seed": seed, "episodes": episodes}
    settings["retry"] = force
    if short:
        settings |= Context.SHORT
    if preset is not None:
        settings["preset"] = preset
    if num_steps is not None:
        settings["num_steps"] = num_steps
    context = Context(
        root=_home(home, episodes_from).resolve(),
        episodes_from=None if episodes_from is None else episodes_from.resolve(),
        **settings,
    )
    say(f"home {context.root}")
    bar = Bar()
    runs = run_pipeline(
        context,
        phases=PHASES if only is None else (only,),
        force=force,
        on_start=bar.start_phase,
        on_done=bar.end_phase,
        progress=bar.update,
    )
    for item in runs:
        _say_losses(item)
    failed = [item for item in runs if item.exit_code]
    if failed:
        _explain(failed[0])
    page = _write_report(context.home.reports, needed=not failed)
    total_s = sum(item.receipt.duration_s for item in runs if item.fresh)
    kept = sum(not item.fresh for item in runs)
    data = {
        "home": context.root,
        "origin": context.origin,
        "report": page,
        "seconds": total_s,
        "phases": [
            {
                "phase": item.receipt.phase,
                "name": item.receipt.name,
                "verdict": item.receipt.verdict,
                "fresh": item.fresh,
                "origin": item.receipt.origin,
                "duration_s": item.receipt.duration_s,
                "peak_memory_bytes": item.receipt.peak_memory_bytes,
                "figures": item.receipt.figures,
                "missed": item.receipt.missed,
                "error": item.receipt.error,
            }
            for item in runs
        ],
    }
    passed = sum(item.exit_code == 0 for item in runs)
    text = f"{passed} of {len(runs)} gates passed; {total_s:.0f} s of work"
    text += f", {kept} up to date" if kept else ""
    code = failed[0].exit_code if failed else 0
    return Result(data=data, text=text, exit_code=code)


def _write_report(reports: Path, *, needed: bool) -> Path | None:
    """Write the page; after a failed phase, what stops the page is no second error."""
    from continuon.pipeline.report import build_report

    try:
        page = build_report(reports, reports / "report.html")
    except (OSError, ContinuonError) as error:
        if needed:
            raise
        say(f"no report page: {error}")
        return None
    say(f"report {page}")
    return page


def _say_losses(item: Any) -> None:
    """Say what an import lost: a phase that passed says nothing else of it."""
    receipt = item.receipt
    if not item.exit_code and receipt.figures.get("imported_losses"):
        for note in receipt.notes:
            if note.startswith("E-"):
                say(f"lost in {receipt.name}: {note}")


def _explain(item: Any) -> None:
    receipt = item.receipt
    if receipt.error is not None:
        facts = dict(receipt.error)
        facts.pop("family", None)
        stored = ContinuonError(facts.pop("code"), facts.pop("what"), **facts)
        print(f"error: {stored}", file=sys.stderr)
        return
    for check in receipt.missed:
        error = GateMissedError(
            f"E-GATE-{receipt.name.upper()}-{receipt.phase:03d}",
            f"phase {receipt.phase} {receipt.name}: {check.sentence()}",
        )
        print(f"error: {error}", file=sys.stderr)
    for note in receipt.notes:
        say(f"  {note}")


def status(*, home: Path | None = None, episodes_from: Path | None = None) -> Result:
    """Print the receipts of the last run.

    Parameters
    ----------
    home
        Root of the run.
    episodes_from
        The recording of the run, where no home was given.
    """
    from continuon.pipeline.context import Context
    from continuon.pipeline.phase import PHASES
    from continuon.pipeline.receipt import read_receipt
    from continuon.pipeline.upstream import receipt_path, stale_reasons

    context = Context(root=_home(home, episodes_from))
    receipts = {name: read_receipt(receipt_path(context, name)) for name in PHASES}
    stale = stale_reasons({n: r for n, r in receipts.items() if r is not None})
    rows = [
        {
            "phase": number,
            "name": name,
            "verdict": receipt.verdict if receipt else "not run",
            "stale": stale.get(name),
            "origin": receipt.origin if receipt else None,
            "duration_s": receipt.duration_s if receipt else None,
            "figures": receipt.figures if receipt else {},
        }
        for number, (name, receipt) in enumerate(receipts.items(), start=1)
    ]
    text = "\n".join(
        f"{r['phase']:>2} {r['name']:<9} {r['verdict']}"
        + (f", but stale: {r['stale']}" if r["stale"] else "")
        for r in rows
    )
    return Result(data=rows, text=text)


def report(
    *,
    home: Path | None = None,
    episodes_from: Path | None = None,
    output: Path | None = None,
) -> Result:
    """Write the report page from the receipts.

    Parameters
    ----------
    home
        Root of the run.
    episodes_from
        The recording of the run, where no home was given.
    output
        Where the page goes; default reports/report.html below the home.
    """
    from continuon.pipeline.report import build_report

    reports = Home(_home(home, episodes_from)).reports
    page = build_report(reports, output or reports / "report.html")
    return Result(data={"report": page}, text=str(page))


def validate(*, real_hardware: bool = False, home: Path | None = None) -> Result:
    """Validate what was deployed: phase 10 alone, on the rig.

    Parameters
    ----------
    real_hardware
        Use the Pi's own rig; without it the simulated one, and labelled so.
    home
        The device's root; default CONTINUON_HOME, else /opt/continuonos/brain.
    """
    place = Home(home) if home is not None else Home.from_environment()
    rig: Literal["sim", "pi"] = "pi" if real_hardware else "sim"
    return run(home=place.root, rig=rig, only="validate")


@contextmanager
def _named(home: Path) -> Iterator[None]:
    """Name the home to the steps that ask the environment for it."""
    before = os.environ.get("CONTINUON_HOME")
    os.environ["CONTINUON_HOME"] = str(home)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CONTINUON_HOME"]
        else:
            os.environ["CONTINUON_HOME"] = before


def manage(
    *,
    home: Path | None = None,
    episodes_dir: Path | None = None,
    tfrecord_dir: Path | None = None,
    trainer_data_path: Path | None = None,
    health: bool = False,
    rig: Literal["sim", "pi"] = "pi",
    convert_tfrecord: bool = False,
    train_local: bool = False,
    export: bool = False,
    post_validate: bool = False,
) -> Result:
    """Say what is there, what is missing and the next commands; run only flagged steps.

    Parameters
    ----------
    home
        Root of everything; default CONTINUON_HOME, else /opt/continuonos/brain.
    episodes_dir
        Folder of recordings; default below the home.
    tfrecord_dir
        Folder of TFDS files; default below the home.
    trainer_data_path
        What the local trainer reads; default the TFDS folder.
    health
        Run the health check.
    rig
        The rig whose health is checked and on which is validated.
    convert_tfrecord
        Convert the recordings.
    train_local
        Train on this machine.
    export
        Write the anonymised export.
    post_validate
        Validate what was deployed.
    """
    from continuon.cli.program import run as program
    from continuon.pipeline.manage import take_inventory

    root = Home(home) if home is not None else Home.from_environment()
    episodes = episodes_dir or root.episodes
    tfrecord = tfrecord_dir or root.tfrecord
    data = trainer_data_path or tfrecord
    places = {
        "health": (health, ["health", f"--rig={rig}"]),
        "convert": (
            convert_tfrecord,
            ["convert", f"--input-dir={episodes}", f"--output-dir={tfrecord}"],
        ),
        "train": (
            train_local,
            [
                "train",
                f"--data-path={data}",
                f"--output-dir={root.checkpoints / 'slow'}",
            ],
        ),
        "export": (
            export,
            ["export", f"--episodes-dir={episodes}", f"--output-dir={root.export}"],
        ),
        "validate": (
            post_validate,
            [
                "validate",
                f"--home={root.root}",
                "--real-hardware" if rig == "pi" else "--no-real-hardware",
            ],
        ),
    }
    codes = {}
    for name, (asked, words) in places.items():
        if asked:
            say(f"running: continuon {' '.join(words)}")
            with redirect_stdout(sys.stderr), _named(root.root):
                codes[name] = program(words)
            if codes[name]:
                break
    inventory = take_inventory(root, episodes_dir=episodes, tfrecord_dir=tfrecord)
    lines = [
        f"{'done   ' if step.done else 'missing'}  {step.name:<8} {step.reason}"
        for step in inventory.steps
    ]
    commands = [f"  {command}" for command in inventory.next_commands]
    lines += ["", "next:", *(commands or ["  nothing is missing"])]
    if not codes:
        lines.append("nothing was run: name a step to run it")
    facts = {
        "inventory": inventory,
        "next": inventory.next_commands,
        "ran": codes,
        "dry_run": not codes,
        "would_write": {},
        "done": bool(codes),
    }
    worst = next((code for code in codes.values() if code), 0)
    return Result(data=facts, text="\n".join(lines), exit_code=worst)
