"""A robot's own Memory Plane: lived through, judged, kept, and never lost."""

from __future__ import annotations

import json

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import (
    HEIGHT,
    TINY,
    WIDTH,
    record_episode,
    stripe_episodes,
)
from continuon.errors import DataError

jax = pytest.importorskip("jax")

from continuon import hope  # noqa: E402
from continuon.learn.plane_keep import _fed, keep_judged, live_through  # noqa: E402
from continuon.learn.plane_merge import plane_error  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base():
    config = hope.preset("seed", image_height=HEIGHT, image_width=WIDTH, **TINY)
    params = hope.init(0, config)
    digest = hope.params_digest(params)
    return hope.Checkpoint(config=config, params=params, metadata={}, sha256=digest)


def keep(store, base, episodes, held_out, **more):
    given = {"robot": "car-1", "max_rise": 1.0}
    return keep_judged(
        store, base=base, episodes=episodes, held_out=held_out, **{**given, **more}
    )


@pytest.mark.req("R-LEARN-62")
def test_the_action_before_is_fed_and_never_the_one_of_its_tick(base):
    (episode,) = stripe_episodes(1)
    fed = _fed(attrs.evolve(base.config, use_previous_action=True), episode)
    assert fed["previous_action"][0].tolist() == [0.0, 0.0]
    assert np.array_equal(fed["previous_action"][1:], episode.action[:-1])
    assert set(fed) == {"image", "previous_action"}


@pytest.mark.req("R-LEARN-62")
def test_an_episode_of_one_whole_chunk_is_not_too_short(base, tmp_path):
    chunk = base.config.chunk
    whole, short = (stripe_episodes(1, ticks=n)[0] for n in (chunk, chunk - 1))
    short = attrs.evolve(short, episode_id="short")
    report = keep(tmp_path, base, [whole, short], stripe_episodes(2)[1:])
    assert (report.taken, report.short) == ((whole.episode_id,), ("short",))


@pytest.mark.req("R-LEARN-62")
def test_the_plane_is_what_the_network_holds_after_the_episodes(base, tmp_path):
    *episodes, judge = stripe_episodes(3, ticks=18)
    report = keep(tmp_path, base, episodes, [judge])
    assert report.kept
    assert report.begun
    assert report.version == 1
    plane = hope.latest_plane(tmp_path)
    state = None
    for episode in episodes:
        fresh = hope.init_state(base.config, 1)
        if state is not None:
            for name, block in fresh["blocks"].items():
                block["slow"] = state["blocks"][name]["slow"]
        seen = {"image": episode.images[None, :16]}
        state, out = hope.sequence(base.params, base.config, fresh, seen)
    np.testing.assert_allclose(
        plane.slow["0"], state["blocks"]["0"]["slow"][0], atol=1e-6
    )
    assert np.abs(plane.slow["0"]).max() > 1e-4
    assert (plane.ticks, plane.episodes, plane.robots) == (32, 2, ("car-1",))
    newest = {e.episode_id: e for e in plane.experience.buffer}[episodes[-1].episode_id]
    assert newest.surprise == pytest.approx(float(out.surprise.mean()), rel=1e-4)


@pytest.mark.req("R-LEARN-62")
def test_each_episode_goes_in_once_and_in_parts_as_together(base, tmp_path):
    *episodes, judge = stripe_episodes(4, ticks=12)
    keep(tmp_path / "parts", base, episodes[:2], [judge])
    report = keep(tmp_path / "parts", base, episodes, [judge])
    assert report.taken == (episodes[2].episode_id,)
    assert not report.begun
    keep(tmp_path / "whole", base, episodes, [judge])
    parts, whole = (hope.latest_plane(tmp_path / name) for name in ("parts", "whole"))
    np.testing.assert_array_equal(parts.slow["0"], whole.slow["0"])
    assert parts.experience == whole.experience
    again = keep(tmp_path / "parts", base, episodes, [judge])
    assert (again.taken, again.kept, again.version) == ((), False, 2)
    assert again.error_after is None


@pytest.mark.req("R-LEARN-62")
def test_one_that_got_worse_or_is_unknown_leaves_the_store_as_it_was(base, tmp_path):
    *episodes, judge = stripe_episodes(3, ticks=16)
    report = keep(tmp_path, base, episodes[:1], [judge])
    rose = report.error_after - report.error_before
    assert rose == pytest.approx(
        plane_error(
            base.params,
            config=base.config,
            plane=hope.latest_plane(tmp_path),
            held_out=[judge],
        )
        - report.error_before
    )
    refused = keep(tmp_path, base, episodes, [judge], max_rise=-1.0)
    assert not refused.kept
    assert refused.version == 1
    unknown = keep(tmp_path, base, episodes, [judge], max_rise=np.nan)
    assert not unknown.kept
    assert hope.plane_versions(tmp_path) == (1,)


@pytest.mark.req("R-LEARN-62")
def test_an_update_leaves_the_old_plane_and_begins_one_for_its_parameters(
    base, tmp_path
):
    *episodes, judge = stripe_episodes(3, ticks=16)
    keep(tmp_path, base, episodes, [judge])
    kept = (tmp_path / "00000001.plane").read_bytes()
    newer = attrs.evolve(base, params=hope.init(1, base.config))
    report = keep(tmp_path, newer, episodes, [judge])
    assert report.begun
    assert len(report.taken) == 2
    assert (tmp_path / "00000001.plane").read_bytes() == kept
    plane = hope.latest_plane(tmp_path)
    assert plane.base_sha256 == hope.params_digest(newer.params)
    alone = live_through(
        newer, episodes[0], robot="car-1", digest=plane.base_sha256, before=None
    )
    both = live_through(
        newer, episodes[1], robot="car-1", digest=plane.base_sha256, before=alone
    )
    np.testing.assert_array_equal(plane.slow["0"], both.slow["0"])


def test_the_adapter_in_use_goes_in_and_one_rolled_back_goes_out(base, tmp_path):
    *episodes, judge = stripe_episodes(4, ticks=12)
    adapter = hope.init_adapter(0, base.params)
    keep(tmp_path, base, episodes[:2], [judge], adapter=adapter)
    assert hope.latest_plane(tmp_path).adapter is not None
    keep(tmp_path, base, episodes, [judge])
    assert hope.latest_plane(tmp_path).adapter is None


def test_what_is_too_short_is_named_and_nothing_to_judge_by_is_an_error(base, tmp_path):
    short, long, judge = (
        stripe_episodes(3, ticks=3)[0],
        stripe_episodes(3, ticks=12)[1],
        stripe_episodes(3, ticks=12)[2],
    )
    report = keep(tmp_path, base, [short, long], [judge])
    assert report.short == (short.episode_id,)
    assert report.taken == (long.episode_id,)
    masked = attrs.evolve(judge, valid=np.zeros(12, bool))
    with pytest.raises(DataError, match="E-LEARN-KEEP-001"):
        keep(tmp_path, base, [long], [masked])


def test_on_the_command_line_a_plane_is_begun_shown_grown_and_rolled_back(
    base, tmp_path, capsys, monkeypatch
):
    from continuon.cli.program import run

    home = tmp_path / "home"
    monkeypatch.setenv("CONTINUON_HOME", str(home))
    slow = home / "trainer" / "checkpoints" / "slow"
    slow.mkdir(parents=True)
    hope.save_checkpoint(slow / "policy.hope", base.config, base.params, metadata={})

    def told(*argv, code=0):
        assert run([*argv, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    sources = ["human_teleop_xr"] * 4 + ["vla_policy"]
    for index, (episode, source) in enumerate(
        zip(stripe_episodes(5, ticks=12), sources, strict=True)
    ):
        record_episode(
            home / "rlds" / "episodes",
            episode,
            start_wall_ns=1 + index,
            action_source=source,
        )
    keeping = ("memory", "keep", "--robot", "car-7", "--max-rise", "1")
    report = told(*keeping)
    # the newest of four persons' episodes judges; what the policy drove goes in
    assert report["taken"] == ["made-000", "made-001", "made-002", "made-004"]
    assert report["kept"]
    shown = told("memory", "show")["versions"]
    assert [row["robots"] for row in shown] == [["car-7"]]
    assert shown[0]["writes"] == [4 * 2, 4 * 1]
    assert len(shown[0]["memory_rms"]) == 2
    assert told(*keeping)["taken"] == []
    refused = told(
        "memory", "keep", "--store", str(tmp_path / "s"), "--max-rise=-1", code=3
    )
    assert not refused["kept"]
    assert told("memory", "rollback", "1")["version"] == 2
    assert run(["memory", "show"]) == 0
    text = capsys.readouterr().out
    assert "2  4 episodes, 48 ticks of car-7" in text
    assert run(["memory", "rollback", "9"]) == 1
    assert "memory show" in capsys.readouterr().err
