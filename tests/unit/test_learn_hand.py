"""The manipulation head is trained, judged, and run on the robot in numpy."""

from __future__ import annotations

import contextlib
import json

import attrs
import numpy as np
import pytest

from continuon._specs.learn.hands import grasp_episodes, random_walks
from continuon.errors import ContractError, DataError
from continuon.learn.hands import HandEpisode, hands_digest, load_hands, save_hand

jax = pytest.importorskip("jax")

from continuon.edge.aina import AinaHead  # noqa: E402
from continuon.hope.aina import AinaConfig, aina, init_aina  # noqa: E402
from continuon.hope.aina_file import load_aina, save_aina  # noqa: E402
from continuon.learn import hand_fit  # noqa: E402
from continuon.learn.hand_fit import cut_windows, train_hand  # noqa: E402
from continuon.tensorfile import write_tensors  # noqa: E402

SMALL = AinaConfig(d=16, heads=2, layers=1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("hand") / "hand.aina"
    return train_hand(grasp_episodes(24), path, config=SMALL, num_steps=250)


@pytest.mark.slow
@pytest.mark.req("R-LEARN-27")
def test_it_beats_both_rules_and_itself_without_the_object(trained):
    assert trained.passed
    assert 0 < trained.gain_m < trained.blind_m - trained.error_m
    assert trained.error_m < 0.5 * trained.velocity_m < 0.5 * trained.stay_m
    assert trained.error_m < 0.8 * trained.blind_m
    assert trained.error_m < trained.error_last_m < 0.05
    assert trained.origin == "synthetic"
    assert len(trained.held_out) == 5


@pytest.mark.slow
@pytest.mark.req("R-LEARN-27")
def test_fingertips_that_wander_teach_it_nothing(tmp_path):
    report = train_hand(
        random_walks(12), tmp_path / "h.aina", config=SMALL, num_steps=60
    )
    assert not report.passed
    assert report.gain_m < 0
    for unknown in (None, float("nan"), 0.0):
        assert not attrs.evolve(report, gain_m=unknown).passed


@pytest.mark.req("R-LEARN-27")
def test_the_blind_head_sees_no_object_neither_when_it_learns_nor_when_asked(
    tmp_path, monkeypatch
):
    shown, asked = [], []

    def fit(windows, *, config, seed, **_):
        shown.append(windows.points_m)
        return init_aina(seed, config)

    def errors(_params, _config, windows):
        asked.append(windows.points_m)
        return np.ones(windows.future_m.shape[:-1], np.float32)

    monkeypatch.setattr(hand_fit, "_fit", fit)
    monkeypatch.setattr(hand_fit, "_errors_m", errors)
    train_hand(grasp_episodes(4), tmp_path / "h.aina", config=SMALL)
    for seen, hidden in (shown, asked):
        assert np.ptp(seen, axis=1).min() > 0.01
        assert np.ptp(hidden, axis=1).max() == 0.0


@pytest.mark.slow
@pytest.mark.req("R-LEARN-27")
def test_one_demonstration_that_judges_proves_nothing(tmp_path):
    report = train_hand(
        grasp_episodes(6), tmp_path / "h.aina", config=SMALL, num_steps=2, holdout=0.1
    )
    assert len(report.held_out) == 1
    assert report.gain_m is None
    assert not report.passed


@pytest.mark.req("R-LEARN-27")
def test_a_demonstration_too_short_to_judge_is_no_judge(tmp_path, monkeypatch):
    away = iter((1.0, 2.0))

    def errors(_params, _config, windows):
        told = np.full(windows.future_m.shape[:-1], next(away), np.float32)
        told[:, 0], told[:, -1] = told[:, 0] - 0.5, told[:, -1] + 0.5
        return told

    monkeypatch.setattr(hand_fit, "_fit", lambda *_, config, **__: init_aina(0, config))
    monkeypatch.setattr(hand_fit, "_errors_m", errors)
    monkeypatch.setattr(
        hand_fit,
        "_rules",
        lambda windows: {
            name: np.full(windows.future_m.shape[:-1], 3.0)
            for name in ("stay_m", "velocity_m")
        },
    )
    *shown, first, short, last = grasp_episodes(6)
    short = attrs.evolve(short, points_m=short.points_m[:5], tips_m=short.tips_m[:5])
    report = train_hand(
        [*shown, first, short, last], tmp_path / "h.aina", config=SMALL, holdout=0.5
    )
    assert report.passed
    assert report.gain_m == 1.0
    assert (report.error_m, report.error_last_m) == (1.0, 1.5)


@pytest.mark.slow
@pytest.mark.req("R-LEARN-27")
def test_the_robot_tells_what_training_does_wherever_the_scene_stands(trained):
    loaded, robot = load_aina(trained.path), AinaHead.from_file(trained.path)
    assert robot.sha256 == trained.sha256 == loaded.sha256
    assert (robot.rate_hz, robot.origin) == (10.0, "synthetic")
    moments = cut_windows(grasp_episodes(3, seed=9), SMALL)
    told = np.asarray(
        aina(loaded.params, SMALL, moments.points_m, moments.tips_m), np.float32
    )
    for row in range(0, len(told), 5):
        points, tips = moments.points_m[row], moments.tips_m[row]
        np.testing.assert_allclose(robot(points, tips), told[row], atol=1e-5)
        turned = robot(points[::-1, [1, 2, 0]] + 0.5, tips[..., [1, 2, 0]] + 0.5)
        np.testing.assert_allclose(turned, told[row][..., [1, 2, 0]] + 0.5, atol=2e-5)


def test_the_robot_refuses_what_is_no_head_and_no_scene(tmp_path):
    save_aina(tmp_path / "h.aina", SMALL, init_aina(0, SMALL), metadata={})
    robot = AinaHead.from_file(tmp_path / "h.aina")
    assert (robot.rate_hz, robot.origin) == (0.0, "")
    points, tips = np.zeros((6, 3)), np.zeros((4, 5, 3))
    for wrong in (
        (points, tips[:3]),
        (points[:0], tips),
        (points[None], tips),
        (points * np.nan, tips),
        (points, tips + np.inf),
    ):
        with pytest.raises(ContractError, match="E-EDGE-AINA-002"):
            robot(*wrong)
    write_tensors(tmp_path / "x.aina", {}, {"kind": "memory-plane", "version": 1})
    with pytest.raises(DataError, match="E-EDGE-AINA-001"):
        AinaHead.from_file(tmp_path / "x.aina")
    with pytest.raises(DataError, match="E-HOPE-AINA-003"):
        load_aina(tmp_path / "x.aina")


@pytest.mark.req("R-LEARN-28")
def test_demonstrations_go_through_their_files_bit_for_bit(tmp_path):
    made = grasp_episodes(3)
    for episode in reversed(made):
        save_hand(tmp_path, episode)
    read = load_hands(tmp_path)
    assert hands_digest(read) == hands_digest(made)
    assert [e.origin for e in read] == ["synthetic"] * 3
    assert hands_digest(read[:2]) != hands_digest(read[1:])


@pytest.mark.req("R-LEARN-28")
def test_a_demonstration_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    one, other = grasp_episodes(2)
    path = save_hand(tmp_path, one)
    held = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("continuon.durable.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        save_hand(tmp_path, attrs.evolve(other, episode_id=one.episode_id))
    assert path.read_bytes() == held
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.req("R-LEARN-28")
@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"tips_m": np.zeros((27, 5, 3), np.float32)}, "tips"),
        ({"tips_m": np.full((28, 5, 3), np.nan, np.float32)}, "not finite"),
        ({"points_m": np.zeros((28, 0, 3), np.float32)}, "points"),
        ({"rate_hz": 0.0}, "rate_hz"),
        ({"rate_hz": float("nan")}, "rate_hz"),
        ({"origin": "guessed"}, "origin"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_by_name(change, seen):
    with pytest.raises(DataError, match="E-LEARN-HAND-002") as caught:
        attrs.evolve(grasp_episodes(1)[0], **change)
    assert seen in str(caught.value.seen)


@pytest.mark.req("R-LEARN-28")
def test_millimetres_taken_for_metres_are_refused():
    one = grasp_episodes(1)[0]
    with pytest.raises(DataError, match="E-LEARN-HAND-002") as caught:
        attrs.evolve(one, tips_m=1000 * one.tips_m, points_m=1000 * one.points_m)
    assert "metres" in str(caught.value.allowed)


@pytest.mark.req("R-LEARN-28")
def test_one_tick_of_a_finger_out_of_reach_is_refused():
    one = grasp_episodes(1)[0]
    tips_m = one.tips_m.copy()
    tips_m[3, 0, 2] += 0.7
    with pytest.raises(DataError, match="E-LEARN-HAND-002"):
        attrs.evolve(one, tips_m=tips_m)


@pytest.mark.req("R-LEARN-28")
def test_the_digest_changes_with_anything_that_is_learnt_from():
    one, other = grasp_episodes(2)
    changes = (
        {"points_m": one.points_m[:, ::-1].copy()},
        {"tips_m": one.tips_m[:, ::-1].copy()},
        {"rate_hz": 2 * one.rate_hz},
        {"origin": "real"},
        {"episode_id": "another"},
    )
    told = [hands_digest([attrs.evolve(one, **change), other]) for change in changes]
    told += [hands_digest([one, other]), hands_digest([other, one])]
    assert len(set(told)) == len(told)


@pytest.mark.req("R-LEARN-27")
def test_the_rules_stay_and_go_on_and_the_doubt_is_of_the_demonstrations():
    ticks = np.arange(12, dtype=np.float32)
    tips_m = np.tile(0.01 * ticks[:, None, None], (1, 5, 3))
    steady = HandEpisode(
        episode_id="e",
        origin="synthetic",
        points_m=np.zeros((12, 2, 3), np.float32),
        tips_m=tips_m,
        rate_hz=10.0,
    )
    told = hand_fit._rules(cut_windows([steady], AinaConfig(horizon=6)))
    np.testing.assert_allclose(told["velocity_m"], 0.0, atol=1e-6)
    ahead = 0.01 * 3**0.5 * np.arange(1, 7)
    np.testing.assert_allclose(told["stay_m"][0, :, 0], ahead, rtol=1e-4)
    errors, owner = np.zeros((6, 8, 5)), np.array([0, 0, 1, 1, 2, 2])
    gains = np.array([1.0, 2.0, 4.0])
    own = errors - gains[owner][:, None, None]
    low = gains.mean() - 4.303 * gains.std(ddof=1) / 3**0.5
    assert hand_fit._gain(own, {"stay_m": errors}, owner) == pytest.approx(low)


@pytest.mark.req("R-LEARN-28")
def test_folders_that_hold_none_or_unlike_or_torn_ones_are_refused(tmp_path):
    with pytest.raises(DataError, match="E-LEARN-HAND-001"):
        load_hands(tmp_path / "nowhere")
    one, other = grasp_episodes(2)
    save_hand(tmp_path, one)
    path = save_hand(tmp_path, attrs.evolve(other, points_m=other.points_m[:, :9]))
    with pytest.raises(DataError, match="E-LEARN-HAND-003"):
        load_hands(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="E-LEARN-HAND-001") as torn:
        load_hands(tmp_path)
    assert torn.value.where == str(path)
    np.savez(path, points_m=one.points_m)
    with pytest.raises(DataError, match="E-LEARN-HAND-001"):
        load_hands(tmp_path)
    np.savez(path, points_m=np.array([{}], object), tips_m=1, rate_hz=1, origin="real")
    with pytest.raises(DataError, match="E-LEARN-HAND-001"):
        load_hands(tmp_path)


@pytest.mark.req("R-LEARN-28")
def test_no_altered_byte_of_a_demonstration_s_file_is_more_than_an_error(tmp_path):
    path = save_hand(tmp_path, grasp_episodes(1)[0])
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        altered = bytearray(whole)
        altered[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(altered)
        with contextlib.suppress(DataError):
            load_hands(tmp_path)


@pytest.mark.req("R-LEARN-28")
@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("rate_hz", [30.0, 30.0], "E-LEARN-HAND-001"),
        ("points_m", ["near"], "E-LEARN-HAND-001"),
        ("rate_hz", float("nan"), "E-LEARN-HAND-002"),
        ("origin", "guessed", "E-LEARN-HAND-002"),
    ],
)
def test_a_file_that_is_unlike_its_format_and_one_that_is_no_hand_are_told_apart(
    tmp_path, field, value, code
):
    one = grasp_episodes(1)[0]
    held = {"points_m": one.points_m, "tips_m": one.tips_m, "rate_hz": 30.0}
    held |= {"origin": "real", field: value}
    np.savez(tmp_path / "one.npz", **{n: np.asarray(v) for n, v in held.items()})
    with pytest.raises(DataError) as caught:
        load_hands(tmp_path)
    assert caught.value.code == code


@pytest.mark.req("R-LEARN-27")
def test_too_few_ticks_or_other_fingers_are_refused(tmp_path):
    short = grasp_episodes(3, ticks=11)
    with pytest.raises(DataError, match="E-LEARN-HAND-004"):
        train_hand(short, tmp_path / "h.aina", config=SMALL)
    three = attrs.evolve(SMALL, fingertips=3)
    with pytest.raises(DataError, match="E-LEARN-HAND-004"):
        train_hand(grasp_episodes(3), tmp_path / "h.aina", config=three)
    assert list(tmp_path.iterdir()) == []


def test_a_window_is_the_past_now_and_the_future():
    ticks = np.arange(12, dtype=np.float32)
    tips = np.broadcast_to(ticks[:, None, None], (12, 5, 3)).copy()
    points = np.broadcast_to(ticks[:, None, None], (12, 2, 3)).copy()
    episode = HandEpisode(
        episode_id="e", origin="synthetic", points_m=points, tips_m=tips, rate_hz=10.0
    )
    made = cut_windows([episode], AinaConfig(horizon=6))
    assert made.points_m[:, 0, 0].tolist() == [3, 4, 5]
    assert made.tips_m[0, :, 0, 0].tolist() == [0, 1, 2, 3]
    assert made.future_m[-1, :, 0, 0].tolist() == [6, 7, 8, 9, 10, 11]


@pytest.mark.slow
def test_on_the_command_line(tmp_path, capsys, monkeypatch):
    from continuon.cli.program import run

    monkeypatch.setenv("CONTINUON_HOME", str(tmp_path / "home"))
    for episode in grasp_episodes(10):
        save_hand(tmp_path / "grasps", episode)
    sizes = ("--width", "16", "--num-steps", "3", "--json")
    assert run(["train", "hand", str(tmp_path / "grasps"), *sizes]) == 3
    told = json.loads(capsys.readouterr().out)
    assert not told["passed"]
    assert told["held_out"] == ["grasp-008", "grasp-009"]
    assert told["path"] == str(tmp_path / "home/trainer/checkpoints/hand.aina")
    assert run(["train", "hand", str(tmp_path / "none")]) == 1
    assert "E-LEARN-HAND-001" in capsys.readouterr().err
