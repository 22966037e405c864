"""The learning process on a home with a bundle: it promotes, and says what it left out.

Minutes of compiling, so it is no unit test: `nox -s learner`.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from continuon._specs.learn.examples import record_episode, stripe_episodes
from continuon._specs.robot.homes import learning_home
from continuon.adapter_record import read_record
from continuon.edge.derived import DERIVED_FILE
from continuon.robot.learner_run import read_run

SENSORS = (
    "temperature_celsius",
    "battery_fraction",
    "memory_available_mib",
    "memory_pressure_percent",
)
# at this machine's priority, not the last one's: a busy machine would starve it
PROCESS = (
    "import os, sys; from continuon.pipeline import learner;"
    "learner.be_modest = lambda: None;"
    "sys.exit(learner.main(['--parent', str(os.getppid()), *sys.argv[1:]]))"
)


def learn(home, *words):
    for name in SENSORS:
        words += ("--without", name)
    return subprocess.run(
        [sys.executable, "-c", PROCESS, *words],
        env=os.environ | {"CONTINUON_HOME": str(home.root)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.req("R-LEARNER-04")
@pytest.mark.req("R-LEARN-57")
@pytest.mark.req("R-LEARN-58")
def test_a_run_promotes_what_helps_and_one_out_of_time_changes_nothing(tmp_path):
    home, _ = learning_home(tmp_path / "home")
    own = stripe_episodes(9, seed=3)[8]
    record_episode(home.episodes, own, start_wall_ns=10**12, action_source="vla_policy")
    damaged = home.episodes / "damaged.mcap"
    damaged.write_bytes(b"\x89MCAP0\r\n cut")
    ended = learn(home, "--max-steps", "60", "--max-seconds", "3000")
    told = read_run(home.state)
    assert (ended.returncode, told.outcome) == (0, "promoted"), ended.stderr
    assert told.steps == 60
    assert told.figures["mae_after"] < told.figures["mae_before"]
    assert own.episode_id in told.left_out[0]
    assert "damaged.mcap" in told.left_out[1]
    assert damaged.exists()
    record = read_record(home.adapters)
    assert record.use.adapter == told.adapter == 1
    assert list((home.adapters / "compiled").glob(f"*/{DERIVED_FILE}"))
    programs = sorted((home.root / "trainer" / "compiled").iterdir())
    assert programs

    ended = learn(home, "--max-steps", "1", "--max-seconds", "0.5")
    told = read_run(home.state)
    assert (ended.returncode, told.code) == (3, "E-LEARN-MID-003"), ended.stderr
    assert read_record(home.adapters).use.adapter == 1
