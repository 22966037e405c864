"""`continuon memory merge`, `train codebook` and `train distil`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import attrs

from continuon.cli.options import check_at_least_one
from continuon.cli.render import Result
from continuon.environment import read_environment
from continuon.errors import UsageError
from continuon.home import Home

__all__ = ["codebook", "distil", "merge"]


def merge(
    planes: tuple[Path, ...],
    *,
    checkpoint: Path | None = None,
    rlds_dir: Path | None = None,
    store: Path | None = None,
    strategy: Literal["keep", "average", "distil"] = "average",
    max_rise: float = 0.0,
    holdout: float = 0.25,
    seed: int = 0,
) -> Result:
    """Merge other robots' Memory Planes into this one's; 3 if it got worse and was not.

    The newest episodes judge it, the older ones are replayed by `distil`; those that a
    policy drove are left out.

    Parameters
    ----------
    planes
        Of the other robots, *.plane files.
    checkpoint
        The network that wrote them all; default the active bundle's weights, without a
        bundle trainer/checkpoints/slow/policy.hope.
    rlds_dir
        Recordings that no plane has learnt from; default rlds/episodes below the home.
    store
        Versions of this robot's plane; default memory/plane below the home.
    strategy
        Keep the one of most ticks, average, or distil on replayed episodes.
    max_rise
        Of the held-out error that is still taken.
    holdout
        Share of the episodes that judge.
    seed
        Of `distil`.
    """
    if not planes:
        raise UsageError(
            "E-CLI-MEMORY-001",
            "no Memory Plane was named to merge",
            allowed="one *.plane file or more",
        )
    read_environment().require_jax()
    from continuon.hope import load_checkpoint, load_plane
    from continuon.learn.data import load_arrays, split_by_time
    from continuon.learn.mid_episodes import taught_places
    from continuon.learn.plane_merge import merge_judged
    from continuon.learn.senses import Senses
    from continuon.pipeline.adapters import base_weights

    home = Home.from_environment()
    source = checkpoint or base_weights(home)
    base = load_checkpoint(source or home.checkpoints / "slow" / "policy.hope")
    recordings = rlds_dir or home.episodes
    episodes = load_arrays(
        recordings,
        only=taught_places(recordings),
        image_height=base.config.image_height,
        image_width=base.config.image_width,
        proprio=base.config.proprio,
        senses=Senses.of(base.config),
    )
    replay, held_out = split_by_time(episodes, holdout)
    report = merge_judged(
        [load_plane(path) for path in planes],
        store or home.memory,
        params=base.params,
        config=base.config,
        held_out=held_out,
        strategy=strategy,
        replay=replay,
        max_rise=max_rise,
        seed=seed,
    )
    text = (
        f"{'merged' if report.kept else 'not merged'} by {report.strategy}: held-out "
        f"error {report.error_before:.4f} -> {report.error_after:.4f}; version "
        f"{report.version} is the newest"
    )
    return Result(
        data=attrs.asdict(report), text=text, exit_code=0 if report.kept else 3
    )


def codebook(
    *,
    rlds_dir: Path | None = None,
    output: Path | None = None,
    codes: int = 64,
    image_height: int = 32,
    image_width: int = 40,
    num_steps: int = 400,
    seed: int = 0,
) -> Result:
    """Train a codebook of pictures (VQ-VAE); 3 if it is no better than their mean.

    Parameters
    ----------
    rlds_dir
        Recordings or a TFDS folder; default rlds/episodes below the home.
    output
        Where it goes; default trainer/checkpoints/codebook.vq below the home.
    codes
        Entries.
    image_height
        Of the small pictures, pixels; a code covers 4 x 4.
    image_width
        Of the small pictures, pixels.
    num_steps
        Updates.
    seed
        Of parameters and batches.
    """
    check_at_least_one(num_steps=num_steps, codes=codes)
    read_environment().require_jax()
    from continuon.hope.codebook import CodebookConfig
    from continuon.learn.codebook import train_codebook
    from continuon.learn.data import load_arrays

    home = Home.from_environment()
    config = CodebookConfig(
        image_height=image_height, image_width=image_width, codes=codes
    )
    episodes = load_arrays(
        rlds_dir or home.episodes,
        image_height=config.image_height,
        image_width=config.image_width,
    )
    report = train_codebook(
        episodes,
        output or home.checkpoints / "codebook.vq",
        config=config,
        num_steps=num_steps,
        seed=seed,
    )
    better = report.error < report.error_of_mean
    text = (
        f"codebook {report.id[:16]}: {report.path} ({report.origin})\n"
        f"held-out error {report.error:.5f}, of the mean {report.error_of_mean:.5f}; "
        f"{report.codes_used} of {report.codes} codes used, "
        f"perplexity {report.perplexity:.1f}"
    )
    data = attrs.asdict(report) | {"path": str(report.path)}
    return Result(data=data, text=text, exit_code=0 if better else 3)


def distil(
    teacher: Path | None = None,
    *,
    rlds_dir: Path | None = None,
    output: Path | None = None,
    student: str = "nano",
    num_steps: int = 400,
    batch_size: int = 8,
    holdout: float = 0.25,
    seed: int = 0,
) -> Result:
    """Distil a large policy into a small preset; 3 if the student learnt nothing.

    Parameters
    ----------
    teacher
        A .hope file; default trainer/checkpoints/slow/policy.hope below the home.
    rlds_dir
        Recordings or a TFDS folder; default rlds/tfrecord below the home.
    output
        The student's .hope file; default trainer/checkpoints/student/policy.hope.
    student
        HOPE preset.
    num_steps
        Updates, of the student and of a control that has no teacher.
    batch_size
        Windows an update.
    holdout
        Share of the episodes that judge, the newest.
    seed
        Of parameters and batches.
    """
    check_at_least_one(num_steps=num_steps, batch_size=batch_size)
    read_environment().require_jax()
    from continuon.hope import load_checkpoint
    from continuon.learn.data import load_arrays
    from continuon.learn.distil import distil as run_distil
    from continuon.learn.senses import Senses

    home = Home.from_environment()
    base = load_checkpoint(teacher or home.checkpoints / "slow" / "policy.hope")
    report = run_distil(
        base,
        load_arrays(
            rlds_dir or home.tfrecord,
            image_height=base.config.image_height,
            image_width=base.config.image_width,
            proprio=base.config.proprio,
            senses=Senses.of(base.config),
        ),
        output or home.checkpoints / "student" / "policy.hope",
        student=student,
        num_steps=num_steps,
        batch_size=batch_size,
        holdout=holdout,
        seed=seed,
    )
    text = (
        f"{report.checkpoint}: {report.parameters:,} parameters of the teacher's "
        f"{report.parameters_teacher:,} ({report.origin})\n"
        f"held-out error {report.error_before:.4f} -> {report.error_after:.4f}; "
        f"teacher {report.error_teacher:.4f}, same size without a teacher "
        f"{report.error_alone:.4f}"
    )
    return Result(data=report.as_dict(), text=text, exit_code=0 if report.passed else 3)
