"""Alignment: each stream comes to the frame's time by its own rule."""

from pathlib import Path

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.errors import DataError
from continuon.rlds.episode import EndReason
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import UNKNOWN_NS, align, read_steps

MS = 1_000_000


def steps_of(tmp_path, draft):
    return align(open_recording(write_draft(draft, tmp_path)))


def with_samples(draft, **samples):
    return attrs.evolve(draft, samples={**draft.samples, **samples})


def vectors(*rows):
    return tuple((at * MS, np.float32(values)) for at, values in rows)


@pytest.fixture
def draft():
    frames = legal_draft(3)
    rgb = tuple(
        (at * MS, blob)
        for at, (_, blob) in zip((100, 133, 166), frames.samples["rgb"], strict=True)
    )
    depth = tuple(
        (at, blob)
        for (at, _), (_, blob) in zip(rgb, frames.samples["depth"], strict=True)
    )
    return with_samples(frames, rgb=rgb, depth=depth)


@pytest.mark.req("R-EPISODE-20")
def test_a_state_is_interpolated_between_close_neighbours_only(tmp_path, draft):
    state = vectors((90, [0.0]), (110, [2.0]), (130, [3.0]), (190, [9.0]))
    steps = steps_of(tmp_path, with_samples(draft, state=state))
    assert steps.state[:, 0].tolist() == [1.0, 3.0, 9.0]
    assert steps.skew_ns["state"].tolist() == [-10 * MS, -3 * MS, 24 * MS]
    assert steps.skew_ns["state_residual"].tolist() == [200_000, -3 * MS, 24 * MS]


@pytest.mark.req("R-EPISODE-20")
def test_an_action_holds_until_the_next_and_never_comes_from_the_future(
    tmp_path, draft
):
    state = vectors((100, [1.0]), (166, [1.0]))
    action = vectors((101, [0.1, 0]), (133, [0.2, 0]), (134, [0.3, 0]))
    steps = steps_of(tmp_path, with_samples(draft, state=state, action=action))
    assert steps.valid.tolist() == [False, True, True]
    assert steps.action[1:, 0].tolist() == [np.float32(0.2), np.float32(0.3)]
    assert steps.skew_ns["action_age"].tolist() == [UNKNOWN_NS, 0, 32 * MS]


@pytest.mark.req("R-EPISODE-22")
def test_stale_missing_and_unknown_samples_mask_their_step(tmp_path, draft):
    state = vectors((100, [1.0]), (133, [np.nan]), (166, [1.0]))
    action = vectors((50, [0, 0]), (60, [0, 0]))
    rgb = (*draft.samples["rgb"], (900 * MS, draft.samples["rgb"][0][1]))
    steps = steps_of(tmp_path, with_samples(draft, rgb=rgb, state=state, action=action))
    assert steps.valid.tolist() == [True, False, True, False]


@pytest.mark.req("R-EPISODE-20")
def test_depth_is_the_nearest_exposure(tmp_path, draft):
    depth = draft.samples["depth"]
    moved = ((90 * MS, depth[0][1]), (140 * MS, depth[1][1]))
    steps = steps_of(tmp_path, with_samples(draft, depth=moved))
    assert list(steps.depth) == [depth[0][1], depth[1][1], depth[1][1]]
    assert steps.skew_ns["depth"].tolist() == [-10 * MS, 7 * MS, -26 * MS]


@pytest.mark.req("R-EPISODE-23")
@pytest.mark.parametrize("reason", EndReason)
def test_only_a_complete_episode_ends_in_a_terminal_step(tmp_path, draft, reason):
    steps = steps_of(tmp_path, attrs.evolve(draft, end_reason=reason))
    assert steps.is_first.tolist() == [True, False, False]
    assert steps.is_last.tolist() == [False, False, True]
    terminal = reason is EndReason.COMPLETE
    assert steps.is_terminal.tolist() == [False, False, terminal]


def test_an_episode_without_state_has_a_state_of_no_components(tmp_path, draft):
    bare = attrs.evolve(
        draft,
        streams=tuple(s for s in draft.streams if s.name in {"rgb", "action"}),
        samples={name: draft.samples[name] for name in ("rgb", "action")},
    )
    steps = steps_of(tmp_path, bare)
    assert steps.state.shape == (3, 0)
    assert steps.depth is None
    assert steps.state_names == ()


def test_episodes_come_by_start_time_then_id(tmp_path):
    for name, start in (("b", 2), ("a", 2), ("z", 1)):
        metadata = legal_metadata(episode_id=name, start_wall_ns=start)
        write_draft(attrs.evolve(legal_draft(2), metadata=metadata), tmp_path)
    (tmp_path / "open.mcap.part").write_bytes(b"")
    assert [s.metadata.episode_id for s in read_steps(tmp_path)] == ["z", "a", "b"]
    assert len(list(read_steps(tmp_path / "a.mcap"))) == 1


def test_a_folder_that_is_no_recording_is_refused(tmp_path):
    (tmp_path / "readme.txt").write_text("hello")
    with pytest.raises(DataError, match=r"E-RLDS-STEPS-002.*readme.txt"):
        list(read_steps(tmp_path))
    with pytest.raises(DataError, match="no such file or directory"):
        list(read_steps(Path(tmp_path / "none")))


def test_only_unfinished_recordings_point_to_recover(tmp_path):
    (tmp_path / "a.mcap.part").write_bytes(b"x")
    with pytest.raises(DataError, match="episodes recover"):
        list(read_steps(tmp_path))


def test_pictures_stay_readable_after_the_recording_is_closed(tmp_path, draft):
    with open_recording(write_draft(draft, tmp_path)) as recording:
        steps = align(recording)
    assert list(steps.image) == [blob for _, blob in draft.samples["rgb"]]
    assert list(steps.image[1:]) == list(steps.image)[1:]
