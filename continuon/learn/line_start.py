"""Start a network on a line, and keep of what it learnt only what others bear out.

The last fifth of the training episodes judges and is not learnt from. The parameters
are taken back a part of the way to the line that they began on (as Wortsman et al.,
2022, arXiv 2109.01903), the part that errs least on the judges. That must be better
than the line by two standard errors over the judging episodes, of which fewer than five
cannot tell; else the line of all training episodes is kept. Uses JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import jax
import numpy as np
from numpy.typing import NDArray

from continuon.hope import HopeConfig
from continuon.hope.straight import on_line
from continuon.learn.data import EpisodeArrays, split_by_time
from continuon.learn.line import Line, error_of, fit_line
from continuon.learn.recipe import Recipe

__all__ = ["Judged", "LineStart", "judged", "line_start", "paced", "parted", "went"]

JUDGES = 0.2
FEWEST_JUDGES = 5
SURE = 2.0
SHARES = (0.25, 0.5, 0.75, 1.0)
PACE = 1.0 / 3.0
Episodes = Sequence[EpisodeArrays]
Told = Callable[[float], Sequence[NDArray[np.float32]]]


@attrs.frozen(kw_only=True)
class Judged:
    """How much of what was learnt is kept.

    Attributes:
        share: of the way from the line; 0 is the line.
        judges: number of episodes that were asked.
        errors: mean absolute error of each share, mean over these episodes.
        gain: of the best share over the line, the same; spread: its standard error.
    """

    share: float
    judges: int
    errors: dict[str, float]
    gain: float
    spread: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; a spread that one judge cannot tell is None."""
        spread = self.spread if np.isfinite(self.spread) else None
        return {**attrs.asdict(self), "spread": spread}


def parted(training: Episodes) -> tuple[tuple[EpisodeArrays, ...], ...]:
    """Return the episodes that are learnt from, and those that judge.

    Raises:
        DataError: E-LEARN-FEW-002, fewer than two episodes.
    """
    return split_by_time(training, JUDGES)


def paced(recipe: Recipe) -> Recipe:
    """Return the recipe at a third of its rate: less is left to be learnt."""
    return attrs.evolve(recipe, learning_rate=PACE * recipe.learning_rate)


def went(start: Any, end: Any, share: float) -> Any:
    """Return the parameters at a share of the way from `start` to `end`."""
    return jax.tree.map(lambda a, b: a + share * (b - a), start, end)


def judged(judges: Episodes, told: Told) -> Judged:
    """Return what share of the way the judges bear out.

    Args:
        judges: of `parted`; one without a valid step is not asked.
        told: actions [T, A] in each of them, at a share of the way.
    """
    asked = [place for place, one in enumerate(judges) if one.valid.any()]

    def errors(share: float) -> NDArray[np.float64]:
        actions = told(share)
        each = [error_of([judges[place]], [actions[place]]) for place in asked]
        return np.asarray(each, np.float64)

    line = errors(0.0)
    found = {share: errors(share) for share in SHARES}
    best = min(SHARES, key=lambda share: float(found[share].sum()))
    gains, count = line - found[best], len(asked)
    gain = float(gains.mean()) if count else 0.0
    spread = float(gains.std(ddof=1) / count**0.5) if count > 1 else float("inf")
    means = {
        f"{s:g}": float(e.mean()) for s, e in {0.0: line, **found}.items() if count
    }
    sure = count >= FEWEST_JUDGES and gain > SURE * spread
    share = best if sure else 0.0
    return Judged(share=share, judges=count, errors=means, gain=gain, spread=spread)


@attrs.frozen(eq=False)
class LineStart:
    """Where a network starts that begins on a line.

    Attributes:
        config: of the network, with `straight_action`.
        own, judges: the training episodes, as `parted`.
        start: parameters on the line of `own`, numpy arrays: no update consumes them.
        whole: the same on the line of all training episodes.
    """

    config: HopeConfig
    own: tuple[EpisodeArrays, ...]
    judges: tuple[EpisodeArrays, ...]
    start: Any
    whole: Any

    def kept(self, learnt: Any) -> tuple[Any, Judged]:
        """Return the parameters to keep of what training made of `start`."""
        from continuon.learn.rollout import predict

        def told(share: float) -> list[NDArray[np.float32]]:
            moved = went(self.start, learnt, share)
            answers = predict(moved, self.config, self.judges)
            return [answer.action for answer in answers]

        verdict = judged(self.judges, told)
        share = verdict.share
        return went(self.start, learnt, share) if share else self.whole, verdict


def line_start(fresh: Any, config: HopeConfig, training: Episodes) -> LineStart:
    """Return the start of fresh parameters on the lines of the training episodes."""
    own, judges = parted(training)
    start, whole = (
        jax.tree.map(np.array, _laid(fresh, config, fit_line(part)))
        for part in (own, training)
    )
    return LineStart(config, own, judges, start, whole)


def _laid(fresh: Any, config: HopeConfig, line: Line) -> Any:
    return on_line(
        fresh,
        config,
        proprio=line.proprio,
        instruction=line.instruction,
        bias=line.bias,
    )
