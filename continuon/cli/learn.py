"""`continuon sanity`, `prove`, `train`, `compile` and `infer`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from continuon.cli.options import check_at_least_one
from continuon.cli.render import Result
from continuon.environment import read_environment
from continuon.errors import UsageError
from continuon.home import Home

__all__ = ["compile_", "infer", "launch", "prove", "sanity", "train"]


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
        the proprioceptive ones; refused if the data has another.
    action_dim
        Expected number of action components; refused if the data has another.
    minimum_episodes
        Fewer are refused.
    seed
        Of parameters and batches.
    """
    check_at_least_one(max_steps=max_steps, batch_size=batch_size)
    read_environment().require_jax()
    from continuon.learn import run_sanity

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
        minimum_episodes=minimum_episodes,
        seed=seed,
    )
    verdict = "passed" if report.passed else "missed: " + "; ".join(report.reasons)
    text = (
        f"{verdict}\nloss {report.loss_before} -> {report.loss_after} in "
        f"{report.steps} steps on {report.episodes} episodes ({report.origin})"
    )
    return Result(data=report.as_dict(), text=text, exit_code=0 if report.passed else 3)


def prove(
    *,
    rlds_dir: Path | None = None,
    output: Path = Path("proof_of_learning.json"),
    num_steps: int = 150,
    seeds: int = 5,
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
    minimum_episodes
        Fewer are refused.
    """
    check_at_least_one(num_steps=num_steps)
    read_environment().require_jax()
    from continuon.learn import run_proof

    report = run_proof(
        rlds_dir or Home.from_environment().episodes,
        output=output,
        seeds=tuple(range(seeds)),
        num_steps=num_steps,
        minimum_episodes=minimum_episodes,
    )
    lines = [
        report.verdict,
        f"over the frozen control    {report.improvement_over_frozen}",
        f"over the shuffled control  {report.improvement_over_shuffled}",
        *report.reasons,
    ]
    return Result(
        data=report.as_dict(),
        text="\n".join(lines),
        exit_code=0 if report.passed else 3,
    )


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
    num_steps: int = 700,
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
    num_steps
        Updates.
    seed
        Of parameters and batches.
    """
    from continuon.cli.progress import Counter

    check_at_least_one(num_steps=num_steps, fsdp=fsdp)
    read_environment().require_jax()
    from continuon.learn import train as run_training
    from continuon.learn.recipe import Recipe

    del trainer
    home = Home.from_environment()
    with Counter("training") as counter:
        report = run_training(
            data_path or home.tfrecord,
            output_dir or home.checkpoints / "slow",
            config_preset=config_preset,
            num_steps=num_steps,
            mode=mode,
            fsdp=fsdp,
            recipe=Recipe(products=products),
            tensorboard=tensorboard,
            seed=seed,
            on_progress=lambda done, total, loss: counter(
                done, total, f"loss {loss:.4f}"
            ),
        )
    score = report.evaluation
    made = report.checkpoint if report.url is None else f"{report.url}/policy.hope"
    lines = [f"checkpoint {made}"]
    lines += [
        f"held-out {name}: error {error:.4f}, ridge {(score.ridge_mae or {})[name]:.4f}"
        for name, error in score.mae.items()
    ]
    return Result(data=report.as_dict(), text="\n".join(lines))


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


def compile_(
    checkpoint: Path | None = None,
    *,
    output_dir: Path | None = None,
    control_rate_hz: float = 30.0,
    variants: tuple[Literal["int8", "fp16", "onnx", "none"], ...] | None = None,
) -> Result:
    """Compile a checkpoint for the edge and check each artifact against JAX.

    Parameters
    ----------
    checkpoint
        A .hope file; default trainer/checkpoints/slow/policy.hope below the home.
    output_dir
        Where the artifacts go; default `artifacts` beside the checkpoint's folder.
    control_rate_hz
        Rate of the policy's steps.
    variants
        Make these beside LiteRT, numpy and StableHLO; each is measured and gated like
        the others. Default: onnx and int8 where their packages are installed. `none`
        makes no more.
    """
    from continuon.export import compile_checkpoint

    source = checkpoint or Home.from_environment().checkpoints / "slow" / "policy.hope"
    target = output_dir or source.parent.parent / "artifacts"
    wanted = None if variants is None else [v for v in variants if v != "none"]
    report = compile_checkpoint(
        source, target, control_rate_hz=control_rate_hz, variants=wanted
    )
    lines = [
        f"{info.path.name:<20} {info.bytes:>10,} bytes  error {info.max_abs_error}"
        for info in report.artifacts
    ]
    lines += [f"{name}: {why}" for name, why in report.missing.items()]
    return Result(
        data=report, text="\n".join(lines), exit_code=0 if report.parity_ok else 3
    )


def infer(
    *,
    model_path: Path,
    obs_dim: int | None = None,
    action_dim: int | None = None,
    backend: Literal["litert", "litert-fp16", "litert-int8", "onnxruntime", "numpy"]
    | None = None,
    ticks: int = 200,
) -> Result:
    """Run a compiled policy's golden ticks and time it; 3 if it answers otherwise.

    Parameters
    ----------
    model_path
        What `continuon compile` wrote, a bundle, or one artifact in it.
    obs_dim
        Expected numbers that the policy sees at a tick: image height x width x 3 and
        the proprioceptive ones.
    action_dim
        Expected number of action components.
    backend
        The runtime; by default a named artifact's own, else the first in the maker's
        order that is installed and meets the golden ticks; the others are named.
    ticks
        Steps to time.
    """
    from continuon.edge import infer as run_inference

    folder = model_path if model_path.is_dir() else model_path.parent
    if not folder.is_dir():
        raise UsageError(
            "E-EDGE-INFER-001", "there is no compiled policy here", where=model_path
        )
    report = run_inference(
        model_path,
        backend=backend,
        order=_makers_order(folder),
        obs_dim=obs_dim,
        action_dim=action_dim,
        ticks=ticks,
    )
    golden, latency = report.golden, report.latency
    lines = [f"not used: {why}" for why in report.passed_over]
    lines += [
        (
            f"{report.name} on {report.backend}: golden ticks "
            f"{'met' if golden.ok else 'MISSED'}, error {golden.max_abs_error:.2e} "
            f"of {golden.tolerance:g} allowed"
        ),
        "one step: "
        + ", ".join(
            f"{name} {latency[key]:.3f} ms"
            for name, key in (
                ("p50", "p50_ms"),
                ("p99", "p99_ms"),
                ("p99.9", "p999_ms"),
            )
        )
        + f" over {latency['ticks']:.0f} ticks",
    ]
    return Result(data=report, text="\n".join(lines), exit_code=0 if golden.ok else 3)


def _makers_order(folder: Path) -> list[str] | None:
    """Return a bundle's order of backends; None where the policy is no bundle's."""
    from continuon.bundle.manifest_codec import parse_manifest

    path = folder / "edge_manifest.json"
    if not path.exists():
        return None
    manifest = parse_manifest(path.read_bytes(), where=str(path))
    return [backend.name for backend in manifest.backends]
