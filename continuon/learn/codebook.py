"""Train the codebook of a VQ-VAE on the pictures of episodes. Uses JAX."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from continuon.hope.codebook import (
    CodebookConfig,
    init_codebook,
    save_codebook,
    tokens_of,
    vectors_of,
    vq_losses,
)
from continuon.learn.data import (
    EpisodeArrays,
    digest_of,
    origin_of,
    split_by_time,
)
from continuon.learn.finite import require_finite

__all__ = ["CodebookReport", "train_codebook"]

_REVIVE_EVERY = 20


@attrs.frozen(kw_only=True)
class CodebookReport:
    """What a trained codebook is worth on pictures that it has not seen.

    Attributes:
        id: of the codebook, logged beside whatever speaks of its codes.
        error: mean squared error of the pictures, in [0, 1] a channel.
        error_of_mean: the same of the training pictures' mean, which it must beat.
        codes_used: codes that the held-out pictures use.
        perplexity: how many equally likely codes would say as much.
    """

    id: str
    path: Path
    steps: int
    error: float
    error_of_mean: float
    codes_used: int
    codes: int
    perplexity: float
    origin: str
    data_digest: str


def train_codebook(
    episodes: Sequence[EpisodeArrays],
    path: Path,
    *,
    config: CodebookConfig,
    num_steps: int = 400,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
) -> CodebookReport:
    """Train on all but the last fifth of the episodes, score there, write the file.

    A code that nobody chose for a while is put where a vector of the batch is, so that
    the codebook does not collapse to a few codes.

    Raises:
        DataError: fewer than two episodes, or a loss that is not finite.
    """
    training, held_out = split_by_time(tuple(episodes))
    pictures = np.concatenate([e.images for e in training])
    rng = np.random.default_rng(seed)
    params = init_codebook(seed, config)
    state = optax.adam(learning_rate).init(params)
    used = np.zeros(config.codes, bool)
    for step in range(num_steps):
        batch = pictures[rng.integers(0, len(pictures), batch_size)]
        params, state, loss, tokens = _update(
            config, params, state, batch, np.float32(learning_rate)
        )
        require_finite(float(loss), where=f"codebook, step {step}")
        used[np.asarray(tokens)] = True
        if step % _REVIVE_EVERY == _REVIVE_EVERY - 1 and step < 0.8 * num_steps:
            params = _revive(params, batch, used, rng)
            used[:] = False
    metadata = {
        "origin": origin_of(training),
        "data_digest": digest_of(training),
        "steps": num_steps,
        "seed": seed,
    }
    identity = save_codebook(path, config, params, metadata=metadata)
    seen = np.concatenate([e.images for e in held_out])
    count = np.bincount(
        np.asarray(tokens_of(params, jnp.asarray(seen))).ravel(), minlength=config.codes
    )
    mean = (pictures / 255.0).mean(0)
    return CodebookReport(
        id=identity,
        path=path,
        steps=num_steps,
        error=float(vq_losses(params, config, jnp.asarray(seen)).reconstruction),
        error_of_mean=float(np.square(seen / 255.0 - mean).mean()),
        codes_used=int((count > 0).sum()),
        codes=config.codes,
        perplexity=_perplexity(count),
        origin=origin_of(episodes),
        data_digest=digest_of(episodes),
    )


def _perplexity(count: NDArray[np.int64]) -> float:
    share = count[count > 0] / count.sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def _revive(
    params: Any, batch: NDArray[np.uint8], used: Any, rng: np.random.Generator
) -> Any:
    vectors = np.asarray(vectors_of(params, jnp.asarray(batch)))
    vectors = vectors.reshape(-1, vectors.shape[-1])
    drawn = vectors[rng.integers(0, len(vectors), len(used))]
    return {**params, "codes": jnp.where(used[:, None], params["codes"], drawn)}


@partial(jax.jit, static_argnums=0)
def _update(
    config: CodebookConfig, params: Any, state: Any, image: Any, rate: Any
) -> Any:
    def total(candidate: Any) -> jax.Array:
        return vq_losses(candidate, config, image).total

    loss, slope = jax.value_and_grad(total)(params)
    change, state = optax.adam(rate).update(slope, state)
    tokens = tokens_of(params, image)
    return optax.apply_updates(params, change), state, loss, tokens
