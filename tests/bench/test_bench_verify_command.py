"""`continuon bundle verify` as a whole command, in CPU seconds of its process.

Beside it, round by round: a process that hashes the same bytes and does nothing else
(the floor: no Python program can do less), a bare Python, and the stock
`model_signing` tool where it is installed or MODEL_SIGNING names it. Byte code is compiled first, as an installation
has it. `VERIFY_MB` sets the size, 100 by default.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys

import numpy as np
import pytest

from continuon.bundle import build_bundle, load_private_key, new_key, sign_bundle

MB = int(os.environ.get("VERIFY_MB", "100"))
ROUNDS = int(os.environ.get("VERIFY_ROUNDS", "12"))
STOCK = os.environ.get("MODEL_SIGNING") or shutil.which("model_signing")
LIMIT = """
import hashlib, os, sys
buffer = bytearray(1 << 18)
view = memoryview(buffer)
for path in sys.argv[1:]:
    digest, handle = hashlib.sha256(), os.open(path, os.O_RDONLY)
    while count := os.readv(handle, [buffer]):
        digest.update(view[:count])
    digest.hexdigest()
"""


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify-command")
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    rng = np.random.default_rng(0)
    for name in ("policy.tflite", "policy.weights"):
        with (artifacts / name).open("wb") as file:
            for _ in range(MB // 2):
                file.write(rng.bytes(1_000_000))
    for name in ("spec.json", "golden.json"):
        (artifacts / name).write_bytes(b"{}")
    info = build_bundle(
        folder / "bundle",
        artifacts_dir=artifacts,
        model_name="hope",
        version="1.0.0",
        release_counter=1,
        source="bench",
        created_at_unix_ms=1,
        origins=["synthetic"],
    )
    keys = new_key(folder / "release.pem")
    sign_bundle(info.directory, [load_private_key(keys.private_path)])
    return info.directory, keys.public_path


def cpu_s(command):
    """Return the CPU time of one run, the system's share included."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_verify_command(benchmark, signed):
    folder, public = signed
    benchmark.name = f"verify-command/{MB}MB"
    run = "from continuon.cli import main; main()"
    commands = {
        "ours": [
            *(sys.executable, "-c", run, "bundle", "verify", str(folder)),
            *("--key", str(public)),
        ],
        "floor": [sys.executable, "-c", LIMIT, *map(str, folder.iterdir())],
        "bare-python": [sys.executable, "-c", "pass"],
    }
    if STOCK is not None:
        named = ["--signature", str(folder / "model.sig"), "--public_key", str(public)]
        commands["stock"] = [STOCK, "verify", "key", str(folder), *named]
    took = {case: [] for case in commands}

    def one_round():
        for case, command in commands.items():
            took[case].append(cpu_s(command))

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=2)
    least = {case: min(seconds) for case, seconds in took.items()}
    for case, seconds in took.items():
        benchmark.extra_info[f"{case}_cpu_s_least"] = round(least[case], 4)
        benchmark.extra_info[f"{case}_cpu_s_median"] = round(
            statistics.median(seconds), 4
        )
    benchmark.extra_info["over_floor_cpu_s"] = round(least["ours"] - least["floor"], 4)
    benchmark.extra_info["ratio_to_floor"] = round(least["ours"] / least["floor"], 3)
    if "stock" in least:
        benchmark.extra_info["ratio_to_stock"] = round(
            least["ours"] / least["stock"], 3
        )
    benchmark.extra_info["load"] = [round(load, 1) for load in os.getloadavg()]
