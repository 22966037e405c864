"""Train the manipulation head on demonstrations by hand. Uses JAX.

Nothing is augmented by rotations or shifts: the head cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.hope.aina import AinaConfig, aina, init_aina
from continuon.hope.aina_file import save_aina
from continuon.learn.controls import half_width
from continuon.learn.data import split_by_time
from continuon.learn.finite import require_finite
from continuon.learn.hands import HandEpisode, hands_digest

__all__ = ["HandReport", "Windows", "cut_windows", "train_hand"]

_CM = 100.0
_BATCH = 256
Progress = Callable[[int, int, float], None]


@attrs.frozen(kw_only=True, eq=False)
class Windows:
    """Moments of demonstrations.

    Attributes:
        points_m: [M, N, 3] now; tips_m: [M, history, K, 3], the newest last.
        future_m: [M, horizon, K, 3], what the fingertips did.
        owner: int64 [M], whose moment it is, counted from 0.
    """

    points_m: NDArray[np.float32]
    tips_m: NDArray[np.float32]
    future_m: NDArray[np.float32]
    owner: NDArray[np.int64]


@attrs.frozen(kw_only=True)
class HandReport:
    """Mean distance of told from true fingertips, metres, on held-out demonstrations.

    Attributes:
        error_m: of the head, over the whole horizon; error_last_m at its last tick.
        stay_m: of fingertips that stay; velocity_m: of ones that go on as they
            moved, in the mean of the history.
        blind_m: of a head trained as long without the object: where this is no larger,
            looking at the object has taught nothing.
        gain_m: by how much the head is nearer than the best of these three, the lower
            end of a 95 % interval over the held-out demonstrations; None where fewer
            than two tell none.
    """

    path: Path
    sha256: str
    steps: int
    error_m: float
    error_last_m: float
    stay_m: float
    velocity_m: float
    blind_m: float
    gain_m: float | None
    held_out: tuple[str, ...]
    origin: str
    data_digest: str

    @property
    def passed(self) -> bool:
        """Whether it beats all three beyond doubt; what is not known passes nothing."""
        return self.gain_m is not None and self.gain_m > 0


def cut_windows(episodes: Sequence[HandEpisode], config: AinaConfig) -> Windows:
    """Return every moment with a whole past and a whole future.

    Raises:
        DataError: E-LEARN-HAND-004, there is none, or the tracks have other fingers.
    """
    need = config.history + config.horizon
    fingers = {e.tips_m.shape[1] for e in episodes}
    if fingers != {config.fingertips} or max(map(len, episodes)) < need:
        raise DataError(
            "E-LEARN-HAND-004",
            "the demonstrations hold no moment that this head could learn from",
            seen=f"{sorted(fingers)} fingertips, {max(map(len, episodes))} ticks",
            allowed=f"{config.fingertips} fingertips, {need} ticks or more",
        )
    rows = [
        (index, e, now)
        for index, e in enumerate(episodes)
        for now in range(config.history - 1, len(e) - config.horizon)
    ]
    past, ahead = config.history - 1, config.horizon + 1
    return Windows(
        points_m=np.stack([e.points_m[now] for _, e, now in rows]),
        tips_m=np.stack([e.tips_m[now - past : now + 1] for _, e, now in rows]),
        future_m=np.stack([e.tips_m[now + 1 : now + ahead] for _, e, now in rows]),
        owner=np.array([index for index, _, _ in rows]),
    )


def train_hand(
    episodes: Sequence[HandEpisode],
    path: Path,
    *,
    config: AinaConfig,
    num_steps: int = 600,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    holdout: float = 0.2,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> HandReport:
    """Train on all but the last demonstrations, score there, write the file.

    Raises:
        DataError: fewer than two demonstrations; E-LEARN-HAND-004; a loss that is not
            finite.
    """
    training, held_out = split_by_time(tuple(episodes), holdout)
    seen, unseen = cut_windows(training, config), cut_windows(held_out, config)
    fit = partial(
        _fit,
        config=config,
        num_steps=num_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
    )
    told = on_progress or (lambda _done, _total, _loss: None)
    params = fit(seen, on_progress=lambda n, loss: told(n, 2 * num_steps, loss))
    blind = fit(
        _hidden(seen),
        on_progress=lambda n, loss: told(num_steps + n, 2 * num_steps, loss),
    )
    origin = "+".join(sorted({e.origin for e in training}))
    digest = hands_digest(training)
    metadata = {
        "origin": origin,
        "data_digest": digest,
        "rate_hz": training[0].rate_hz,
        "steps": num_steps,
        "seed": seed,
    }
    sha256 = save_aina(path, config, params, metadata=metadata)
    own = _errors_m(params, config, unseen)
    others = {
        **_rules(unseen),
        "blind_m": _errors_m(blind, config, _hidden(unseen)),
    }
    return HandReport(
        path=path,
        sha256=sha256,
        steps=num_steps,
        error_m=float(own.mean()),
        error_last_m=float(own[:, -1].mean()),
        gain_m=_gain(own, others, unseen.owner),
        held_out=tuple(e.episode_id for e in held_out),
        origin=origin,
        data_digest=digest,
        **{name: float(errors.mean()) for name, errors in others.items()},
    )


def _gain(
    own: NDArray[Any], others: dict[str, NDArray[Any]], owner: NDArray[np.int64]
) -> float | None:
    """Return the lower end of how much nearer it is than the best of the others."""
    # a demonstration without a whole moment tells nothing, and takes no place
    told, owner = np.unique(owner, return_inverse=True)
    count = len(told)
    if count < 2:
        return None

    def each(errors: NDArray[Any]) -> NDArray[np.float64]:
        sums = np.bincount(owner, errors.mean((1, 2)), count)
        return np.asarray(sums / np.bincount(owner, minlength=count))

    lows = []
    for errors in others.values():
        nearer = each(errors) - each(own)
        lows.append(float(nearer.mean()) - half_width(nearer))
    return float(np.min(lows))


def _fit(
    seen: Windows,
    *,
    config: AinaConfig,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    on_progress: Callable[[int, float], None],
) -> Any:
    rng = np.random.default_rng([seed, 43])
    rate = optax.cosine_decay_schedule(learning_rate, num_steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))
    params = init_aina(seed, config)
    state = optimiser.init(params)

    @jax.jit
    def update(params: Any, state: Any, *batch: Any) -> Any:
        def loss_of(candidate: Any) -> jax.Array:
            return _CM * jnp.mean(_distance(candidate, config, *batch))

        loss, slope = jax.value_and_grad(loss_of)(params)
        change, state = optimiser.update(slope, state, params)
        return optax.apply_updates(params, change), state, loss

    for step in range(num_steps):
        rows = rng.integers(0, len(seen.tips_m), batch_size)
        batch = (seen.points_m[rows], seen.tips_m[rows], seen.future_m[rows])
        params, state, loss = update(params, state, *batch)
        require_finite(float(loss), where=f"manipulation head, step {step}")
        on_progress(step + 1, float(loss))
    return params


def _hidden(seen: Windows) -> Windows:
    """Return the same moments with every point in the middle of the fingertips."""
    middle = seen.tips_m[:, -1].mean(1, keepdims=True)
    return attrs.evolve(seen, points_m=np.broadcast_to(middle, seen.points_m.shape))


def _rules(unseen: Windows) -> dict[str, NDArray[np.float32]]:
    now, horizon = unseen.tips_m[:, -1:], unseen.future_m.shape[1]
    ahead = np.arange(1, horizon + 1, dtype=np.float32)[None, :, None, None]
    steps = unseen.tips_m.shape[1] - 1
    on = now + ahead * (now - unseen.tips_m[:, :1]) / steps
    return {
        "stay_m": np.linalg.norm(now - unseen.future_m, axis=-1),
        "velocity_m": np.linalg.norm(on - unseen.future_m, axis=-1),
    }


def _errors_m(params: Any, config: AinaConfig, unseen: Windows) -> NDArray[np.float32]:
    """Return the distances [M, horizon, K], metres."""
    parts = [
        np.asarray(
            _distance_of(
                params,
                config,
                unseen.points_m[start : start + _BATCH],
                unseen.tips_m[start : start + _BATCH],
                unseen.future_m[start : start + _BATCH],
            )
        )
        for start in range(0, len(unseen.points_m), _BATCH)
    ]
    return np.concatenate(parts)


def _distance(
    params: Any, config: AinaConfig, points_m: Any, tips_m: Any, future_m: Any
) -> jax.Array:
    away = aina(params, config, points_m, tips_m) - future_m
    # the square root's slope is endless at 0
    return jnp.sqrt(jnp.sum(away * away, -1) + 1e-10)


_distance_of = partial(jax.jit, static_argnums=1)(_distance)
