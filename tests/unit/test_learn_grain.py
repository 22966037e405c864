from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from continuon._specs.learn.examples import RECIPE, record_episode, stripe_episodes
from continuon.errors import DataError, MissingPackageError, UsageError
from continuon.learn import frames
from continuon.learn.data import digest_of, load_arrays
from continuon.learn.frames import room_for
from continuon.learn.grain_loader import open_grain
from continuon.learn.senses import Senses
from continuon.learn.windows import WindowSampler

pytest.importorskip("grain")
BATCH = ("images", "proprio", "action", "valid", "follows")


def record_stripes(folder, count, *, depth=None):
    for index, episode in enumerate(stripe_episodes(count)):
        record_episode(folder, episode, start_wall_ns=1 + index, depth=depth)


def ramp(tick):
    return (np.arange(48).reshape(6, 8) * 10 + 1000 + tick).astype(np.uint16)


def none_of_grain():
    """Wait for its threads, which end what they are at."""
    ends = time.monotonic() + 30
    while any(t.name.startswith("grain") for t in threading.enumerate()):
        if time.monotonic() > ends:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.req("R-LEARN-26")
@pytest.mark.parametrize("first", [0, 5])
def test_grain_gives_the_batches_of_the_sampler_in_order_from_any_step(first):
    sampler = WindowSampler(stripe_episodes(3), RECIPE, 7)
    with open_grain(sampler, first=first, until=12, threads=3, ahead=4) as ahead:
        for step in range(first, 12):
            made, expected = ahead.batch(step), sampler.batch(step)
            for field in BATCH:
                np.testing.assert_array_equal(
                    getattr(made, field), getattr(expected, field)
                )
    assert none_of_grain()


def test_its_threads_end_when_training_fails_and_an_error_in_one_is_told():
    sampler = WindowSampler(stripe_episodes(3), RECIPE, 7)

    def training():
        with open_grain(sampler, first=0, until=100) as ahead:
            ahead.batch(0)
            raise RuntimeError("the update")

    with pytest.raises(RuntimeError, match="the update"):
        training()
    assert none_of_grain()

    class Broken:
        def batch(self, step):
            if step == 2:
                raise DataError("E-RLDS-IMAGE-001", "cut short")
            return sampler.batch(step)

    with open_grain(Broken(), first=0, until=100) as ahead:
        ahead.batch(0)
        ahead.batch(1)
        with pytest.raises(DataError, match="cut short"):
            ahead.batch(2)


def test_a_step_that_is_not_the_next_one_is_refused():
    sampler = WindowSampler(stripe_episodes(3), RECIPE, 7)
    with open_grain(sampler, first=3, until=9) as ahead:
        ahead.batch(3)
        with pytest.raises(ValueError, match="step 3 was asked for, and 4 is next"):
            ahead.batch(3)


def test_without_grain_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    sampler = WindowSampler(stripe_episodes(3), RECIPE, 7)
    with pytest.raises(MissingPackageError, match=r"continuon\[train\]"):
        open_grain(sampler, first=0, until=9)


@pytest.mark.req("R-LEARN-26")
def test_pictures_on_the_disk_are_those_in_memory_and_leave_nothing_behind(tmp_path):
    record_stripes(tmp_path / "episodes", 2, depth=ramp)
    scratch = tmp_path / "scratch"
    size = {"image_height": 8, "image_width": 12, "senses": Senses(4, 6)}
    kept = load_arrays(tmp_path / "episodes", **size)
    mapped = load_arrays(tmp_path / "episodes", scratch=scratch, **size)
    assert digest_of(mapped) == digest_of(kept)
    for one, other in zip(kept, mapped, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.extra["depth"], other.extra["depth"])
        assert one.extra["depth"].any()
    assert list(scratch.iterdir()) == []
    # images and depth of each of two episodes
    assert Path("/proc/self/maps").read_text().count(str(scratch)) == 4
    del mapped, other
    assert str(scratch) not in Path("/proc/self/maps").read_text()


def test_a_full_disk_is_one_clear_error_before_anything_is_learnt(
    tmp_path, monkeypatch
):
    class Full:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(frames.tempfile, "TemporaryFile", lambda dir: Full())  # noqa: A006
    with pytest.raises(DataError, match="E-LEARN-ROOM-001") as caught:
        room_for((1000, 30, 40, 3), np.uint8, tmp_path)
    assert "3,600,000 bytes" in str(caught.value.seen)
    assert "TMPDIR" in str(caught.value.hint)


@pytest.mark.parametrize("shape", [(0, 3), (7,), (2, 1 << 20)])
def test_room_is_zero_and_can_be_written_to(tmp_path, shape):
    room = room_for(shape, np.float32, tmp_path)
    assert room.shape == shape
    assert not room.any()
    room[...] = 1.5
    assert (room == 1.5).all()


def test_a_loader_that_does_not_exist_is_refused(tmp_path):
    from continuon.learn import train

    with pytest.raises(UsageError, match="E-LEARN-LOADER-001"):
        train(tmp_path, tmp_path / "out", loader="ram")


SCRIPT = """
import json, sys
from pathlib import Path
import attrs
from continuon._specs.learn.examples import RECIPE, TINY
from continuon.learn import slow
from continuon.learn.recipe import Recipe

folder = Path(sys.argv[1])
told = []
for loader, mode in (("memory", "local"), ("grain", "local"), ("grain", "tpu")):
    output = folder / f"{loader}-{mode}"
    class Stop(Exception): pass
    def progress(done, total, loss):
        if done == 3 and loader == "grain": raise Stop
    recipe = attrs.evolve(RECIPE, batch_size=8, window=16)
    given = dict(config_preset="nano", num_steps=4, mode=mode, recipe=recipe,
                 minimum_episodes=4, checkpoint_every=2)
    try:
        report = slow.train(folder / "episodes", output, loader=loader,
                            on_progress=progress, **given)
    except Stop:
        report = slow.train(folder / "episodes", output, loader=loader, **given)
    told.append({"policy": report.checkpoint_sha256, "resumed": report.resumed_at,
                 "devices": report.devices, "data": report.data_digest,
                 "losses": [row.loss for row in report.loss_curve]})
print(json.dumps(told))
"""


@pytest.mark.slow
@pytest.mark.req("R-LEARN-26")
def test_both_loaders_train_the_same_policy_also_stopped_and_on_eight_devices(tmp_path):
    record_stripes(tmp_path / "episodes", 5)
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    memory, grain, sharded = json.loads(done.stdout.splitlines()[-1])
    assert grain["resumed"] == 2
    assert grain["policy"] == memory["policy"]
    assert grain["data"] == memory["data"] == sharded["data"]
    assert sharded["devices"] == 8
    assert sharded["losses"] == pytest.approx(memory["losses"], abs=1e-4)
