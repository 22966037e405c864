"""Updates beside their limits: the storage switch, and the bytes that travel."""

from __future__ import annotations

import contextlib
import os
import time

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


def four_calls(folder, data):
    """Write, fsync, rename, fsync of the folder: no switch by name can do with less."""
    fdatasync_and_rename(folder, data, flush=os.fsync)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(handle)
    os.close(handle)


def fdatasync_and_rename(folder, data, flush=os.fdatasync):
    """Leave the name to a later flush: a power cut may undo what was reported."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    handle = os.open(folder / "state.new", flags, 0o644)
    os.write(handle, data)
    flush(handle)
    os.close(handle)
    (folder / "state.new").rename(folder / "state")


def one_flush(folder, data):
    """Overwrite a file in place and flush it once: the medium's own speed."""
    handle = os.open(folder / "in-place", os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(handle, data)
    os.fdatasync(handle)
    os.close(handle)


def test_storage_switch(benchmark, tmp_path):
    """Ours beside what the medium can do, interleaved; p99 as a ratio to each."""
    benchmark.name = "switch/record"
    store, data = DiskStore(tmp_path), encode_record(RECORD)

    def check(path, bundle):
        raise AssertionError(path, bundle)

    cases = {
        "ours": lambda: perform(record_plan(RECORD), store, check),
        "four-calls": lambda: four_calls(tmp_path, data),
        "fdatasync-and-rename": lambda: fdatasync_and_rename(tmp_path, data),
        "one-flush": lambda: one_flush(tmp_path, data),
    }
    took_ms = {case: [] for case in cases}

    def one_round():
        for case, switch in cases.items():
            began_ns = time.perf_counter_ns()
            switch()
            took_ms[case].append((time.perf_counter_ns() - began_ns) / 1e6)

    benchmark.pedantic(one_round, rounds=400, warmup_rounds=20)
    assert (tmp_path / "state").read_bytes() == data
    for case, times in took_ms.items():
        p50, p99 = np.percentile(times, [50, 99])
        benchmark.extra_info[f"{case}_p50_ms"] = round(p50, 2)
        benchmark.extra_info[f"{case}_p99_ms"] = round(p99, 2)
        ours = np.percentile(took_ms["ours"], 99)
        benchmark.extra_info[f"p99_ratio_to_{case}"] = round(ours / p99, 2)
    benchmark.extra_info["load"] = [round(load, 1) for load in os.getloadavg()]


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
