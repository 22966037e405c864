import configparser
import shutil
import socket
import subprocess
from pathlib import Path

import attrs
import pytest

from continuon.errors import HardwareError
from continuon.home import Home
from continuon.robot.boot import boot_check
from continuon.robot.factory import Factory
from continuon.robot.install import UNIT_NAME, UnitFacts, install_unit, render_unit
from continuon.robot.lan_door import listen
from continuon.robot.notify import notify

FAKES = "continuon._specs.robot.fakes"
FACTS = UnitFacts(
    home=Path("/opt/continuonos/brain"),
    rig="pi",
    servos=Factory(target="continuon.rig.pi:PiRig", kwargs={"note": "50% $HOME"}),
    python=Path("/opt/continuonos/venv/bin/python"),
)


def unit_of(text):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    return parser


@pytest.mark.req("R-UNIT-01")
def test_the_unit_starts_one_service_and_stops_the_servos_after_it():
    service = unit_of(render_unit(FACTS))["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"].endswith("-m continuon.robot.service --rig pi")
    assert "-m continuon.robot.guard --stop --rig" in service["ExecStopPost"]
    assert int(service["WatchdogSec"]) > 0
    assert "50%% $$HOME" in service["ExecStopPost"]


@pytest.mark.req("R-POWER-02")
def test_that_there_is_no_battery_gauge_reaches_the_loop(monkeypatch, tmp_path):
    from continuon.robot import service
    from continuon.robot.bodies import open_body

    facts = attrs.evolve(FACTS, without_gauge=True)
    assert "--without-gauge" not in render_unit(FACTS)
    started = unit_of(render_unit(facts))["Service"]["ExecStart"]
    words = started.partition("continuon.robot.service ")[2].split()
    asked = []
    monkeypatch.setattr(service, "serve", lambda settings: asked.append(settings) or 0)
    assert service.main([*words, "--home", str(tmp_path)]) == 0
    assert service.main(["--rig", "pi", "--home", str(tmp_path)]) == 0
    body = open_body(Factory(target=f"{FAKES}:LiveFakeRig"))
    configs = [service._config(settings, body) for settings in asked]
    assert [config.without_gauge for config in configs] == [True, False]


@pytest.mark.req("R-UNIT-01")
def test_the_unit_is_written_whole_or_only_shown(tmp_path):
    shown = install_unit(FACTS, directory=tmp_path, dry_run=True)
    assert not shown.path.exists()
    report = install_unit(FACTS, directory=tmp_path)
    assert report.path.name == UNIT_NAME
    assert report.path.read_text() == shown.text == render_unit(FACTS)
    assert list(tmp_path.iterdir()) == [report.path]


def test_what_lies_where_the_unit_cannot_see_it_is_said_first(tmp_path):
    hidden = attrs.evolve(
        FACTS, python=Path("/tmp/env/bin/python"), home=Path("/var/tmp/brain")
    )
    steps = install_unit(hidden, directory=tmp_path, dry_run=True).next_steps
    assert steps[0].startswith("move the environment out of /tmp")
    assert steps[1].startswith("move the home out of /var/tmp")
    seen = attrs.evolve(FACTS, python=Path("/opt/e/bin/python"), home=Path("/opt/b"))
    steps = install_unit(seen, directory=tmp_path, dry_run=True).next_steps
    assert steps[0] == "sudo systemctl daemon-reload"


@pytest.mark.slow
@pytest.mark.req("R-UNIT-01")
@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here"
)
def test_systemd_itself_finds_no_fault_in_the_unit(tmp_path):
    import sys

    facts = UnitFacts(
        home=tmp_path,
        rig="pi",
        servos=FACTS.servos,
        python=Path(sys.executable),
        user="root",
    )
    path = install_unit(facts, directory=tmp_path).path
    run = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in run.stderr.splitlines() if UNIT_NAME in line]
    assert run.returncode == 0, ours
    assert ours == []


def test_systemd_is_told_over_its_socket(tmp_path, monkeypatch):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        assert notify("READY=1")
        assert end.recv(64) == b"READY=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    assert not notify("READY=1")


def test_a_port_that_is_taken_is_an_error_with_a_name():
    (end,) = listen(("127.0.0.1",), 0)
    end.listen()
    with pytest.raises(HardwareError, match="E-ROBOT-PORT-001"):
        listen(("127.0.0.1",), end.getsockname()[1])
    end.close()


SHARED_RIG = '''
import json, pathlib
from continuon._specs.robot.fakes import FakeServos, LiveFakeRig

class SharedServos(FakeServos):
    """Registers in a file, so that every process sees them."""

    def __init__(self, path):
        super().__init__()
        self.path = pathlib.Path(path)

    def set_pulses_us(self, pulses_us):
        super().set_pulses_us(pulses_us)
        self.path.write_text(json.dumps(self.outputs))

    def read_pulses_us(self):
        return {int(k): v for k, v in json.loads(self.path.read_text()).items()}

    def full_off(self):
        super().full_off()
        self.path.write_text(json.dumps(self.outputs))

def shared_rig(path):
    rig = LiveFakeRig()
    rig.servos = SharedServos(path)
    return rig
'''


@pytest.fixture
def shared_rig(tmp_path, monkeypatch):
    (tmp_path / "robot_shared_rig.py").write_text(SHARED_RIG)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    registers = tmp_path / "registers.json"
    registers.write_text('{"0": 1700.0, "1": 0.0}')
    kwargs = {"path": str(registers)}
    return Factory(target="robot_shared_rig:shared_rig", kwargs=kwargs)


@pytest.mark.slow
@pytest.mark.req("R-BOOT-01", "R-MODE-01", "R-GUARD-04")
def test_a_boot_is_armed_but_idle_found_and_still(shared_rig, tmp_path):
    pytest.importorskip("zeroconf")
    home = Home(tmp_path / "home")
    # An output that an earlier crash left driven is seen before the guard turns it off.
    shared_rig.build().servos.full_off()
    report = boot_check(rig=shared_rig, home=home)
    assert report.api_up
    assert report.discovered
    assert report.mode == "AUTONOMOUS"
    assert report.executing is False
    assert report.servo_bytes_driving == 0
    assert report.stopped_cleanly
    assert report.driving_after_stop == 0
    assert report.outputs_looked_at > 5
    assert not (home.state / "service.json").exists()
    assert report.as_dict()["status"]["motion"] == "none"


@pytest.mark.slow
@pytest.mark.req("R-BOOT-01")
def test_a_service_that_cannot_start_is_no_boot(tmp_path):
    rig = Factory(target=f"{FAKES}:no_such_rig")
    with pytest.raises(Exception, match="E-ROBOT-FACTORY-001"):
        boot_check(rig=rig, home=Home(tmp_path))
