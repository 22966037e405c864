from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from continuon.errors import DataError
from continuon.learn.data import (
    _arrays,
    _decode,
    felt_names,
    load_arrays,
    shared_names,
)
from continuon.rlds.episode import EpisodeMetadata, StreamSpec
from continuon.rlds.images import encode_jpeg
from continuon.rlds.recorder import EpisodeRecorder


def record(folder, name, *, speed=True, broken=False, start=0):
    streams = [
        StreamSpec(name="rgb", codec="jpeg", width=24, height=16),
        StreamSpec(name="action", codec="vector", names=("steering", "throttle")),
    ]
    names = ("speed_mps", "steering_position") if speed else ("steering_position",)
    streams.append(StreamSpec(name="state", codec="vector", names=names))
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
    with EpisodeRecorder(folder, metadata, streams, lossless_pacing=True) as recorder:
        for tick in range(6):
            now = 10**9 + tick * 33_000_000
            image = encode_jpeg(np.full((16, 24, 3), 20 * tick + 40, np.uint8))
            if broken and tick == 3:
                image = image[:-20]
            recorder.rgb(image, capture_ns=now)
            recorder.vector("state", [0.5] * len(names), capture_ns=now)
            recorder.vector("action", [0.1 * tick, 0.3], capture_ns=now)
        recorder.close()


@pytest.mark.slow
def test_recordings_become_small_images_with_their_origin(tmp_path):
    record(tmp_path, "late", start=2)
    record(tmp_path, "early", start=1)
    arrays = load_arrays(tmp_path, image_height=8, image_width=12, proprio=None)
    assert [e.episode_id for e in arrays] == ["early", "late"]
    episode = arrays[0]
    assert episode.origin == "synthetic"
    assert episode.images.shape == (6, 8, 12, 3)
    assert episode.proprio_names == ("speed_mps",)
    assert np.abs(episode.images.mean((1, 2, 3)) - (40 + 20 * np.arange(6))).max() < 3
    np.testing.assert_allclose(episode.action[:, 0], 0.1 * np.arange(6), atol=1e-6)


@pytest.mark.slow
def test_without_a_recorded_speed_the_policy_has_no_proprioception(tmp_path):
    record(tmp_path, "a", speed=True, start=1)
    record(tmp_path, "b", speed=False, start=2)
    arrays = load_arrays(tmp_path, image_height=8, image_width=12, proprio=None)
    assert [e.proprio_names for e in arrays] == [(), ()]
    with pytest.raises(DataError, match="E-LEARN-DATA-004"):
        load_arrays(tmp_path, image_height=8, image_width=12, proprio=("speed_mps",))


@pytest.mark.req("R-LEARN-04")
def test_a_folder_without_episodes_is_an_error_and_never_noise(tmp_path):
    with pytest.raises(DataError):
        load_arrays(tmp_path, image_height=8, image_width=12, proprio=None)


@pytest.mark.slow
@pytest.mark.req("R-LEARN-04")
def test_a_torn_image_is_an_error(tmp_path):
    record(tmp_path, "torn", broken=True)
    with pytest.raises(DataError):
        load_arrays(tmp_path, image_height=8, image_width=12, proprio=None)


@pytest.mark.req("R-LEARN-26")
def test_a_car_feels_its_speed_and_any_other_robot_all_that_is_known():
    state = np.array([[1.0, 2.0, np.nan], [1.0, np.nan, np.nan]], np.float32)
    steps = SimpleNamespace(
        state=state,
        state_names=("speed_mps", "joint_0", "joint_1"),
        valid=[True, False],
        action_names=("steering", "throttle"),
    )
    assert felt_names(steps) == ("speed_mps",)
    steps.action_names = ("joint_0", "gripper")
    assert felt_names(steps) == ("speed_mps", "joint_0")
    steps.valid = [True, True]
    assert felt_names(steps) == ("speed_mps",)
    assert shared_names([("c", "a", "b"), ("b", "c")]) == ("c", "b")


def test_a_step_without_a_picture_shows_the_one_before_and_at_first_nothing():
    pictures = [np.full((8, 12, 3), 60 * tick, np.uint8) for tick in range(4)]
    steps = SimpleNamespace(
        stamp_ns=np.arange(5),
        valid=np.array([False, True, True, False, False]),
        image=[b"", *map(encode_jpeg, pictures[1:3]), b"torn", b""],
    )
    shown = _decode(steps, 8, 12, None).mean((1, 2, 3))
    np.testing.assert_allclose(shown, [0, 60, 120, 120, 120], atol=1)


def test_what_is_not_known_of_a_step_makes_it_one_that_does_not_count():
    steps = SimpleNamespace(
        metadata=SimpleNamespace(episode_id="e", origin="real"),
        action_names=("a", "b"),
        state_names=("x", "y"),
        state=np.array([[0, np.nan], [1, 1], [np.nan, 2], [3, 3]], np.float32),
        action=np.array([[0, 0], [np.nan, 0.5], [1, 1], [0.25, 1]], np.float32),
        valid=np.ones(4, bool),
        stamp_ns=np.arange(4),
    )
    made = _arrays(steps, np.zeros((4, 1, 1, 3), np.uint8), ("x",))
    assert made.valid.tolist() == [True, False, False, True]
    assert made.proprio[:, 0].tolist() == [0, 1, 0, 3]
    assert made.action.tolist() == [[0, 0], [0, 0], [0, 0], [0.25, 1]]
