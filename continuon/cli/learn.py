"""`continuon sanity` and `continuon prove`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from continuon.cli.options import check_at_least_one
from continuon.cli.render import Result
from continuon.environment import read_environment
from continuon.home import Home

if TYPE_CHECKING:
    from continuon.learn.controls import Interval

__all__ = ["loss", "margin", "prove", "sanity"]


def sanity(
    *,
    rlds_dir: Path | None = None,
    arch_preset: str = "pi5",
    max_steps: int = 8,
    batch_size: int = 4,
    learning_rate: float = 3e-4,
    metrics_path: Path | None = None,
    checkpoint_dir: Path | None = None,
    sparsity_lambda: float = 0.0,
    obs_dim: int | None = None,
    action_dim: int | None = None,
    state: tuple[str, ...] = (),
    depth: tuple[int, int] = (0, 0),
    instruction_size: int = 0,
    minimum_episodes: int = 16,
    seed: int = 0,
) -> Result:
    """Take a few JAX steps on recorded episodes; exit status 3 if a gate is missed.

    Parameters
    ----------
    rlds_dir
        Recordings or a TFDS folder; default rlds/episodes below the home.
    arch_preset
        HOPE preset.
    max_steps
        Training steps.
    batch_size
        Windows a step.
    learning_rate
        Peak learning rate.
    metrics_path
        Where the CSV goes; default trainer/logs below the home.
    checkpoint_dir
        Where the parameters go; default trainer/checkpoints/sanity below the home.
    sparsity_lambda
        Weight of the write-sparsity term of the loss.
    obs_dim
        Expected numbers that the policy sees at a tick, image height x width x 3 and
        those of every other sense; refused if the data has another.
    action_dim
        Expected number of action components; refused if the data has another.
    state
        Names of the state to feed. Without them a car's speed, and all state of any
        other robot, which is refused where it repeats the command of the same tick.
    depth
        Height and width of the depth picture that is sensed; 0 0 for none.
    instruction_size
        Numbers of the hashed instruction; 0 for none.
    minimum_episodes
        Fewer are refused.
    seed
        Of parameters and batches.
    """
    check_at_least_one(max_steps=max_steps, batch_size=batch_size)
    read_environment().require_jax()
    from continuon.learn import run_sanity
    from continuon.learn.senses import Senses

    home = Home.from_environment()
    report = run_sanity(
        rlds_dir or home.episodes,
        arch_preset=arch_preset,
        max_steps=max_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        sparsity_lambda=sparsity_lambda,
        obs_dim=obs_dim,
        action_dim=action_dim,
        metrics_path=metrics_path or home.trainer_logs / "sanity_metrics.csv",
        checkpoint_dir=checkpoint_dir or home.checkpoints / "sanity",
        proprio=state or None,
        senses=Senses(*depth, instruction_size),
        minimum_episodes=minimum_episodes,
        seed=seed,
    )
    verdict = "passed" if report.passed else "missed: " + "; ".join(report.reasons)
    text = (
        f"{verdict}\nloss {loss(report.loss_before)} -> {loss(report.loss_after)} in "
        f"{report.steps} steps on {report.episodes} episodes ({report.origin})"
    )
    return Result(data=report.as_dict(), text=text, exit_code=0 if report.passed else 3)


def prove(
    *,
    rlds_dir: Path | None = None,
    output: Path = Path("proof_of_learning.json"),
    num_steps: int = 150,
    seeds: int = 5,
    state: tuple[str, ...] = (),
    depth: tuple[int, int] = (0, 0),
    instruction_size: int = 0,
    minimum_episodes: int = 16,
) -> Result:
    """Prove learning on held-out episodes against two controls; 3 if it is not proven.

    Parameters
    ----------
    rlds_dir
        Recordings or a TFDS folder; default rlds/episodes below the home.
    output
        Where the proof goes.
    num_steps
        Training steps of each run.
    seeds
        How many seeds, at least three.
    state
        Names of the state to feed. Without them a car's speed, and all state of any
        other robot, which is refused where it repeats the command of the same tick.
    depth
        Height and width of the depth picture that is sensed; 0 0 for none.
    instruction_size
        Numbers of the hashed instruction; 0 for none.
    minimum_episodes
        Fewer are refused.
    """
    check_at_least_one(num_steps=num_steps)
    read_environment().require_jax()
    from continuon.learn import run_proof
    from continuon.learn.senses import Senses

    report = run_proof(
        rlds_dir or Home.from_environment().episodes,
        output=output,
        seeds=tuple(range(seeds)),
        num_steps=num_steps,
        proprio=state or None,
        senses=Senses(*depth, instruction_size),
        minimum_episodes=minimum_episodes,
    )
    lines = [
        report.verdict,
        f"over the frozen control    {margin(report.improvement_over_frozen)}",
        f"over the shuffled control  {margin(report.improvement_over_shuffled)}",
        *report.reasons,
    ]
    return Result(
        data=report.as_dict(),
        text="\n".join(lines),
        exit_code=0 if report.passed else 3,
    )


def loss(value: float | None) -> str:
    """Return a loss as a person reads it."""
    return "none" if value is None else f"{value:.4f}"


def margin(of: Interval) -> str:
    """Return a margin and its 95 % interval as a person reads them."""
    return f"{of.mean:.4f}, between {of.low:.4f} and {of.high:.4f}"
