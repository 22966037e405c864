"""Distil a large network into a small preset: the teacher says what it would do.

The student learns the teacher's actions on the training episodes (Hinton, Vinyals and
Dean, 2015, for a regression). It is judged on held-out episodes against what people did
there, beside the teacher and a control of its own size that learnt from people alone
for as many steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import jax
import numpy as np

from continuon.errors import ContractError
from continuon.hope import Checkpoint, HopeConfig, init, preset, save_checkpoint
from continuon.learn.data import (
    EpisodeArrays,
    digest_of,
    origin_of,
    split_by_time,
)
from continuon.learn.loop import seed_steps
from continuon.learn.recipe import Recipe
from continuon.learn.rollout import predict
from continuon.learn.senses import Senses

__all__ = ["DistilReport", "distil"]

LEARNING_RATE = 3e-3


@attrs.frozen(kw_only=True)
class DistilReport:
    """What a student is worth on episodes that nobody taught it.

    Attributes:
        error_before: mean absolute action error of the fresh student; error_after: of
            the distilled one; error_teacher: of the teacher; error_alone: of a student
            that learnt from people's actions alone, of the same size and steps.
        gap_to_teacher: mean absolute difference of the student's actions and the
            teacher's.
        parameters: of the student; parameters_teacher: of the teacher.
        passed: the student is finite, better than before, and smaller.
    """

    checkpoint: Path
    sha256: str
    preset: str
    parameters: int
    parameters_teacher: int
    steps: int
    error_before: float
    error_after: float
    error_teacher: float
    error_alone: float
    gap_to_teacher: float
    teacher_sha256: str
    held_out_episodes: tuple[str, ...]
    origin: str
    data_digest: str
    seed: int
    passed: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**attrs.asdict(self), "checkpoint": str(self.checkpoint)}


def student_of(seen: HopeConfig, student: str, **sizes: Any) -> HopeConfig:
    """Return the preset's network with a teacher's senses and way of acting."""
    return preset(
        student,
        image_height=seen.image_height,
        image_width=seen.image_width,
        proprio=seen.proprio,
        action=seen.action,
        action_levels=seen.action_levels,
        use_previous_action=seen.use_previous_action,
        straight_action=seen.straight_action,
        depth_limit_m=seen.depth_limit_m,
        **Senses.of(seen).as_fields,
        **sizes,
    )


def distil(
    teacher: Checkpoint,
    episodes: Sequence[EpisodeArrays],
    output: Path,
    *,
    student: str = "nano",
    num_steps: int = 400,
    batch_size: int = 8,
    holdout: float = 0.25,
    seed: int = 0,
    **sizes: Any,
) -> DistilReport:
    """Teach a student of a preset, score it, and write its checkpoint.

    Args:
        teacher: any checkpoint; the student sees what it sees.
        episodes: in the order of their start; the last ones are held out.
        output: the student's .hope file.
        student: a HOPE preset.
        num_steps: updates, of the student and of its control.
        batch_size: windows an update.
        holdout: share of the episodes.
        seed: of both.
        sizes: fields of the preset to change.

    Raises:
        ContractError: E-LEARN-DISTIL-001, the student is not smaller; E-HOPE-CONFIG-*,
            no such preset.
        DataError: too few episodes, or a loss that is not finite.
    """
    seen = teacher.config
    config = student_of(seen, student, **sizes)
    large = _count(teacher.params)
    fresh = init(seed, config)
    if not _count(fresh) < large:
        raise ContractError(
            "E-LEARN-DISTIL-001",
            "the student is not smaller than its teacher",
            where=student,
            seen=_count(fresh),
            allowed=f"below {large} parameters",
            hint="choose a smaller preset",
        )
    taught, held_out = split_by_time(tuple(episodes), holdout)
    told = predict(teacher.params, seen, taught)
    copied = [
        attrs.evolve(e, action=np.clip(answer.action, -1.0, 1.0))
        for e, answer in zip(taught, told, strict=True)
    ]
    recipe = attrs.evolve(
        Recipe().plain(),
        image_height=max(seen.image_height, 1),
        image_width=max(seen.image_width, 1),
        window=2 * config.chunk,
        batch_size=batch_size,
        learning_rate=LEARNING_RATE,
    )

    def learnt(from_episodes: Sequence[EpisodeArrays]) -> Any:
        state, _ = seed_steps(
            config, recipe, from_episodes, num_steps=num_steps, seed=seed
        )
        return jax.tree.map(np.asarray, state.average)

    params, alone = learnt(copied), learnt(taught)
    master = _actions(teacher.params, seen, held_out)
    own = _actions(params, config, held_out)
    before = _error(_actions(fresh, config, held_out), held_out)
    after = _error(own, held_out)
    metadata = {
        "distilled_from": teacher.sha256,
        "origin": origin_of(episodes),
        "data_digest": digest_of(taught),
        "preset": student,
        "steps": num_steps,
        "seed": seed,
    }
    sha256 = save_checkpoint(output, config, params, metadata=metadata)
    return DistilReport(
        checkpoint=output,
        sha256=sha256,
        preset=student,
        parameters=_count(params),
        parameters_teacher=large,
        steps=num_steps,
        error_before=before,
        error_after=after,
        error_teacher=_error(master, held_out),
        error_alone=_error(_actions(alone, config, held_out), held_out),
        gap_to_teacher=_mean_difference(own, master, held_out),
        teacher_sha256=teacher.sha256,
        held_out_episodes=tuple(e.episode_id for e in held_out),
        origin=origin_of(episodes),
        data_digest=digest_of(tuple(episodes)),
        seed=seed,
        # NaN compares as false, and so is no pass.
        passed=after < before,
    )


def _count(params: Any) -> int:
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(params))


def _actions(
    params: Any, config: Any, episodes: Sequence[EpisodeArrays]
) -> list[np.ndarray[Any, Any]]:
    return [told.action for told in predict(params, config, episodes)]


def _error(
    actions: Sequence[np.ndarray[Any, Any]], episodes: Sequence[EpisodeArrays]
) -> float:
    return _mean_difference(actions, [e.action for e in episodes], episodes)


def _mean_difference(
    left: Sequence[np.ndarray[Any, Any]],
    right: Sequence[np.ndarray[Any, Any]],
    episodes: Sequence[EpisodeArrays],
) -> float:
    pairs = zip(left, right, episodes, strict=True)
    apart = [np.abs(a - b)[e.valid] for a, b, e in pairs]
    return float(np.concatenate(apart).mean(dtype=np.float64))
