"""The learning process itself: each guard ends it, and says so."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from continuon.pipeline import learner
from continuon.robot.learner_run import read_run

pytestmark = pytest.mark.slow
FINE = {"celsius": 40.0, "available_mib": 4000, "full": 0.0}
ALL = ("--max-memory-mib", "100000")


def machine(root, *, celsius, available_mib, full):
    """Write what the guard reads of a machine; None leaves a file out."""
    files = {
        "proc/meminfo": available_mib and f"MemAvailable: {available_mib * 1024} kB\n",
        "proc/pressure/memory": None
        if full is None
        else f"full avg10={full} avg60=0 total=0\n",
        "sys/class/thermal/thermal_zone0/temp": celsius and f"{int(celsius * 1e3)}\n",
    }
    for name, text in files.items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)


def words_for(tmp_path, *words, without=("battery_fraction",), **facts):
    """Return what the service would say to the process, on a made-up machine."""
    machine(tmp_path / "machine", **{**FINE, **facts})
    (tmp_path / "home" / "state").mkdir(parents=True)
    told = ["--parent", str(os.getpid()), "--machine", str(tmp_path / "machine")]
    for name in without:
        told += ["--without", name]
    return [*told, *words]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Let the process' own words run in this one, which keeps its priority."""
    monkeypatch.setenv("CONTINUON_HOME", str(tmp_path / "home"))
    for name in ("be_modest", "die_with_parent", "cap_memory"):
        monkeypatch.setattr(learner, name, lambda *_: None)
    return tmp_path


@pytest.mark.req("R-LEARNER-04")
@pytest.mark.parametrize(
    ("words", "facts", "code", "where"),
    [
        (ALL, {"celsius": 90.0}, "E-LEARN-MID-005", "temperature_celsius"),
        (ALL, {"celsius": None}, "E-LEARN-MID-004", "temperature_celsius"),
        (ALL, {"full": 50.0}, "E-LEARN-MID-005", "memory_pressure_percent"),
        (ALL, {"available_mib": 10}, "E-LEARN-MID-005", "memory_available_mib"),
        (ALL, {"without": ()}, "E-LEARN-MID-004", "battery_fraction"),
        (("--max-memory-mib", "1"), {}, "E-LEARN-MID-005", "own_memory_mib"),
        ((*ALL, "--max-seconds", "1e-9"), {}, "E-LEARN-MID-003", "deadline"),
    ],
)
def test_each_guard_ends_the_run_and_the_service_can_read_why(
    here, words, facts, code, where
):
    assert learner.main(words_for(here, *words, **facts)) == 3
    told = read_run(here / "home" / "state")
    assert (told.outcome, told.code) == ("refused", code)
    assert where in told.reasons[0]
    assert told.ended_wall_ns >= told.began_wall_ns > 0


@pytest.mark.req("R-LEARNER-04")
def test_a_hot_robot_spends_no_time_on_loading_what_learns(tmp_path):
    # a parent of its own: the process dies with it, and lives by it
    words = words_for(tmp_path, *ALL, celsius=90.0)[2:]
    code = (
        "import os, sys; from continuon.pipeline import learner;"
        "learner.be_modest = lambda: None;"
        "status = learner.main(['--parent', str(os.getppid()), *sys.argv[1:]]);"
        "print(status, 'jax' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"CONTINUON_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == ["3", "False"]
    assert "temperature_celsius" in ended.stderr


@pytest.mark.req("R-LEARNER-04")
def test_a_compiler_that_outlasts_the_deadline_does_not_outlast_the_process(tmp_path):
    code = (
        "import threading, time; from continuon.pipeline import learner;"
        "from continuon.learn.mid_guard import MidLimits;"
        "say = lambda outcome, why, code: print(outcome, code, why, flush=True);"
        "late = (say, MidLimits(max_seconds=0.1));"
        "threading.Timer(0.1, learner._give_up, late).start();"
        "time.sleep(60)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3
    assert ended.stdout.startswith(
        "refused E-LEARN-MID-003 it was not done after 0.1 s"
    )
