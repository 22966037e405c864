"""Updates beside their limits: the storage switch, and the bytes that travel."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest

from continuon.bundle import build_bundle, generate_key, sign_bundle
from continuon.ota import (
    Downloader,
    GateReport,
    Updater,
    generate_repository_keys,
    publish,
)
from continuon.ota.disk import DiskStore
from continuon.ota.plans import record_plan
from continuon.ota.record import Record, encode_record
from continuon.ota.store import perform

KEY = generate_key()
MB = 1_000_000
RECORD = Record(active="a" * 64, good="a" * 64, previous="b" * 64, release_high=7)


def bare_switch(folder, data):
    """Write, fsync, rename, fsync of the folder: no switch can do with less."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    handle = os.open(folder / "state.new", flags, 0o644)
    os.write(handle, data)
    os.fsync(handle)
    os.close(handle)
    (folder / "state.new").rename(folder / "state")
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(handle)
    os.close(handle)


@pytest.mark.parametrize("case", ["ours", "four-system-calls"])
def test_storage_switch(benchmark, tmp_path, case):
    benchmark.name = f"switch/{case}/record"
    benchmark.group = "switch/record"
    store, data = DiskStore(tmp_path), encode_record(RECORD)

    def check(path, bundle):
        raise AssertionError(path, bundle)

    def ours():
        perform(record_plan(RECORD), store, check)

    switch = ours if case == "ours" else lambda: bare_switch(tmp_path, data)
    benchmark.pedantic(switch, rounds=400, warmup_rounds=20)
    assert (tmp_path / "state").read_bytes() == data
    if benchmark.stats is not None:
        times = np.array(benchmark.stats.stats.data)
        benchmark.extra_info["p50_ms"] = float(np.percentile(times, 50) * 1e3)
        benchmark.extra_info["p99_ms"] = float(np.percentile(times, 99) * 1e3)


class Counted:
    """A source that counts the bytes which leave the repository."""

    def __init__(self, source):
        self.source, self.sent = source, 0

    @property
    def name(self):
        return self.source.name

    @contextlib.contextmanager
    def open(self, path, *, offset=0):
        with self.source.open(path, offset=offset) as stream:
            yield type(stream)(stream.offset, self.count(stream.chunks))

    def count(self, chunks):
        for chunk in chunks:
            self.sent += len(chunk)
            yield chunk


@pytest.mark.parametrize("case", ["adapter", "whole"])
def test_bytes_of_an_update(benchmark, tmp_path, case):
    """A policy of 50 MB stays, an adapter of 131 kB (rank 8) is new or came before."""
    benchmark.name = f"update-bytes/{case}/50MB"
    benchmark.group = "update-bytes/50MB"
    rng = np.random.default_rng(0)
    policy, keys = rng.bytes(50 * MB), generate_repository_keys()

    def release(number):
        artifacts = tmp_path / f"a{number}"
        artifacts.mkdir()
        (artifacts / "policy.weights").write_bytes(policy)
        (artifacts / "adapter.lora").write_bytes(rng.bytes(131_000))
        (artifacts / "golden.json").write_bytes(b"{}")
        info = build_bundle(
            tmp_path / f"b{number}", artifacts_dir=artifacts, model_name="hope",
            version=f"1.0.{number}", release_counter=number, source="bench",
            created_at_unix_ms=1, origins=["synthetic"],
        )  # fmt: skip
        sign_bundle(info.directory, [KEY])
        return publish(
            info.directory, tmp_path / "repository", keys, bundle_keys=[KEY.public]
        )

    root = release(1).root_path.read_bytes()
    downloader = Downloader(tmp_path / "repository", root, tmp_path / "model" / "tuf")
    counted = downloader.source = Counted(downloader.source)
    updater = Updater(tmp_path / "model", [KEY.public], repository=downloader)
    if case == "adapter":
        updater.fetch()
        updater.stage()
        bundle = updater.activate().bundle
        updater.commit(
            GateReport(
                bundle=bundle, golden_max_error=0.0, latency_p99_ms=1.0, ticks=999,
                veto_fraction=0.0, non_finite=0, missed_periods=0, elapsed_s=1.0,
            )
        )  # fmt: skip
        release(2)
        counted.sent = 0
    benchmark.pedantic(updater.fetch, rounds=1)
    fraction = counted.sent / len(policy)
    benchmark.extra_info["percent_of_policy"] = round(100 * fraction, 3)
    assert fraction < 0.01 if case == "adapter" else fraction > 1
