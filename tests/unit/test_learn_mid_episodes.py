"""Which recordings the Mid loop may learn from: sound ones that a person drove."""

from __future__ import annotations

import attrs
import pytest

from continuon import hope
from continuon._specs.learn.examples import (
    HEIGHT,
    TINY,
    WIDTH,
    record_episode,
    stripe_episodes,
)
from continuon.clock import ManualClock
from continuon.errors import BudgetError, DataError
from continuon.learn import mid_episodes
from continuon.learn.mid_episodes import latest_episodes
from continuon.learn.mid_guard import MidGuard, MidLimits

CONFIG = hope.preset("seed", image_height=HEIGHT, image_width=WIDTH, **TINY)


@pytest.fixture
def folder(tmp_path):
    for index, episode in enumerate(stripe_episodes(4, seed=3)):
        short = attrs.evolve(
            episode,
            **{
                name: getattr(episode, name)[:4]
                for name in ("images", "proprio", "action", "stamp_ns", "valid")
            },
        )
        source = "vla_policy" if index == 1 else "human_teleop_xr"
        record_episode(tmp_path, short, start_wall_ns=1 + index, action_source=source)
    return tmp_path


def latest(folder, **options):
    return latest_episodes(folder, CONFIG, check=lambda: None, **options)


@pytest.mark.req("R-LEARN-57")
def test_what_a_policy_drove_is_left_out_counted_and_said_unless_asked_for(folder):
    found = latest(folder)
    assert [e.episode_id for e in found.episodes] == [
        "made-000",
        "made-002",
        "made-003",
    ]
    assert found.own == ("made-001",)
    assert "1 episodes were driven by a policy" in found.left_out[0]
    assert "made-001" in found.left_out[0]
    assert len(latest(folder, with_own=True).episodes) == 4
    assert latest(folder, with_own=True).left_out == ()


def test_only_the_newest_are_read_however_long_a_robot_has_lived(folder, monkeypatch):
    monkeypatch.setattr(mid_episodes, "MAX_EPISODES", 3)
    assert [e.episode_id for e in latest(folder).episodes] == ["made-002", "made-003"]
    monkeypatch.setattr(mid_episodes, "MAX_STEPS", 4)
    assert [e.episode_id for e in latest(folder).episodes] == ["made-003"]


@pytest.mark.req("R-LEARN-58")
@pytest.mark.parametrize("damage", ["empty", "cut", "alter"])
def test_one_damaged_recording_is_set_aside_named_and_stops_nothing(folder, damage):
    path = sorted(folder.glob("*.mcap"))[2]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    new = {"empty": b"", "cut": bytes(data[:40]), "alter": bytes(data)}[damage]
    path.write_bytes(new)
    found = latest(folder)
    assert len(found.episodes) == 2
    assert list(found.damaged) == [path.name]
    assert path.name in found.left_out[-1]
    assert "E-" in found.damaged[path.name]
    assert path.read_bytes() == new


def test_a_folder_without_a_recording_is_an_error_and_a_guard_ends_the_search(
    folder, tmp_path
):
    with pytest.raises(DataError, match="E-RLDS-STEPS-002"):
        latest(tmp_path / "nothing")

    def check():
        raise BudgetError("E-LEARN-MID-005", "hot")

    with pytest.raises(BudgetError):
        latest_episodes(folder, CONFIG, check=check)


@pytest.mark.req("R-LEARN-50")
def test_a_slow_machine_makes_fewer_updates_and_keeps_the_gate_s_time():
    clock = ManualClock()
    guard = MidGuard.of(
        MidLimits(max_seconds=300.0), clock=clock, battery=lambda: 1.0, waived=()
    )
    guard.gate_s = 20.0
    updates = 0
    while guard.may_train():
        # compiling takes a minute, then each update half of one
        clock.advance_ns(60 * 10**9 if not updates else 30 * 10**9)
        updates += 1
    assert updates == 6
    assert guard.step_s == 30.0
    assert guard.elapsed_s <= 300.0 - 60.0


@pytest.mark.req("R-LEARN-57")
def test_what_a_policy_drove_judges_no_merge(folder, tmp_path, monkeypatch):
    from continuon.cli.memory import merge
    from continuon.learn.mid_episodes import taught_places
    from continuon.learn.plane_merge import MergeReport

    assert taught_places(folder) == [0, 2, 3]
    weights = tmp_path / "base.hope"
    hope.save_checkpoint(weights, CONFIG, hope.init(0, CONFIG), metadata={})
    plane = hope.MemoryPlane(
        config_digest=hope.digest(CONFIG),
        base_sha256="1" * 64,
        slow={},
        adapter={},
        ticks=1,
        episodes=1,
        robots=("other",),
    )
    hope.save_plane(tmp_path / "other.plane", plane)
    seen = {}

    def judged(planes, store, **told):
        seen.update(told, planes=planes, store=store)
        return MergeReport(
            strategy="average",
            robots=("other",),
            error_before=0.1,
            error_after=0.2,
            kept=False,
            version=0,
        )

    monkeypatch.setattr("continuon.learn.plane_merge.merge_judged", judged)
    told = merge(
        (tmp_path / "other.plane",),
        checkpoint=weights,
        rlds_dir=folder,
        store=tmp_path / "store",
        holdout=0.4,
    )
    assert told.exit_code == 3
    assert [e.episode_id for e in seen["replay"]] == ["made-000", "made-002"]
    assert [e.episode_id for e in seen["held_out"]] == ["made-003"]


def test_a_folder_that_only_a_policy_filled_judges_nothing(tmp_path):
    from continuon.learn.mid_episodes import taught_places

    for index, episode in enumerate(stripe_episodes(2, seed=3)):
        record_episode(
            tmp_path, episode, start_wall_ns=1 + index, action_source="vla_policy"
        )
    with pytest.raises(DataError, match="E-LEARN-MID-009"):
        taught_places(tmp_path)
