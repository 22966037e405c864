"""The Memory Plane outlives episodes, updates and mistakes."""

from __future__ import annotations

import attrs
import jax
import numpy as np
import pytest

from continuon import hope
from continuon._specs.hope.examples import (
    TINY,
    furthest,
    observations,
    parameters,
    run_steps,
)
from continuon.errors import ContractError, DataError

BASE = "b" * 64
EPISODE = {"base_sha256": BASE, "surprise": 0.25}


def _plane(robot="car-1", *, seed=0, ticks=10, value=None):
    rng = np.random.default_rng(seed)
    shape = (TINY.slow_key, len(TINY.periods) * TINY.d)
    slow = rng.standard_normal(shape) if value is None else np.full(shape, value)
    return hope.MemoryPlane(
        config_digest=hope.digest(TINY),
        base_sha256=BASE,
        slow={"0": slow.astype(np.float32)},
        ticks=ticks,
        episodes=1,
        robots=(robot,),
    )


@pytest.mark.slow
@pytest.mark.req("R-HOPE-50")
def test_what_was_learnt_in_one_episode_is_there_in_the_next(tmp_path):
    params = parameters(TINY)
    obs = observations(TINY)
    both, _ = run_steps(TINY, params, hope.init_state(TINY, 2), obs)
    last = jax.tree.map(lambda a: a[:1] if a.ndim else a, both)
    plane = hope.plane_of(TINY, last, robot="car-1", episode_id="e-1", **EPISODE)
    adapter = hope.init_adapter(0, params)
    plane = attrs.evolve(plane, adapter=adapter)
    hope.save_plane(tmp_path / "p.plane", plane)
    loaded = hope.load_plane(tmp_path / "p.plane")
    assert (loaded.ticks, loaded.episodes, loaded.robots) == (16, 1, ("car-1",))
    assert furthest(loaded.adapter, adapter) == 0.0
    fresh = hope.recall(loaded, TINY, hope.init_state(TINY, 1))
    assert np.array_equal(fresh["blocks"]["0"]["slow"], last["blocks"]["0"]["slow"])
    assert int(fresh["tick"]) == 0
    two = hope.recall(loaded, TINY, hope.init_state(TINY, 2))
    first = run_steps(TINY, params, two, obs)[1].action
    blank = run_steps(TINY, params, hope.init_state(TINY, 2), obs)[1].action
    assert furthest(first, blank) > 1e-6
    assert loaded.experience == plane.experience
    assert loaded.experience.writes == (15 // 4, 15 // 8)
    assert loaded.experience.buffer == (
        hope.Lived(episode_id="e-1", ticks=16, surprise=0.25),
    )
    halves = np.split(plane.slow["0"], 2, axis=1)
    assert plane.rms == pytest.approx([np.sqrt(np.mean(h**2)) for h in halves])
    again = hope.plane_of(
        TINY, last, robot="car-2", episode_id="e-2", before=loaded, **EPISODE
    )
    assert again.robots == ("car-1", "car-2")
    assert again.experience.writes == (6, 2)
    assert (again.ticks, again.episodes) == (32, 2)
    assert again.adapter is loaded.adapter


@pytest.mark.req("R-HOPE-50")
def test_a_plane_of_several_robots_or_of_bad_numbers_is_refused():
    with pytest.raises(ContractError) as batch:
        hope.plane_of(
            TINY, hope.init_state(TINY, 2), robot="car-1", episode_id="e", **EPISODE
        )
    assert batch.value.code == "E-HOPE-PLANE-001"
    state = hope.init_state(TINY, 1)
    state["blocks"]["0"]["slow"] = state["blocks"]["0"]["slow"] + np.nan
    with pytest.raises(ContractError) as finite:
        hope.plane_of(TINY, state, robot="car-1", episode_id="e", **EPISODE)
    assert finite.value.code == "E-HOPE-PLANE-002"
    with pytest.raises(ContractError) as surprise:
        hope.plane_of(
            TINY,
            hope.init_state(TINY, 1),
            robot="car-1",
            episode_id="e",
            base_sha256=BASE,
            surprise=np.nan,
        )
    assert surprise.value.code == "E-HOPE-PLANE-002"


@pytest.mark.req("R-HOPE-51")
def test_versions_are_only_added_and_a_rollback_is_a_new_one(tmp_path):
    store = tmp_path / "plane"
    assert hope.latest_plane(store) is None
    for value in (1.0, 2.0):
        hope.append_plane(store, _plane(value=value))
    kept = [path.read_bytes() for path in sorted(store.iterdir())]
    assert hope.roll_back_plane(store, 1) == 3
    assert hope.plane_versions(store) == (1, 2, 3)
    assert hope.latest_plane(store).slow["0"].max() == 1.0
    assert [path.read_bytes() for path in sorted(store.iterdir())][:2] == kept
    with pytest.raises(DataError) as caught:
        hope.roll_back_plane(store, 9)
    assert caught.value.code == "E-HOPE-PLANE-006"


@pytest.mark.req("R-HOPE-51")
def test_a_damaged_newest_version_is_refused_not_skipped(tmp_path):
    for value in (1.0, 2.0):
        hope.append_plane(tmp_path, _plane(value=value))
    newest = tmp_path / "00000002.plane"
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(DataError) as caught:
        hope.latest_plane(tmp_path)
    assert caught.value.code == "E-TENSOR-SUM-004"
    assert hope.roll_back_plane(tmp_path, 1) == 3


@pytest.mark.req("R-HOPE-52")
def test_a_merge_weighs_by_ticks_whatever_the_order():
    planes = [
        _plane("car-1", ticks=30, value=1.0),
        _plane("car-2", ticks=10, value=5.0),
    ]
    merged = hope.merge_planes(planes)
    turned = hope.merge_planes(planes[::-1])
    np.testing.assert_allclose(merged.slow["0"], 2.0, rtol=1e-6)
    np.testing.assert_allclose(turned.slow["0"], merged.slow["0"], rtol=1e-6)
    assert (merged.ticks, merged.episodes) == (40, 2)
    assert merged.robots == turned.robots == ("car-1", "car-2")
    kept = hope.merge_planes(planes, strategy="longest")
    assert np.array_equal(kept.slow["0"], planes[0].slow["0"])


@pytest.mark.req("R-HOPE-52")
def test_planes_of_no_ticks_are_merged_and_what_is_no_version_is_passed_over(tmp_path):
    one, two = _plane(ticks=0, value=1.0), _plane("car-2", ticks=0, value=3.0)
    assert np.all(hope.merge_planes([one, two]).slow["0"] == 2.0)
    (tmp_path / "backup.plane").write_bytes(b"")
    (tmp_path / "1.plane").write_bytes(b"")
    assert hope.append_plane(tmp_path, one) == 1
    assert hope.plane_versions(tmp_path) == (1,)


@pytest.mark.req("R-HOPE-52")
def test_planes_of_other_networks_and_of_none_are_refused():
    other = attrs.evolve(_plane(), config_digest="0" * 64)
    with pytest.raises(ContractError) as mixed:
        hope.merge_planes([_plane(), other])
    assert mixed.value.code == "E-HOPE-PLANE-003"
    with pytest.raises(ContractError) as foreign:
        hope.recall(other, TINY, hope.init_state(TINY, 1))
    assert foreign.value.code == "E-HOPE-PLANE-003"
    later = attrs.evolve(_plane(), base_sha256="c" * 64)
    with pytest.raises(ContractError) as updated:
        hope.merge_planes([_plane(), later])
    assert updated.value.code == "E-HOPE-PLANE-007"
    with pytest.raises(ContractError) as before:
        hope.plane_of(
            TINY,
            hope.init_state(TINY, 1),
            robot="car-1",
            episode_id="e",
            before=later,
            **EPISODE,
        )
    assert before.value.code == "E-HOPE-PLANE-007"
    with pytest.raises(ContractError) as none:
        hope.merge_planes([])
    assert none.value.code == "E-HOPE-PLANE-004"
