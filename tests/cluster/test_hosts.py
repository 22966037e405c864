"""Two hosts of two devices each: shares, sharded state, death and going on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from continuon._specs.learn.examples import record_episode, stripe_episodes

pytest.importorskip("jax")
pytest.importorskip("orbax.checkpoint")
pytest.importorskip("tensorboardX")
pytestmark = pytest.mark.slow

HOST = Path(__file__).with_name("host.py")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for index, episode in enumerate(stripe_episodes(6)):
        record_episode(folder, episode, start_wall_ns=1 + index)
    return folder


def train_on_two_hosts(recordings, output, die_at=0):
    """Return each host's exit status and what it told."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    flags = (
        "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
    )
    hosts = [
        subprocess.Popen(
            [sys.executable, str(HOST), str(recordings), str(output), str(die_at)],
            env={
                **os.environ,
                "XLA_FLAGS": flags,
                "JAX_PLATFORMS": "cpu",
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(index),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    ends = []
    for host in hosts:
        out, error = host.communicate(timeout=300)
        assert host.returncode == 0 or die_at, error[-3000:]
        told = [line for line in out.splitlines() if line.startswith("{")]
        ends.append(json.loads(told[-1]) if told else None)
    return ends


@pytest.mark.req("R-LEARN-13")
def test_two_hosts_share_the_work_and_go_on_after_a_kill(recordings, tmp_path):
    unbroken = train_on_two_hosts(recordings, tmp_path / "unbroken")
    first, second = unbroken
    assert first["devices"] == 4
    assert first["own"] == first["all"][::2]
    assert second["own"] == first["all"][1::2]
    assert not set(first["own"]) & set(second["own"])
    assert first["held_out"] == second["held_out"]
    for key in ("all", "data", "losses", "policy"):
        assert first[key] == second[key], key

    assert train_on_two_hosts(recordings, tmp_path / "killed", die_at=3) == [None, None]
    assert not (tmp_path / "killed" / "policy.hope").exists()
    resumed = train_on_two_hosts(recordings, tmp_path / "killed")
    assert [told["resumed_at"] for told in resumed] == [2, 2]
    assert resumed[0]["policy"] == first["policy"]
    assert resumed[0]["losses"] == first["losses"]
    lines = (tmp_path / "killed" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]
    assert list((tmp_path / "killed" / "tensorboard").glob("events.*"))
