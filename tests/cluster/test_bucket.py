"""A bucket's own protocol: a machine that is lost loses no more than a few updates.

The emulator gives objects no generation numbers, which Orbax's driver needs once many
arrays are written together: Orbax is tested on a folder that two hosts share.
"""

from __future__ import annotations

import socket

import attrs
import pytest

from continuon._specs.learn.examples import (
    RECIPE,
    TINY,
    record_episode,
    stripe_episodes,
)

pytest.importorskip("jax")
pytest.importorskip("orbax.checkpoint")
pytest.importorskip("gcsfs")
emulator = pytest.importorskip("gcp_storage_emulator.server")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class LostError(Exception):
    """The machine is gone."""


@pytest.fixture(scope="module")
def bucket():
    with pytest.MonkeyPatch.context() as patch, socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        found.close()
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        patch.setenv("NO_GCE_CHECK", "true")
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        patch.setenv("TENSORSTORE_GCS_HTTP_URL", f"http://127.0.0.1:{port}")
        server = emulator.create_server(
            "127.0.0.1", port, in_memory=True, default_bucket="learn"
        )
        server.start()
        yield "gs://learn"
        server.stop()


@pytest.fixture(scope="module")
def recordings(bucket, tmp_path_factory):
    from continuon.learn.remote import upload

    folder = tmp_path_factory.mktemp("recordings")
    for index, episode in enumerate(stripe_episodes(6)):
        record_episode(folder, episode, start_wall_ns=1 + index)
    upload(folder, f"{bucket}/episodes")
    return f"{bucket}/episodes"


@pytest.mark.req("R-LEARN-13")
def test_a_run_goes_on_from_the_bucket_on_another_machine(bucket, recordings, tmp_path):
    from continuon.clock import SystemClock
    from continuon.learn.remote import download
    from continuon.learn.share import load_share
    from continuon.learn.slow_run import SlowRun, run_slow

    share = load_share(
        download(recordings, tmp_path / "fetched"),
        host=0,
        hosts=1,
        holdout=0.2,
        minimum_episodes=4,
        image_height=RECIPE.image_height,
        image_width=RECIPE.image_width,
    )

    def lost_at_three(done, _total, _loss):
        if done == 3:
            raise LostError

    run = SlowRun(
        output=f"{bucket}/run",
        folder=tmp_path / "first",
        config_preset="seed",
        num_steps=4,
        mode="local",
        fsdp=1,
        seed=0,
        recipe=RECIPE,
        checkpoint_every=2,
        resume=True,
        tensorboard=False,
        on_progress=lost_at_three,
        clock=SystemClock(),
        overrides=TINY,
    )
    with pytest.raises(LostError):
        run_slow(share, run)
    second = attrs.evolve(run, folder=tmp_path / "second", on_progress=None)
    report = run_slow(share, second)
    assert report.resumed_at == 2
    whole = attrs.evolve(
        run,
        folder=tmp_path / "whole",
        output=f"{bucket}/whole",
        on_progress=None,
    )
    assert run_slow(share, whole).checkpoint_sha256 == report.checkpoint_sha256
    made = download(f"{bucket}/run", tmp_path / "made")
    assert (made / "policy.hope").is_file()
    assert not (made / "training.state").exists()
