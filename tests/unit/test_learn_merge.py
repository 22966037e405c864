"""Merging what several robots learnt: judged before and after, and reversible."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import HEIGHT, TINY, WIDTH, stripe_episodes
from continuon.errors import ContractError, UsageError

jax = pytest.importorskip("jax")

from continuon import hope  # noqa: E402
from continuon.learn.plane_merge import (  # noqa: E402
    _merged,
    average_adapters,
    merge_judged,
)


def adapter_of(seed, rank=2, scale=0.3):
    rng = np.random.default_rng(seed)
    return {
        "heads/action": {
            "down": scale * rng.standard_normal((16, rank)).astype(np.float32),
            "up": scale * rng.standard_normal((rank, 2)).astype(np.float32),
        }
    }


@pytest.mark.req("R-LEARN-61")
def test_the_mean_of_changes_is_exact_where_the_rank_suffices():
    one, two = adapter_of(0, rank=1), adapter_of(1, rank=1)
    merged = average_adapters([one, two], [3.0, 1.0], rank=2)["heads/action"]
    change = [a["heads/action"]["down"] @ a["heads/action"]["up"] for a in (one, two)]
    np.testing.assert_allclose(
        merged["down"] @ merged["up"], 0.75 * change[0] + 0.25 * change[1], atol=1e-6
    )
    assert merged["up"].shape == (2, 2)
    same = average_adapters([one], [1.0], rank=1)["heads/action"]
    np.testing.assert_allclose(same["down"] @ same["up"], change[0], atol=1e-6)


@pytest.fixture(scope="module")
def network():
    config = hope.preset("seed", image_height=HEIGHT, image_width=WIDTH, **TINY)
    return config, hope.init(0, config)


def plane_of(network, robot, adapter, ticks=100):
    config, params = network
    rng = np.random.default_rng(len(robot))
    shape = (config.slow_key, len(config.periods) * config.d)
    return hope.MemoryPlane(
        config_digest=hope.digest(config),
        base_sha256=hope.params_digest(params),
        slow={"0": 0.01 * rng.standard_normal(shape).astype(np.float32)},
        adapter=adapter,
        ticks=ticks,
        episodes=1,
        robots=(robot,),
    )


def told_by(network, adapter, episodes):
    """Return the episodes with what the network does with an adapter as the truth."""
    from continuon.learn.rollout import predict

    config, params = network
    answers = predict(hope.attach_adapter(params, adapter), config, episodes)
    pairs = zip(episodes, answers, strict=True)
    return [attrs.evolve(e, action=answer.action) for e, answer in pairs]


@pytest.mark.req("R-LEARN-61")
def test_the_adapter_of_a_longer_life_weighs_more(network):
    config, params = network
    shapes = (("down", (config.d, 2)), ("up", (2, 2)))
    one, two = adapter_of(0, rank=1, scale=0.1), adapter_of(1, rank=1, scale=0.1)
    padded = {part: np.zeros(s, np.float32) for part, s in shapes}
    padded["down"][:, :1] = two["heads/action"]["down"]
    padded["up"][:1] = two["heads/action"]["up"]
    planes = [
        plane_of(network, "one", one, ticks=300),
        plane_of(network, "two", {"heads/action": padded}, ticks=100),
        plane_of(network, "neither", None, ticks=10**6),
    ]
    made = _merged(
        planes, "average", params=params, config=config, replay=(), seed=0
    ).adapter
    whole = [a["heads/action"]["down"] @ a["heads/action"]["up"] for a in (one, two)]
    seen = made["heads/action"]["down"] @ made["heads/action"]["up"]
    mean = 0.75 * whole[0] + 0.25 * whole[1]
    np.testing.assert_allclose(seen, mean, atol=1e-6)


@pytest.mark.slow
@pytest.mark.req("R-LEARN-61")
def test_an_adapter_beyond_its_bound_counts_for_the_change_that_it_makes(
    network, tmp_path
):
    config, params = network
    loud, quiet = adapter_of(0, rank=1, scale=9.0), adapter_of(1, rank=1, scale=0.1)
    hope.append_plane(tmp_path, plane_of(network, "own", quiet))
    merge_judged(
        [plane_of(network, "loud", loud)],
        tmp_path,
        params=params,
        config=config,
        held_out=stripe_episodes(2),
        max_rise=float("inf"),
    )
    adapter = hope.latest_plane(tmp_path).adapter
    assert adapter["heads/action"]["up"].shape[0] == 1

    def change(one):
        made = hope.merge_adapter(params, one)["heads"]["action"]
        return np.asarray(made - params["heads"]["action"])

    mean = 0.5 * (change(loud) + change(quiet))
    left = change(adapter) - mean
    # of rank 1, it is as near as the larger singular value comes
    assert np.linalg.norm(left) < np.linalg.norm(change(quiet))


@pytest.mark.slow
@pytest.mark.req("R-LEARN-60")
@pytest.mark.parametrize("strategy", ["keep", "average", "distil"])
def test_a_merge_towards_the_truth_is_kept_and_one_away_from_it_is_not(
    network, tmp_path, strategy
):
    config, params = network
    good, none = adapter_of(5), None
    episodes = stripe_episodes(3)
    truth = told_by(network, good, episodes)
    teacher = plane_of(network, "teacher", good, ticks=10_000)
    hope.append_plane(tmp_path, plane_of(network, "own", none))
    report = merge_judged(
        [teacher],
        tmp_path,
        params=params,
        config=config,
        held_out=truth,
        strategy=strategy,
        replay=episodes,
    )
    assert report.kept
    assert report.error_after < report.error_before
    assert report.version == 2
    assert set(hope.latest_plane(tmp_path).robots) <= {"own", "teacher"}
    bad = plane_of(network, "stranger", adapter_of(9, scale=2.0), ticks=10**6)
    report = merge_judged(
        [bad],
        tmp_path,
        params=params,
        config=config,
        held_out=truth,
        strategy=strategy,
        replay=episodes,
    )
    assert not report.kept
    assert report.error_after > report.error_before
    assert hope.plane_versions(tmp_path) == (1, 2)


@pytest.mark.req("R-LEARN-61")
def test_what_a_merge_needs_is_asked_for(network, tmp_path):
    config, params = network
    given = {"params": params, "config": config, "held_out": stripe_episodes(1)}
    with pytest.raises(UsageError, match="E-LEARN-MERGE-001"):
        merge_judged([], tmp_path, strategy="best", **given)
    with pytest.raises(ContractError, match="E-HOPE-PLANE-004"):
        merge_judged([], tmp_path, **given)
    hope.append_plane(tmp_path, plane_of(network, "own", adapter_of(1)))
    other = {**given, "params": hope.init(1, config)}
    with pytest.raises(ContractError, match="E-HOPE-PLANE-007"):
        merge_judged([], tmp_path, **other)
    with pytest.raises(UsageError, match="E-LEARN-MERGE-002"):
        merge_judged([], tmp_path, strategy="distil", **given)
