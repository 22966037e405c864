"""`continuon health`, `doctor` and `rig`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from continuon.cli.render import Result
from continuon.errors import HardwareError, UsageError

__all__ = ["calibrate", "doctor", "health", "scan", "validate"]

RigName = Literal["sim", "pi"]


def health(
    *,
    quick: bool = False,
    rig: RigName | None = None,
    home: Path | None = None,
    watch_s: float = 0.0,
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
    watch_s
        Look again and again for so long, and print each level that changes; a level is
        left for a better one only well inside its limit, and after its hold time.
    """
    from continuon.cli.render import say
    from continuon.health import HealthWatch, check_health
    from continuon.home import Home

    place = Home(home) if home is not None else Home.from_environment()
    body = _open(rig or _default_rig())
    try:
        watch = HealthWatch(
            lambda last: check_health(body, quick=quick, home=place, before=last),
            body.clock,
        )
        end_ns = body.clock.monotonic_ns() + round(watch_s * 1e9)
        report, _ = watch.update()
        while body.clock.monotonic_ns() < end_ns:
            report, changes = watch.update()
            for change in changes:
                say(f"{change.name}: {change.before} -> {change.after}, {change.text}")
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
    from continuon.durable import replace_file
    from continuon.health import rig_validate

    if move and rig == "pi":
        _ask_consent()
    body = _open(rig)
    try:
        report = rig_validate(body, move=move)
    finally:
        body.close()
    data = report.as_dict()
    replace_file(log_json, json.dumps(plain(data), indent=1).encode() + b"\n")
    checks = (*report.health.checks, *report.outputs)
    lines = [_line(check) for check in checks]
    lines.append(f"verdict {report.verdict} ({report.origin}): {log_json}")
    return Result(data=data, text="\n".join(lines), exit_code=report.exit_code)


def calibrate(
    *,
    measured_us: float | None = None,
    asked_us: float = 1500.0,
    rig: RigName = "sim",
    home: Path | None = None,
    move: bool = False,
    hold_s: float = 30.0,
) -> Result:
    """Measure the servo board's oscillator by one pulse, and store it.

    First hold a pulse (`--move`) and measure its width at the steering output with an
    oscilloscope or a servo tester; then give the width (`--measured-us`). Wheels off
    the ground.

    Parameters
    ----------
    measured_us
        The pulse's width as measured. Without it nothing is stored.
    asked_us
        The pulse that was held.
    rig
        The Pi's own rig, or the simulated one, of which nothing is stored.
    home
        Where the calibration is stored, below `state`.
    move
        Hold the pulse at the steering output. On a Pi this asks for consent.
    hold_s
        How long it is held.
    """
    import attrs

    from continuon.durable import replace_file
    from continuon.home import Home
    from continuon.rig.calibration_record import (
        calibration_path,
        encode_calibration,
        oscillator_from_pulse,
    )

    place = Home(home) if home is not None else Home.from_environment()
    if move and rig == "pi":
        _ask_consent()
    body = _open(rig, home=place)
    try:
        if body.servos is None:
            raise HardwareError(
                "E-RIG-CALIB-005",
                "there is no servo board to calibrate",
                hint="`continuon rig scan` says what answers",
            )
        calibration = body.calibration
        register_us = body.servos.registered_us(asked_us)
        if move:
            channel = calibration.steering.channel
            body.servos.set_pulses_us({channel: asked_us})
            body.clock.sleep_until_ns(body.clock.monotonic_ns() + round(hold_s * 1e9))
            body.servos.full_off()
        facts = {
            "origin": body.origin,
            "oscillator_hz": calibration.oscillator_hz,
            "register_us": register_us,
            "moved": move,
            "stored": None,
        }
        if measured_us is None:
            return Result(data=facts)
        oscillator_hz = oscillator_from_pulse(
            calibration.oscillator_hz, register_us=register_us, measured_us=measured_us
        )
    finally:
        body.close()
    facts["oscillator_hz"] = oscillator_hz
    if body.origin == "real":  # a simulated board's would drive the real one wrongly
        path = calibration_path(place)
        made = attrs.evolve(calibration, oscillator_hz=oscillator_hz)
        replace_file(path, encode_calibration(made))
        facts["stored"] = str(path)
    return Result(data=facts)


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


def _open(name: RigName, *, home: Any = None) -> Any:
    if name == "pi":
        from continuon.rig.pi import PiRig

        return PiRig(home=home)
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
