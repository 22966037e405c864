"""`continuon health`, `doctor` and `rig`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from continuon.cli.render import Result
from continuon.errors import UsageError

__all__ = ["doctor", "health", "scan", "validate"]

RigName = Literal["sim", "pi"]


def health(
    *, quick: bool = False, rig: RigName | None = None, home: Path | None = None
) -> Result:
    """Check camera, servo board, skew, supply, heat and the machine.

    Exit status: 0 all is well, 3 with warnings or unknowns, 4 a person must act.

    Parameters
    ----------
    quick
        Fewer frames and samples.
    rig
        The simulated rig, or the Pi's own; default the Pi's where this is a Pi.
    home
        Where recordings go, for the check of the disk.
    """
    from continuon.health import check_health
    from continuon.home import Home

    place = Home(home) if home is not None else Home.from_environment()
    body = _open(rig or _default_rig())
    try:
        report = check_health(body, quick=quick, home=place)
    finally:
        body.close()
    lines = [_line(check) for check in report.checks]
    lines.append(f"verdict {report.verdict} ({report.origin})")
    return Result(
        data=report.as_dict(), text="\n".join(lines), exit_code=report.exit_code
    )


def doctor(*, quick: bool = False) -> Result:
    """Say what this machine lacks and how to fix it; nothing is changed.

    Parameters
    ----------
    quick
        Look whether packages are installed without importing them.
    """
    from continuon.health import doctor as examine

    report = examine(deep=not quick)
    text = "\n".join(_line(check) for check in report.checks)
    return Result(data=report.as_dict(), text=text, exit_code=report.exit_code)


def scan(*, rig: RigName = "pi") -> Result:
    """List what answers on each bus, what does not, and what is likely wrong.

    Nothing is written to any device. Exit status: 0 with a servo board and a camera
    there, 4 when a person must connect one.

    Parameters
    ----------
    rig
        This machine's own devices, or the simulated rig's bus, labelled so.
    """
    from continuon.home import Home
    from continuon.rig.registry import scan_rig

    if rig == "sim":
        report = _scan_simulated()
    else:
        report = scan_rig(home=Home.from_environment().root)
    lines = [_place(found) for found in report.found]
    missing = ", ".join(report.missing)
    verdict = f"missing: {missing}" if missing else "servo board and camera are there"
    lines.append(f"{verdict} ({report.origin})")
    return Result(
        data=report.as_dict(), text="\n".join(lines), exit_code=report.exit_code
    )


def _scan_simulated() -> Any:
    from continuon.rig.found import Found, RigScan
    from continuon.rig.scan_bus import scan_bus
    from continuon.sim import SimRig
    from continuon.sim.bus import connect

    with SimRig(0) as body:
        found = scan_bus(body.bus.path, body.clock, lambda _: connect(body.bus))
        camera = Found(
            kind="camera",
            where=body.camera.name,
            present=True,
            detail=f"{body.camera.width}x{body.camera.height} with depth, drawn",
        )
    return RigScan(found=(*found, camera), origin=str(body.origin))


def _place(found: Any) -> str:
    mark = "+" if found.present else "-"
    hint = (
        f"  next: {found.hint}" if found.hint and found.hint not in found.detail else ""
    )
    return f"{mark} {found.kind:<9} {found.where}: {found.detail}{hint}"


def validate(*, log_json: Path, rig: RigName = "sim", move: bool = False) -> Result:
    """Measure the rig into a JSON log; outputs stay off unless a person consents.

    Parameters
    ----------
    log_json
        Where the log goes.
    rig
        The simulated rig, or the Pi's own.
    move
        Also move a servo a little. On a Pi this asks for consent at the terminal.
    """
    import json

    from continuon.cli.render import plain
    from continuon.health import rig_validate
    from continuon.pipeline.atomic import write_atomic

    if move and rig == "pi":
        _ask_consent()
    body = _open(rig)
    try:
        report = rig_validate(body, move=move)
    finally:
        body.close()
    data = report.as_dict()
    write_atomic(log_json, json.dumps(plain(data), indent=1).encode() + b"\n")
    checks = (*report.health.checks, *report.outputs)
    lines = [_line(check) for check in checks]
    lines.append(f"verdict {report.verdict} ({report.origin}): {log_json}")
    return Result(data=data, text="\n".join(lines), exit_code=report.exit_code)


def _default_rig() -> RigName:
    """Return "pi" on a Raspberry Pi; elsewhere a person has to ask for the simulation.

    Raises:
        UsageError: this is no Pi, and no rig was named.
    """
    model = Path("/proc/device-tree/model")
    if model.exists() and "Raspberry Pi" in model.read_text("utf-8", "replace"):
        return "pi"
    raise UsageError(
        "E-RIG-NAME-001",
        "this machine is no Raspberry Pi, and no rig was named",
        hint="add --rig sim for the simulated rig; its verdict is labelled so",
    )


def _open(name: RigName) -> Any:
    if name == "pi":
        from continuon.rig.pi import PiRig

        return PiRig()
    from continuon.sim import SimRig

    return SimRig(0)


def _ask_consent() -> None:
    import sys

    if not sys.stdin.isatty():
        raise UsageError(
            "E-RIG-CONSENT-001",
            "moving a servo needs a person at a terminal",
            hint="lift the wheels, then run it from a terminal",
            exit_code=5,
        )
    answer = input("A servo will move. Wheels lifted and hands clear? type MOVE: ")
    if answer.strip() != "MOVE":
        raise UsageError(
            "E-RIG-CONSENT-002", "nobody consented; nothing moved", exit_code=5
        )


def _line(check: Any) -> str:
    hint = f"  next: {check.hint}" if check.hint else ""
    return f"{check.level!s:<9} {check.name:<10} {check.text}{hint}"
