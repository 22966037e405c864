from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon.cli.train import train
from continuon.errors import DataError
from continuon.learn.data import EpisodeArrays, load_arrays
from continuon.learn.leak import check_leak, repeated
from continuon.learn.share import load_share
from continuon.rlds.episode import EpisodeMetadata, StreamSpec
from continuon.rlds.images import encode_jpeg
from continuon.rlds.recorder import EpisodeRecorder

STEPS = 64


def walked(seed):
    """Return a command [T] in [-1, 1] that moves at every tick."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal(0, 0.1, STEPS))
    return path / np.abs(path).max()


def episode(state, action, valid=None):
    names = tuple(f"state_{i}" for i in range(state.shape[1]))
    return EpisodeArrays(
        episode_id="arm",
        origin="synthetic",
        images=np.zeros((len(action), 4, 4, 3), np.uint8),
        proprio=state.astype(np.float32),
        action=action.astype(np.float32),
        stamp_ns=np.arange(len(action), dtype=np.int64),
        valid=np.ones(len(action), bool) if valid is None else valid,
        proprio_names=names,
        action_names=tuple(f"joint_{i}" for i in range(action.shape[1])),
    )


@pytest.mark.req("R-LEARN-29")
@given(st.integers(0, 999), st.floats(0.05, 200.0), st.floats(-90.0, 90.0))
def test_a_copied_command_is_found_in_any_unit(seed, scale, offset):
    told = walked(seed)
    other = walked(seed + 1000)
    degrees = np.round(told * 2048) / 2048 * scale * (-1) ** seed + offset
    made = episode(np.stack([other, degrees], 1), np.stack([told, -other[::-1]], 1))
    assert repeated([made]) == [("state_1", "joint_0")]
    with pytest.raises(
        DataError, match=r"E-LEARN-DATA-008.*state_1.*joint_0"
    ) as caught:
        check_leak([made, made])
    assert "--state" in str(caught.value)


@pytest.mark.req("R-LEARN-29")
@pytest.mark.parametrize("scale", [1e-7, 1e-5, 1e7])
def test_a_copied_command_is_found_in_a_very_small_or_large_unit(scale):
    told = walked(0)
    made = episode(np.stack([walked(1), scale * told], 1), told[:, None])
    assert repeated([made]) == [("state_1", "joint_0")]


@pytest.mark.req("R-LEARN-29")
@given(st.integers(0, 999))
def test_what_follows_a_command_by_a_tick_is_a_measurement(seed):
    told = walked(seed)
    late = np.concatenate([[told[0]], told[:-1]])
    lagging = np.zeros(STEPS)
    for tick in range(1, STEPS):
        lagging[tick] = 0.5 * lagging[tick - 1] + 0.5 * told[tick - 1]
    made = episode(np.stack([late, lagging, 0 * told], 1), told[:, None])
    check_leak([made])


def test_a_copy_in_one_episode_of_two_is_no_copy():
    told, other = walked(0)[:, None], walked(1)[:, None]
    check_leak([episode(told, told), episode(other, told)])


def test_only_valid_steps_tell():
    told, other = walked(0)[:, None], walked(1)[:, None]
    half = np.arange(STEPS) < STEPS // 2
    mixed = np.where(half[:, None], told, other)
    assert repeated([episode(mixed, told, half)]) == [("state_0", "joint_0")]
    assert repeated([episode(mixed, told)]) == []


@pytest.mark.parametrize("steps", [0, 15])
def test_of_a_few_steps_nothing_is_said(steps):
    told = walked(0)[:steps, None]
    check_leak([episode(told, told)])
    more = walked(0)[:16, None]
    assert repeated([episode(more, more)]) != []


def test_an_action_or_state_that_never_moves_repeats_nothing():
    still, told = np.full((STEPS, 1), 0.5), walked(0)[:, None]
    check_leak([episode(still, still)])
    check_leak([episode(still, told)])
    check_leak([episode(told, still)])


def record(folder, name, start):
    metadata = EpisodeMetadata(
        episode_id=name,
        origin="synthetic",
        xr_mode="trainer",
        control_role="human_teleop",
        action_source="human_teleop_xr",
        environment_id="test",
        robot_id="test",
        robot_model="test",
        frame_convention="none",
        start_wall_ns=start,
    )
    streams = [
        StreamSpec(name="rgb", codec="jpeg", width=24, height=16),
        StreamSpec(name="state", codec="vector", names=("goal", "elbow")),
        StreamSpec(name="action", codec="vector", names=("elbow",)),
    ]
    told = walked(start)[:12]
    with EpisodeRecorder(folder, metadata, streams, lossless_pacing=True) as recorder:
        for tick in range(12):
            now = 10**9 + tick * 33_000_000
            image = encode_jpeg(np.full((16, 24, 3), 90, np.uint8))
            recorder.rgb(image, capture_ns=now)
            state = [57.3 * told[tick], told[max(tick - 1, 0)]]
            recorder.vector("state", state, capture_ns=now)
            recorder.vector("action", [told[tick]], capture_ns=now)
        recorder.close()


@pytest.mark.slow
@pytest.mark.req("R-LEARN-29")
def test_a_recording_whose_state_holds_the_command_is_refused_unless_told(tmp_path):
    for start in range(4):
        record(tmp_path / "made", f"e{start}", start)
    size = {"image_height": 8, "image_width": 12}
    share = {"host": 0, "hosts": 1, "holdout": 0.25, "minimum_episodes": 2, **size}
    halves = ({**share, "hosts": 2, "host": host, "holdout": 0.5} for host in (0, 1))
    for half in halves:
        with pytest.raises(DataError, match="E-LEARN-DATA-008"):
            load_share(tmp_path / "made", **half)
    for load in (
        lambda names: load_arrays(tmp_path / "made", proprio=names, **size),
        lambda names: load_share(tmp_path / "made", proprio=names, **share).training,
    ):
        with pytest.raises(DataError, match=r"E-LEARN-DATA-008.*goal"):
            load(None)
        assert load(("elbow",))[0].proprio_names == ("elbow",)
        assert load(("goal",))[0].proprio_names == ("goal",)


@pytest.mark.slow
@pytest.mark.req("R-LEARN-29")
def test_the_command_line_names_the_state_that_is_fed(tmp_path):
    from continuon.hope import load_checkpoint

    for start in range(16):
        record(tmp_path / "made", f"e{start}", start)
    told = {"data_path": str(tmp_path / "made"), "output_dir": str(tmp_path / "out")}
    few = {"config_preset": "seed", "num_steps": 1}
    with pytest.raises(DataError, match="E-LEARN-DATA-008"):
        train(**told, **few)
    train(**told, **few, state=("elbow",))
    assert load_checkpoint(tmp_path / "out/policy.hope").config.proprio == ("elbow",)


@pytest.mark.slow
@pytest.mark.req("R-LEARN-29")
def test_of_many_hosts_all_refuse_or_none(tmp_path, monkeypatch):
    for start in range(4):
        record(tmp_path / "made", f"e{start}", start)
    judged = []
    monkeypatch.setattr("continuon.learn.leak.check_leak", judged.append)
    for host in (0, 1):
        load_share(
            tmp_path / "made",
            host=host,
            hosts=2,
            holdout=0.25,
            minimum_episodes=2,
            image_height=8,
            image_width=12,
        )
    # what a host alone holds would let it stop while the others wait for it
    assert [[e.episode_id for e in held] for held in judged] == [["e3"], ["e3"]]
