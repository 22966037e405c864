"""A policy begins anew where its error lasts, and is left alone where it does not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from continuon._specs.learn.drift_models import plain_model
from continuon._specs.learn.drift_reset import LASTS, LIMIT_M, REST, watched

SENSES, TICKS = 8, REST + 8 * LASTS
BARE = plain_model(8, SENSES, 2, recurrent=True)


def lived(off_m: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return resets [T, 2] and actions [T, 2, 2], watched and bare.

    The second robot has no error.
    """
    params, model = BARE.init(0), watched(BARE)
    rng = np.random.default_rng(0)
    senses = rng.normal(size=(TICKS, 2, SENSES)).astype(np.float32)
    senses[..., 2:4] = 0.0
    senses[:, 0, 2] = 3.0 * off_m
    previous = jnp.zeros((2, 2))

    def tick(held: object, now: jax.Array) -> tuple[object, object]:
        mine, bare = held  # type: ignore[misc]
        mine, action, _ = model.step(params, mine, now, previous)
        bare, plain, _ = BARE.step(params, bare, now, previous)
        return (mine, bare), (mine["resets"], action, plain)

    start = (model.start(2), BARE.start(2))
    rows = jax.jit(lambda: jax.lax.scan(tick, start, jnp.asarray(senses))[1])()
    return tuple(np.asarray(row) for row in rows)  # type: ignore[return-value]


def test_only_the_robot_whose_error_lasts_begins_anew() -> None:
    resets, mine, bare = lived(2.0 * LIMIT_M)
    assert (resets[:REST, 0] == 0).all(), "a fresh state is given its time"
    first = int(np.argmax(resets[:, 0] > 0))
    assert first == REST
    assert resets[-1, 0] >= 2, "and again, where it goes on"
    assert (np.diff(np.flatnonzero(np.diff(resets[:, 0]))) >= REST).all()
    np.testing.assert_array_equal(mine[:first], bare[:first])
    assert np.abs(mine[first:, 0] - bare[first:, 0]).max() > 0.0
    np.testing.assert_array_equal(mine[:, 1], bare[:, 1])
    assert (resets[:, 1] == 0).all()


def test_a_small_error_resets_nothing() -> None:
    resets, mine, bare = lived(0.9 * LIMIT_M)
    assert (resets == 0).all()
    np.testing.assert_array_equal(mine, bare)
