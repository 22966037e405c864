"""The one systemd unit, rendered from here and from nowhere else."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import attrs

from continuon.durable import replace_file
from continuon.robot.factory import Factory

__all__ = ["UNIT_NAME", "InstallReport", "UnitFacts", "install_unit", "render_unit"]

UNIT_NAME = "continuon.service"
WATCHDOG_S = 5


@attrs.frozen(kw_only=True)
class UnitFacts:
    """What the unit has to know.

    Attributes:
        home: the data root.
        rig: "pi" or "sim".
        servos: builds the outputs for the stop after the service's end.
        python: the interpreter of the environment that holds this package.
        user: who runs it; needs the groups i2c, video and gpio on a Pi.
        without_gauge: the robot has no battery gauge, and a policy may drive it still.
    """

    home: Path
    rig: str
    servos: Factory
    python: Path = attrs.field(factory=lambda: Path(sys.executable))
    user: str = "continuon"
    without_gauge: bool = False


@attrs.frozen(kw_only=True)
class InstallReport:
    """What was written and what a person does next."""

    path: Path
    written: bool
    text: str
    next_steps: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return attrs.asdict(self) | {"path": str(self.path)}


def render_unit(facts: UnitFacts) -> str:
    """Return the unit's text; same facts, same text.

    ExecStopPost runs however the service ended: exit, crash, watchdog or out of memory.
    """
    python = shlex.quote(str(facts.python))
    # In a unit, % and $ are special even inside quotes.
    servos = json.dumps(facts.servos.as_dict(), sort_keys=True)
    servos = shlex.quote(servos.replace("%", "%%").replace("$", "$$"))
    serve = f"{python} -m continuon.robot.service --rig {facts.rig}"
    serve += " --without-gauge" if facts.without_gauge else ""
    return f"""\
[Unit]
Description=Continuon robot
After=network.target
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
User={facts.user}
Environment=CONTINUON_HOME={facts.home}
Environment=CONTINUON_HEADLESS=1
Environment=OMP_NUM_THREADS=1
Environment=OPENBLAS_NUM_THREADS=1
ExecStart={serve}
ExecStopPost={python} -m continuon.robot.guard --stop --rig {servos}
WatchdogSec={WATCHDOG_S}
TimeoutStopSec=10
Restart=on-failure
RestartSec=1
LimitRTPRIO=70
LimitMEMLOCK=infinity
SupplementaryGroups=i2c video gpio
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={facts.home}
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
"""


def install_unit(
    facts: UnitFacts,
    *,
    directory: Path = Path("/etc/systemd/system"),
    dry_run: bool = False,
) -> InstallReport:
    """Write the unit, or with `dry_run` only say what would be written.

    Raises:
        OSError: the directory is not writable by this user.
    """
    text = render_unit(facts)
    path = directory / UNIT_NAME
    if not dry_run:
        replace_file(path, text.encode())
    return InstallReport(
        path=path,
        written=not dry_run,
        text=text,
        next_steps=(
            *_hidden(facts),
            "sudo systemctl daemon-reload",
            f"sudo systemctl enable --now {UNIT_NAME}",
            f"systemctl status {UNIT_NAME}",
        ),
    )


def _hidden(facts: UnitFacts) -> list[str]:
    """Return what must be moved first: the unit has a /tmp of its own."""
    places = {"the environment": facts.python, "the home": facts.home}
    return [
        f"move {name} out of {below}, which the unit does not see: {path}"
        for name, path in places.items()
        for below in ("/tmp", "/var/tmp")  # noqa: S108
        if path.is_relative_to(below)
    ]
