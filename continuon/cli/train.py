"""`continuon train`, `evaluate` and `train launch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from continuon.cli.options import check_at_least_one
from continuon.cli.render import Result
from continuon.environment import read_environment
from continuon.home import Home

if TYPE_CHECKING:
    from continuon.learn import EvaluationReport

__all__ = ["evaluate", "launch", "train"]


def train(
    *,
    data_path: str | None = None,
    output_dir: str | None = None,
    trainer: Literal["jax"] = "jax",
    mode: Literal["local", "tpu"] = "local",
    fsdp: int = 1,
    products: Literal["float32", "BF16_BF16_F32"] = "float32",
    tensorboard: bool = False,
    config_preset: str = "nano",
    state: tuple[str, ...] = (),
    depth: tuple[int, int] = (0, 0),
    instruction_size: int = 0,
    num_steps: int = 700,
    peers: tuple[Literal["gru", "act"], ...] = (),
    loader: Literal["memory", "grain"] = "memory",
    seed: int = 0,
) -> Result:
    """Train a policy; a killed run goes on where it was.

    Parameters
    ----------
    data_path
        Recordings or a TFDS folder, also gs://; default rlds/tfrecord below the home.
    output_dir
        Where the checkpoint goes, also gs://; default trainer/checkpoints/slow.
    trainer
        The Slow loop is JAX.
    mode
        `tpu` uses every device of every host that the environment names.
    fsdp
        In mode `tpu`, devices that share one copy of the parameters.
    products
        Precision of matrix products; the second rounds their factors to bfloat16.
    tensorboard
        Write event files to tensorboard/ below the output.
    config_preset
        HOPE preset.
    state
        Names of the state to feed. Without them a car's speed, and all state of any
        other robot, which is refused where it repeats the command of the same tick.
    depth
        Height and width of the depth picture that the policy senses; 0 0 for none.
        Every episode must hold depth, and a robot without a depth camera refuses the
        policy.
    instruction_size
        Numbers of the hashed instruction that the policy is told; 0 for none. Every
        episode must hold one; on the robot `continuon robot instruct` tells it.
    num_steps
        Updates.
    peers
        Networks of the policy's size to train as it was and to score beside it: `gru`,
        and `act`, which attends to the last ticks. Each takes about as long again.
    loader
        Where decoded pictures are kept and who makes batches: `grain` keeps them on the
        disk of TMPDIR, for more steps than memory holds, and its threads work ahead.
        The policy is the same to the last bit.
    seed
        Of parameters and batches.
    """
    from continuon.cli.progress import Counter

    check_at_least_one(num_steps=num_steps, fsdp=fsdp)
    read_environment().require_jax()
    from continuon.learn import train as run_training
    from continuon.learn.recipe import Recipe
    from continuon.learn.senses import Senses

    del trainer
    home = Home.from_environment()
    with Counter("training") as counter:
        report = run_training(
            data_path or home.tfrecord,
            output_dir or home.checkpoints / "slow",
            config_preset=config_preset,
            proprio=state or None,
            senses=Senses(*depth, instruction_size),
            num_steps=num_steps,
            mode=mode,
            fsdp=fsdp,
            recipe=Recipe(products=products),
            tensorboard=tensorboard,
            peers=peers,
            loader=loader,
            seed=seed,
            on_progress=lambda done, total, loss: counter(
                done, total, f"loss {loss:.4f}"
            ),
        )
    made = report.checkpoint if report.url is None else f"{report.url}/policy.hope"
    lines = [f"checkpoint {made}", *_kept(report.line), *_scored(report.evaluation)]
    return Result(data=report.as_dict(), text="\n".join(lines))


def _kept(line: dict[str, Any] | None) -> list[str]:
    """Return what was kept of a training that started on a line, if it did."""
    if line is None:
        return []
    judges = f"{line['judges']} judging episodes"
    if line["share"] == 0:
        return [f"a straight line is kept: no more was borne out by {judges}"]
    return [f"kept {line['share']:.0%} of what was learnt beyond a line, by {judges}"]


def evaluate(
    checkpoint: Path | None = None,
    *,
    rlds_dir: Path | None = None,
    peers: tuple[Literal["gru", "act"], ...] = (),
    holdout: float = 0.2,
) -> Result:
    """Score a checkpoint on held-out episodes, beside the mean, ridge and peers.

    Parameters
    ----------
    checkpoint
        A .hope file; default trainer/checkpoints/slow/policy.hope below the home.
    rlds_dir
        Recordings or a TFDS folder; default rlds/tfrecord below the home. The last ones
        in time are scored; baselines are fitted on the others.
    peers
        Networks of the policy's size to train on the others, by the recipe and the
        updates that the checkpoint names, and to score beside it: `gru`, `act`.
    holdout
        Share of the episodes that is scored.
    """
    read_environment().require_jax()
    from continuon.hope import load_checkpoint
    from continuon.learn.data import digest_of, load_arrays, split_by_time
    from continuon.learn.evaluate import evaluate_params
    from continuon.learn.peer_fit import plan_of
    from continuon.learn.senses import Senses

    home = Home.from_environment()
    loaded = load_checkpoint(checkpoint or home.checkpoints / "slow" / "policy.hope")
    config, facts = loaded.config, loaded.metadata
    episodes = load_arrays(
        rlds_dir or home.tfrecord,
        image_height=config.image_height or 1,
        image_width=config.image_width or 1,
        proprio=config.proprio,
        senses=Senses.of(config),
    )
    training, held_out = split_by_time(episodes, holdout)
    report = evaluate_params(
        loaded.params,
        config,
        held_out,
        training=training,
        checkpoint_sha256=loaded.sha256,
        peers=plan_of(facts, peers) if peers else None,
    )
    same = facts.get("data_digest") == digest_of(training)
    lines = [*_scored(report)]
    if not same:
        lines.append(
            "not what the checkpoint was trained on: baselines are fitted on "
            f"{len(training)} episodes that it has not seen, or has seen otherwise"
        )
    data = report.as_dict() | {"trained_on_the_others": same}
    return Result(data=data, text="\n".join(lines))


def _scored(report: EvaluationReport) -> list[str]:
    """Return a line for each component of the action."""
    lines = []
    for name, error in report.mae.items():
        others = {"ridge": report.ridge_mae, "mean": report.mean_mae}
        others |= {"line": report.line_mae}
        others |= {peer: score.mae for peer, score in report.peers.items()}
        told = [f"{other} {mae[name]:.4f}" for other, mae in others.items() if mae]
        lines.append(f"held-out {name}: error {error:.4f}, {', '.join(told)}")
    return lines


def launch(
    *,
    name: str,
    data_path: str,
    output_dir: str,
    accelerator: str = "v5litepod-16",
    topology: str = "4x4",
    hosts: int = 4,
    config_preset: str = "tpu",
    num_steps: int = 20_000,
    seed: int = 0,
    spot: bool = False,
) -> Result:
    """Print what a cloud needs to run the Slow loop; nothing is started.

    Parameters
    ----------
    name
        Of the run.
    data_path
        A bucket with episodes.
    output_dir
        A bucket for the checkpoint.
    accelerator
        As the cloud names it.
    topology
        Of its chips.
    hosts
        Machines of the slice.
    config_preset
        HOPE preset.
    num_steps
        Updates.
    seed
        Of parameters and batches.
    spot
        Machines that the cloud may take back.
    """
    from continuon.learn.launch import LaunchPlan, job_set, queued_resource

    plan = LaunchPlan(
        name=name,
        data_path=data_path,
        output_dir=output_dir,
        accelerator=accelerator,
        topology=topology,
        hosts=hosts,
        config_preset=config_preset,
        num_steps=num_steps,
        seed=seed,
        spot=spot,
    )
    specs = {"queued_resource": queued_resource(plan), "job_set": job_set(plan)}
    return Result(data=specs)
