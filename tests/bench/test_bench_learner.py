"""A loop alone, beside its recorder, and beside recorder and learner, in one run.

The service ends the learner when an episode begins, so both at once is worse than what
happens. The learner here makes the Mid loop's own updates, without end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

pytest.importorskip("jax")

from continuon.clock import SystemClock
from continuon.errors import ContractError
from continuon.home import Home
from continuon.rlds.episode import EndReason
from continuon.robot.bodies import open_body
from continuon.robot.control_config import ControlConfig
from continuon.robot.envelope import car_limits
from continuon.robot.modes import Actor, Request
from continuon.robot.recordings import Wish
from continuon.robot.supervisor import Supervisor

SECONDS = 10.0
LEARN = """
import sys
from continuon.pipeline.learner import be_modest, cap_memory
from continuon.parent import die_with_parent
die_with_parent(int(sys.argv[1]))
be_modest()
from continuon import hope
from continuon._specs.learn.examples import HEIGHT, WIDTH, stripe_episodes
from continuon.learn.mid_train import MidTask, mid_recipe, train_adapter
import jax
jax.devices()
cap_memory(1536.0)
config = hope.preset("nano", image_height=HEIGHT, image_width=WIDTH)
params = hope.init(0, config)
made = 0
def go_on():
    global made
    made += 1
    print(made, flush=True)
    return True
train_adapter(MidTask(
    params=params, config=config, adapter=hope.init_adapter(0, params, rank=8),
    episodes=stripe_episodes(8, ticks=40), max_steps=10**9, seed=0, go_on=go_on,
    recipe=mid_recipe(config, batch_size=8, learning_rate=1e-3),
))
"""


@pytest.mark.parametrize("priority", [50, 0], ids=["fifo", "plain"])
def test_learn_beside_the_loop(benchmark, tmp_path, priority):
    clock, spans = SystemClock(), {}

    def span(name, robot):
        first = robot.control.log.count
        clock.sleep_until_ns(clock.monotonic_ns() + round(SECONDS * 1e9))
        spans[name] = robot.control.timing(first)

    with open_body("sim", seed=3) as body:
        config = ControlConfig(
            rig=body.rig, limits=car_limits(), fifo_priority=priority
        )
        with Supervisor(Home(tmp_path), body, config) as robot:
            off = threading.Event()

            def hold():
                while not off.wait(0.03):
                    with suppress(ContractError):
                        robot.teleop([0.1, 0.1], "human_teleop_xr")

            hand = threading.Thread(target=hold)
            hand.start()
            robot.request(Request.TRAINING, Actor.PERSON)
            robot.request(Request.START, Actor.PERSON)
            clock.sleep_until_ns(clock.monotonic_ns() + 2_000_000_000)
            span("alone", robot)
            command = [sys.executable, "-c", LEARN, str(os.getpid())]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as learner:
                for _ in range(3):  # compiled, and under way
                    assert learner.stdout.readline()
                span("learning", robot)
                robot.begin_episode(Wish(task="bench"))
                benchmark.pedantic(lambda: span("both", robot), rounds=1)
                learner.kill()
                updates = len(learner.stdout.read().split())
            span("recording", robot)
            robot.end_episode(EndReason.COMPLETE)
            off.set()
            hand.join()
    late = {name: report.lateness_ms.p99 for name, report in spans.items()}
    benchmark.extra_info.update(
        {f"lateness_p99_ms_{name}": value for name, value in late.items()},
        updates=updates,
        **{f"ratio_{name}": value / late["alone"] for name, value in late.items()},
        **{f"missed_{name}": report.missed_periods for name, report in spans.items()},
        load=os.getloadavg()[0],
    )
