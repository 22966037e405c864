"""A life that learns: rounds of 32 ticks, two updates after each, rules around them.

No labels come from outside. In hindsight the action that was taken is right for the
motion that followed: the robot is taught to do it again when asked for that motion.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from continuon._specs.learn.drift_forget import elastic
from continuon._specs.learn.drift_gate import (
    REST_ROUNDS,
    Evidence,
    must_go,
    passes,
    surprised,
)
from continuon._specs.learn.drift_life import PHASE, Carry, Seen, at_home, ticker
from continuon._specs.learn.drift_method import (
    WARM,
    Base,
    Count,
    Knobs,
    Method,
    hindsight,
    hindsight_loss,
)
from continuon._specs.learn.drift_models import Model
from continuon._specs.learn.drift_point import POINT
from continuon._specs.learn.drift_train import Rows, imitated, stacked
from continuon.hope.adapter import init_adapter, merge_adapter

ROUND, UPDATES, KEPT = 32, 2, 128
TRAINED, HELD = 64, 48
"""Ticks: of the window that is trained on, and of the held-out one after it."""
RANK = 4
_TRUTH_MARGIN = 1.05


class Held(NamedTuple):
    """The learner between two rounds; `was` is in use again after a rollback."""

    carry: Carry
    now: Any
    was: Any
    adam: Any
    recent: Seen
    error: Any
    trial: Any
    rest: Any
    count: Count


def learn_life(
    model: Model, method: Method, base: Base, world: tuple[Any, Any, Any]
) -> tuple[Any, Count]:
    """Return distances [robot, phase, tick] and counts [robot].

    Args:
        model: of the policy; each robot learns for itself.
        method: how.
        base: of one training seed.
        world: robots with a leading axis, bodies [phase, robot, ...], noise [tick,
            robot, 2].
    """
    robots, bodies, noise = world
    run = _compiled(model, method.lora)
    knobs = Knobs(method.rate, method.gated, method.judged, method.pull, method.replay)
    ticks = len(bodies.map) * PHASE
    away, count = run(base, knobs, robots, bodies, noise[:ticks])
    folded = np.asarray(away).reshape(len(away), len(bodies.map), PHASE)
    return folded, jax.tree.map(np.asarray, count)


@functools.lru_cache(maxsize=8)
def _compiled(model: Model, lora: bool) -> Any:  # noqa: FBT001
    def one(base: Base, knobs: Knobs, robots: Any, bodies: Any, noise: Any) -> Any:
        robots = jax.tree.map(lambda leaf: leaf[None], robots)
        bodies = jax.tree.map(lambda leaf: leaf[:, None], bodies)
        return _one_life(
            _Learner(model, lora), base, knobs, (robots, bodies, noise[:, None])
        )

    return jax.jit(jax.vmap(one, in_axes=(None, None, 0, 1, 1)))


class _Learner(NamedTuple):
    model: Model
    lora: bool

    def fresh(self, base: Base) -> Any:
        """Return what is trained, changing nothing yet."""
        if not self.lora:
            return base.params
        shapes = jax.tree.map(lambda leaf: np.zeros(leaf.shape), base.params)
        return init_adapter(0, shapes, rank=RANK, patterns=self.model.adapted)

    def used(self, base: Base, trained: Any) -> Any:
        return merge_adapter(base.params, trained) if self.lora else trained

    def loss(
        self, base: Base, knobs: Knobs, trained: Any, window: Rows, old: Rows
    ) -> Any:
        params = self.used(base, trained)
        pull = knobs.pull * elastic(params, base.params, base.weights)
        if self.lora:
            return hindsight_loss(self.told(params, window), window) + pull
        # one call for both: HOPE's gradient takes long to compile
        joined = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), window, old)
        told = self.told(params, joined)
        new = hindsight_loss(jax.tree.map(lambda leaf: leaf[:1], told), window)
        past = imitated(jax.tree.map(lambda leaf: leaf[1:], told), old)
        return (1.0 - knobs.replay) * new + knobs.replay * past + pull

    def told(self, params: Any, rows: Rows) -> Any:
        """Return the actions and expectations of windows from a fresh state."""
        return self.model.sequence(params, rows.senses, rows.previous)


def _one_life(learner: _Learner, base: Base, knobs: Knobs, world: Any) -> Any:
    robots, bodies, noise = world
    model = learner.model
    rounds = len(noise) // ROUND
    live_tick = ticker(POINT, model)

    def live(trained: Any, carry: Carry, index: Any) -> tuple[Carry, Seen]:
        """Return how both would go on, `trained` with a leading axis of two."""
        return jax.vmap(go_on, in_axes=(0, None, None))(trained, carry, index)

    def go_on(trained: Any, carry: Carry, index: Any) -> tuple[Carry, Seen]:
        params = learner.used(base, trained)
        body = jax.tree.map(lambda part: part[index * ROUND // PHASE], bodies)
        ticks = index * ROUND + jnp.arange(ROUND)
        rows = jax.lax.dynamic_slice_in_dim(noise, index * ROUND, ROUND)

        def tick(held: Carry, now: Any) -> Any:
            return live_tick(params, (robots.scene, body), held, now)

        carry, seen = jax.lax.scan(tick, carry, (ticks, rows))
        return carry, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), seen)

    def candidate(held: Held, window: Rows, index: Any) -> Any:
        old = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(
                leaf, (2 * index) % (leaf.shape[0] - 1), 2
            )[:, :TRAINED],
            base.old,
        )

        def update(_: Any, state: Any) -> Any:
            trained, adam = state
            slope = jax.grad(lambda t: learner.loss(base, knobs, t, window, old))(
                trained
            )
            change, adam = optax.scale_by_adam().update(slope, adam)
            moved = jax.tree.map(lambda t, c: t - knobs.rate * c, trained, change)
            return moved, adam

        return jax.lax.fori_loop(0, UPDATES, update, (held.now, held.adam))

    def round_of(held: Held, index: Any) -> Any:
        both = live(stacked([held.now, held.was]), held.carry, index)
        carry, seen = jax.tree.map(lambda leaf: leaf[0], both)
        other = jax.tree.map(lambda leaf: leaf[1], both[1])
        error = jnp.mean(jnp.linalg.norm(seen.senses[..., 2:4], axis=-1)) / 3.0
        worse = jnp.mean(seen.distance) > _TRUTH_MARGIN * jnp.mean(other.distance)
        back = held.trial & knobs.judged & must_go(held.error, error)
        now = _chosen(back, held.was, held.now)
        rest = jnp.where(back, REST_ROUNDS, jnp.maximum(held.rest - 1, 0))
        recent = jax.tree.map(
            lambda a, b: jnp.concatenate([a[:, ROUND:], b], 1), held.recent, seen
        )
        rows = hindsight(recent)

        def window(first: int, length: int) -> Rows:
            return jax.tree.map(lambda leaf: leaf[:, first : first + length], rows)

        # what is judged is trained on the ticks before the held-out ones
        start = KEPT - 1 - TRAINED - HELD + jnp.where(knobs.judged, 0, HELD)
        taught = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, TRAINED, 1), rows
        )
        held = held._replace(now=now)
        made, adam = candidate(held, taught, index)
        test = window(KEPT - 1 - HELD, HELD)
        evidence = _evidence(learner, base, now, made, test)
        off = jnp.mean((seen.ahead[:, :-1, -2:] - seen.senses[:, 1:, -2:]) ** 2)
        tried = (index * ROUND >= KEPT - ROUND) & (rest == 0)
        tried &= surprised(off, base.level) | jnp.logical_not(knobs.gated)
        used = tried & (passes(evidence) | jnp.logical_not(knobs.judged))
        counts = (tried, tried & ~used, used, held.trial & worse, back, back & ~worse)
        held = Held(
            carry=carry,
            now=_chosen(used, made, now),
            was=now,
            adam=_chosen(used, adam, held.adam),
            recent=recent,
            error=error,
            trial=used,
            rest=rest,
            count=Count(*(c + n for c, n in zip(held.count, counts, strict=True))),
        )
        return held, seen.distance[0]

    fresh = learner.fresh(base)
    zero = jnp.zeros((), jnp.int32)
    start = Held(
        carry=at_home(POINT, model, robots.scene, 1),
        now=fresh,
        was=fresh,
        adam=optax.scale_by_adam().init(fresh),
        recent=_nothing(),
        error=jnp.zeros(()),
        trial=jnp.zeros((), bool),
        rest=zero,
        count=Count(*[zero] * len(Count._fields)),
    )
    end, away = jax.lax.scan(round_of, start, jnp.arange(rounds))
    return away.reshape(-1), end.count


def _chosen(yes: Any, a: Any, b: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(yes, x, y), a, b)


def _nothing() -> Seen:
    """Return zeros [1, KEPT, ...] of the shape that a life gives."""
    senses = jnp.zeros((1, KEPT, len(POINT.proprio)))
    action = jnp.zeros((1, KEPT, len(POINT.action)))
    return Seen(senses, action, action, senses, jnp.zeros((1, KEPT)))


def _evidence(
    learner: _Learner, base: Base, now: Any, made: Any, test: Rows
) -> Evidence:
    def told(trained: Any) -> Any:
        return learner.told(learner.used(base, trained), test)[0][:, WARM:]

    before, after = jax.vmap(told)(stacked([now, made]))
    right = test.label[:, WARM:]
    return Evidence(
        jnp.mean(jnp.abs(before - right)),
        jnp.mean(jnp.abs(after - right)),
        jnp.max(jnp.mean(jnp.abs(after - before), (0, 1))),
    )
