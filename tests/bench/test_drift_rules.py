"""A life that learns obeys its rules; slow to compile, so beside the benchmarks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from continuon._specs.learn.drift_learn import learn_life
from continuon._specs.learn.drift_life import (
    LIVES,
    PHASE,
    TEST,
    conditions,
    lives,
    sensor_noise,
)
from continuon._specs.learn.drift_method import Base, Count, Method
from continuon._specs.learn.drift_models import plain_model
from continuon._specs.learn.drift_point import POINT
from continuon._specs.learn.drift_train import collect, stacked

SMALL = plain_model(8, len(POINT.proprio), len(POINT.action), recurrent=False)
TWO = LIVES["rotation"][:2]


def small_world() -> tuple[Base, tuple[object, object, object]]:
    params = jax.tree.map(jnp.asarray, SMALL.init(0))
    ones = jax.tree.map(jnp.ones_like, params)
    old = collect(POINT, SMALL, params, jax.random.key(0), 4)
    robots = POINT.robots(TEST, 2)
    bodies = conditions(POINT, robots, TWO)
    noise = sensor_noise(POINT, TEST, 2 * PHASE, 2)
    return Base(params, ones, old, jnp.zeros(())), (robots, bodies, noise)


def test_old_data_is_taught_only_where_it_is_asked_for() -> None:
    base, world = small_world()

    def lived(share: float, label: float) -> np.ndarray:
        old = base.old._replace(label=jnp.full_like(base.old.label, label))
        method = Method(name="full", lora=False, rate=0.01, replay=share)
        return learn_life(SMALL, method, base._replace(old=old), world)[0]

    np.testing.assert_array_equal(lived(0.0, 1.0), lived(0.0, -1.0))
    assert np.abs(lived(0.5, 1.0) - lived(0.5, -1.0)).max() > 0.01


def test_only_who_may_learn_learns_and_at_no_rate_nothing_changes() -> None:
    base, world = small_world()

    def lived(held: Base, **rules: bool) -> tuple[np.ndarray, Count]:
        method = Method(name="still", lora=True, rate=0.0, **rules)
        return learn_life(SMALL, method, held, world)

    away, count = lived(base)
    params = stacked([base.params])
    still = lives(POINT, SMALL, params, TWO, robots=2, seed=TEST).distance[0]
    np.testing.assert_allclose(away, still, atol=1e-4)
    assert (count.worse == 0).all()
    assert (count.promoted == 2 * PHASE // 32 - 3).all()
    _, count = lived(base, gated=True, judged=True)
    assert (count.tried > 0).all()
    assert (count.refused == count.tried).all(), "it changes nothing: never used"
    calm = base._replace(level=jnp.asarray(jnp.inf))
    _, count = lived(calm, gated=True)
    assert (count.tried == 0).all(), "never surprised: never learns"


@pytest.mark.parametrize("lora", [False, True])
def test_what_weighs_much_is_held_near_the_old_parameters(lora: bool) -> None:
    base, world = small_world()
    params = stacked([base.params])
    still = lives(POINT, SMALL, params, TWO, robots=2, seed=TEST).distance[0]

    def moved(pull: float) -> float:
        method = Method(name="elastic", lora=lora, rate=0.003, pull=pull)
        away, _ = learn_life(SMALL, method, base, world)
        return float(np.abs(away - still).mean())

    assert moved(100.0) < 0.5 * moved(0.0)
