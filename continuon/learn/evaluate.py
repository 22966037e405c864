"""Score a checkpoint on episodes it has not seen, beside the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError, UsageError
from continuon.learn.baselines import fit_mean, fit_ridge
from continuon.learn.data import EpisodeArrays, digest_of, origin_of
from continuon.learn.line import feels_more, fit_line
from continuon.learn.scores import Scores, score

if TYPE_CHECKING:
    from continuon.learn.peer_fit import PeerPlan, PeerScore

__all__ = ["EpisodeTrace", "EvaluationReport", "evaluate", "evaluate_params"]


@attrs.frozen(eq=False)
class EpisodeTrace:
    """One episode, step by step, for plots; figures speak of `valid` steps only.

    Attributes:
        predicted, human: float32 [T, A]; surprise: float32 [T]; valid: bool [T].
    """

    episode_id: str
    predicted: NDArray[np.float32]
    human: NDArray[np.float32]
    surprise: NDArray[np.float32]
    valid: NDArray[np.bool_]


@attrs.frozen(kw_only=True, eq=False)
class EvaluationReport:
    """Held-out figures by action component.

    Attributes:
        mae, sign_accuracy: of the model; see `Scores`.
        ridge_mae, ridge_sign_accuracy, mean_mae, mean_sign_accuracy: of the baselines;
            None where no training episodes were given to fit them.
        line_mae, line_sign_accuracy: of the line through state and instruction that
            `continuon.learn.line` fits; None also where no more is felt than a car's
            speed.
        peers: networks of the model's size, trained as it was, by name; empty unless
            they were asked for.
        surprise: mean half squared error of the world model's predicted latent, over
            all valid steps.
        origin, data_digest: of the scored episodes.
        traces: one per episode, in order.
    """

    episodes: int
    steps: int
    origin: str
    data_digest: str
    checkpoint_sha256: str | None
    mae: dict[str, float]
    sign_accuracy: dict[str, float | None]
    ridge_mae: dict[str, float] | None
    ridge_sign_accuracy: dict[str, float | None] | None
    ridge_penalty: float | None
    mean_mae: dict[str, float] | None
    mean_sign_accuracy: dict[str, float | None] | None
    line_mae: dict[str, float] | None
    line_sign_accuracy: dict[str, float | None] | None
    surprise: float
    traces: tuple[EpisodeTrace, ...]
    peers: dict[str, PeerScore] = attrs.field(factory=dict)

    @property
    def mae_over_ridge(self) -> float | None:
        """Return the model's error over ridge's, first action component."""
        return _ratio(self.mae, self.ridge_mae)

    @property
    def mae_over_mean(self) -> float | None:
        """Return the model's error over the mean's, first action component."""
        return _ratio(self.mae, self.mean_mae)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, traces left out."""
        facts = {
            field.name: getattr(self, field.name)
            for field in attrs.fields(type(self))
            if field.name not in ("traces", "peers")
        }
        ratios = {
            "mae_over_ridge": self.mae_over_ridge,
            "mae_over_mean": self.mae_over_mean,
        }
        peers = {name: attrs.asdict(peer) for name, peer in self.peers.items()}
        return {**facts, **ratios, "peers": peers}


def evaluate(
    checkpoint: Path,
    episodes: Sequence[EpisodeArrays],
    *,
    training: Sequence[EpisodeArrays] | None = None,
    peers: PeerPlan | None = None,
) -> EvaluationReport:
    """Score a `.hope` file; the state is reset at the start of each episode.

    Args:
        checkpoint: the file.
        episodes: held out, decoded at the image size of the checkpoint's config.
        training: what the baselines are fitted on; None leaves them out.
        peers: also train these on `training`, which takes as long as the policy took.

    Raises:
        UsageError: E-LEARN-PEER-002, peers without training episodes.
        DataError: no episode, or no valid step, to score.
        ContractError: E-LEARN-FIT-001, the model expects other inputs or actions.
    """
    from continuon.hope import load_checkpoint

    loaded = load_checkpoint(checkpoint)
    return evaluate_params(
        loaded.params,
        loaded.config,
        episodes,
        training=training,
        checkpoint_sha256=loaded.sha256,
        peers=peers,
    )


def evaluate_params(
    params: Any,
    config: Any,
    episodes: Sequence[EpisodeArrays],
    *,
    training: Sequence[EpisodeArrays] | None = None,
    checkpoint_sha256: str | None = None,
    peers: PeerPlan | None = None,
) -> EvaluationReport:
    """Score parameters that are already in memory; see `evaluate`."""
    from continuon.learn.rollout import predict

    steps = sum(int(episode.valid.sum()) for episode in episodes)
    if steps == 0:
        raise DataError(
            "E-LEARN-EVAL-001",
            "there is no valid step to score",
            seen=f"{len(episodes)} episodes",
            hint="hold out at least one valid episode",
        )
    told = predict(params, config, episodes)
    own = score(episodes, [t.action for t in told])
    ridge = mean = line = None
    penalty = None
    if training is not None:
        fitted = fit_ridge(training)
        penalty = fitted.penalty
        ridge = score(episodes, [fitted.predict(e) for e in episodes])
        average = fit_mean(training)
        mean = score(episodes, [average.predict(e) for e in episodes])
        if feels_more(training):
            straight = fit_line(training)
            line = score(episodes, [straight.told(e) for e in episodes])
    pairs = list(zip(told, episodes, strict=True))
    return EvaluationReport(
        episodes=len(episodes),
        steps=steps,
        origin=origin_of(episodes),
        data_digest=digest_of(episodes),
        checkpoint_sha256=checkpoint_sha256,
        mae=own.mae,
        sign_accuracy=own.sign_accuracy,
        ridge_mae=_mae(ridge),
        ridge_sign_accuracy=_sign(ridge),
        ridge_penalty=penalty,
        mean_mae=_mae(mean),
        mean_sign_accuracy=_sign(mean),
        line_mae=_mae(line),
        line_sign_accuracy=_sign(line),
        surprise=float(np.concatenate([t.surprise[e.valid] for t, e in pairs]).mean()),
        traces=tuple(
            EpisodeTrace(e.episode_id, t.action, e.action, t.surprise, e.valid)
            for t, e in pairs
        ),
        peers=_scored_peers(config, training, episodes, peers),
    )


def _scored_peers(
    config: Any,
    training: Sequence[EpisodeArrays] | None,
    held_out: Sequence[EpisodeArrays],
    plan: PeerPlan | None,
) -> dict[str, PeerScore]:
    if plan is None or not plan.names:
        return {}
    if training is None:
        raise UsageError(
            "E-LEARN-PEER-002",
            "networks to compare with need episodes to learn from",
            seen=", ".join(plan.names),
            hint="give the training episodes too",
        )
    from continuon.learn.peer_fit import score_peers

    return score_peers(config, training, held_out, plan)


def _mae(scores: Scores | None) -> dict[str, float] | None:
    return None if scores is None else scores.mae


def _sign(scores: Scores | None) -> dict[str, float | None] | None:
    return None if scores is None else scores.sign_accuracy


def _ratio(own: dict[str, float], other: dict[str, float] | None) -> float | None:
    if other is None:
        return None
    first = next(iter(own))
    return own[first] / other[first] if other[first] > 0 else None
