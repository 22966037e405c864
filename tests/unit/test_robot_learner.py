"""The learner runs only while idle, and goes at the first sign of harm."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from continuon.clock import ManualClock
from continuon.health import Check, HealthReport, Level
from continuon.home import Home
from continuon.robot.learner import Learner, LearnerSettings, why_not
from continuon.robot.modes import Mode, ModeState

IDLE = ModeState(mode=Mode.AUTONOMOUS)
ENDLESS = ("sleep", "600")


class Loop:
    """What the loop's ticks say."""

    def __init__(self):
        self.late_ms, self.missed, self.log = 0.1, 0, SimpleNamespace(count=1000)

    def timing(self, first=0, last=None):
        assert 0 < self.log.count - first <= 250
        late = SimpleNamespace(p99=self.late_ms)
        return SimpleNamespace(
            lateness_ms=late, period_ms=20.0, missed_periods=self.missed
        )


class Desk:
    """A learner, and everything that it looks at."""

    def __init__(self, folder, **settings):
        self.clock, self.loop, self.state = ManualClock(), Loop(), IDLE
        self.clock.now_ns = 10**12
        self.recording, self.checks, self.home = False, (), Home(folder)
        self.home.episodes.mkdir(parents=True, exist_ok=True)
        self.episode("one")
        settings = {"command": ENDLESS} | settings
        self.learner = Learner(self.home, LearnerSettings(**settings), self.clock)

    def episode(self, name):
        (self.home.episodes / f"{name}.mcap").touch()

    def report(self):
        return HealthReport(
            rig="fake", origin="synthetic", checks=self.checks, measured_wall_ns=0
        )

    def watch(self, *, seconds=1.0, ticks=50):
        self.clock.now_ns += round(seconds * 1e9)
        self.loop.log.count += ticks
        self.learner.watch(
            self.state,
            recording=lambda: self.recording,
            log=self.loop,
            health=self.report,
        )
        return self.learner.alive


def check(name, level):
    return Check(name=name, level=level, text="seen", origin="host")


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.learner.stop("the test ends")


@pytest.mark.req("R-LEARNER-01")
def test_without_being_asked_for_nothing_learns(tmp_path):
    desk = Desk(tmp_path)
    desk.learner = Learner(desk.home, None, desk.clock)
    assert not desk.watch()
    assert desk.learner.status()["enabled"] is False


@pytest.mark.req("R-LEARNER-01")
def test_only_an_idle_robot_that_records_nothing_may_learn():
    allowed = {
        (mode, executing)
        for mode in Mode
        for executing in (False, True)
        if why_not(ModeState(mode=mode, executing=executing), recording=False) is None
    }
    idle = (Mode.DISARMED, Mode.AUTONOMOUS, Mode.SLEEP_LEARNING)
    assert allowed == {(mode, False) for mode in idle}
    assert "recorded" in why_not(IDLE, recording=True)


@pytest.mark.req("R-LEARNER-01")
@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (
            lambda d: setattr(d, "state", ModeState(mode=Mode.MANUAL)),
            "the mode is MANUAL",
        ),
        (
            lambda d: setattr(
                d, "state", ModeState(mode=Mode.AUTONOMOUS, executing=True)
            ),
            "moves",
        ),
        (lambda d: setattr(d, "state", ModeState(mode=Mode.E_STOP)), "E_STOP"),
        (lambda d: setattr(d, "recording", True), "recorded"),
        (lambda d: setattr(d.loop, "late_ms", 2.1), "late"),
        (lambda d: setattr(d.loop, "late_ms", float("nan")), "late"),
        (lambda d: setattr(d.loop, "late_ms", None), "late"),
        (lambda d: setattr(d.loop, "missed", 1), "missed 1"),
        (
            lambda d: setattr(d, "checks", (check("thermal", Level.CRITICAL),)),
            "thermal",
        ),
        (
            lambda d: setattr(d, "checks", (check("pressure", Level.CRITICAL),)),
            "pressure",
        ),
        (lambda d: setattr(d, "checks", (check("thermal", Level.STALE),)), "thermal"),
        (lambda d: setattr(d, "checks", (check("battery", Level.WARN),)), "battery"),
        (
            lambda d: setattr(d, "checks", (check("battery", Level.CRITICAL),)),
            "battery",
        ),
    ],
)
def test_each_sign_alone_ends_it_and_the_reason_is_kept(desk, harm, word):
    assert desk.watch()
    assert desk.watch()
    harm(desk)
    assert not desk.watch()
    status = desk.learner.status()
    assert word in status["stopped"]
    assert status["exit_status"] == -9


@pytest.mark.req("R-LEARNER-01")
def test_what_is_wrong_before_keeps_it_from_starting(desk):
    desk.checks = (check("memory", Level.CRITICAL),)
    assert not desk.watch()
    assert desk.learner.status()["runs"] == 0
    desk.checks = (check("camera", Level.STALE), check("battery", Level.UNKNOWN))
    assert desk.watch()


def full(*args, **kwargs):
    raise OSError(28, "no space left on device")


@pytest.mark.req("R-LEARNER-01")
def test_on_a_full_disk_nothing_is_begun_and_a_running_one_is_still_stopped(
    desk, monkeypatch
):
    assert desk.watch()
    monkeypatch.setattr("continuon.robot.learner.write_run", full)
    desk.recording = True
    assert not desk.watch()
    assert "record cannot be written" in desk.learner.status()["last"]["reasons"][1]
    desk.recording = False
    assert not desk.watch(seconds=700.0)
    assert "record cannot be written" in desk.learner.status()["waits_for"]
    assert desk.learner.status()["runs"] == 1


@pytest.mark.req("R-LEARNER-02")
def test_it_rests_and_waits_for_new_episodes(tmp_path):
    desk = Desk(tmp_path, command=("true",), rest_s=60.0)
    assert desk.watch()
    desk.learner._process.wait()
    assert not desk.watch(seconds=59.0)
    assert desk.learner.status()["exit_status"] == 0
    assert not desk.watch(seconds=120.0), "it learns from the same episodes again"
    desk.episode("two")
    assert desk.watch(seconds=2.0)
    desk.learner.stop("the test ends")


@pytest.mark.req("R-LEARNER-02")
def test_what_was_broken_off_is_learnt_again_after_a_rest(desk):
    assert desk.watch()
    desk.recording = True
    assert not desk.watch()
    desk.recording = False
    assert not desk.watch()
    assert desk.watch(seconds=601.0)
    assert desk.learner.status()["runs"] == 2


@pytest.mark.req("R-LEARNER-03")
@pytest.mark.slow
def test_the_process_is_modest_capped_and_dies_with_its_parent():
    code = f"""
import os, resource
from continuon.parent import die_with_parent
from continuon.pipeline.learner import be_modest, cap_memory
die_with_parent({os.getpid()})
be_modest()
cap_memory(64)
print(os.nice(0), os.sched_getscheduler(0), open("/proc/self/oom_score_adj").read())
try:
    bytearray(128 * 2**20)
except MemoryError:
    print("capped")
"""
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert told.stdout.split() == ["19", str(os.SCHED_IDLE), "1000", "capped"]


@pytest.mark.req("R-LEARNER-03")
@pytest.mark.slow
def test_the_service_and_its_learner_s_handle_never_load_jax():
    code = "import sys, continuon.robot.service; print('jax' in sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "False"
