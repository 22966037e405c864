"""A loop beside its recorder, on a live 640x480 RGB-D camera, with and without FIFO."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

import pytest

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


def cpu_s(pid):
    """Return the CPU seconds that a process has used; see proc(5), fields 14 and 15."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("priority", [50, 0], ids=["fifo", "plain"])
def test_record_beside_the_loop(benchmark, tmp_path, priority):
    clock = SystemClock()
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
            alone = robot.control.log.count
            clock.sleep_until_ns(clock.monotonic_ns() + 3_000_000_000)
            robot.begin_episode(Wish(task="bench"))
            first = robot.control.log.count
            pid = robot.recordings.recorder.pid
            cpu = (cpu_s(pid), cpu_s(robot.control.pid))

            def record():
                until_ns = clock.monotonic_ns() + round(SECONDS * 1e9)
                clock.sleep_until_ns(until_ns)

            benchmark.pedantic(record, rounds=1)
            spent = (cpu_s(pid) - cpu[0], cpu_s(robot.control.pid) - cpu[1])
            with_recorder = robot.control.timing(first)
            before = robot.control.timing(alone, first)
            ended = robot.end_episode(EndReason.COMPLETE)
            off.set()
            hand.join()
    summary = ended.get("summary", {})
    benchmark.extra_info.update(
        lateness_p99_ms_alone=before.lateness_ms.p99,
        lateness_p99_ms_recording=with_recorder.lateness_ms.p99,
        missed_periods=with_recorder.missed_periods,
        recorder_cores=spent[0] / SECONDS,
        loop_cores=spent[1] / SECONDS,
        frames=summary.get("counts", {}).get("rgb"),
        drops=sum(summary.get("drops", {}).values()),
        load=os.getloadavg()[0],
    )
