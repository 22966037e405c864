"""`continuon compile` and `infer`: a checkpoint to artifacts, and one run of them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from continuon.cli.options import check_at_least_one
from continuon.cli.render import Result
from continuon.errors import UsageError
from continuon.home import Home

__all__ = ["compile_", "infer"]


def compile_(
    checkpoint: Path | None = None,
    *,
    output_dir: Path | None = None,
    control_rate_hz: float = 30.0,
    variants: tuple[Literal["int8", "fp16", "onnx", "none"], ...] | None = None,
    episodes: Path | None = None,
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
    episodes
        Recordings, or a TFDS directory: the last fifth by time judges int8 by its task.
        Default: for the home's own checkpoint, its converted episodes where there are
        any. Without them golden ticks alone judge it, and that is said.
    """
    from continuon.export import compile_checkpoint
    from continuon.hope import load_checkpoint
    from continuon.pipeline.held_out import task_episodes
    from continuon.rlds.tfds_read import find_tfds

    home = Home.from_environment()
    source = checkpoint or home.checkpoints / "slow" / "policy.hope"
    target = output_dir or source.parent.parent / "artifacts"
    wanted = None if variants is None else [v for v in variants if v != "none"]
    own = checkpoint is None and home.tfrecord.is_dir() and find_tfds(home.tfrecord)
    judged_on = episodes or (home.tfrecord if own else None)
    held_out = (
        ()
        if judged_on is None
        else task_episodes(judged_on, load_checkpoint(source).config)
    )
    report = compile_checkpoint(
        source,
        target,
        control_rate_hz=control_rate_hz,
        variants=wanted,
        held_out=held_out,
    )
    lines = [
        f"{info.path.name:<20} {info.bytes:>10,} bytes  error {info.max_abs_error}"
        for info in report.artifacts
    ]
    lines += [f"{name}: {why}" for name, why in report.missing.items()]
    lines += [
        f"{score.backend}: error {score.error:.4f} on {score.episodes} held-out "
        f"episodes, float32 {score.error_fp32:.4f}, allowed {score.allowed:.4f}"
        for score in report.task
    ]
    if not report.task and any(info.measure == "action" for info in report.artifacts):
        lines.append("int8: judged on golden ticks alone; --episodes judges its task")
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
    check_at_least_one(ticks=ticks)
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
