"""Phase 7, the Slow loop: episodes in, a trained checkpoint out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from continuon.clock import Clock, SystemClock
from continuon.errors import UsageError
from continuon.learn.data import EpisodeArrays
from continuon.learn.recipe import Recipe
from continuon.learn.remote import download, is_url
from continuon.learn.senses import NO_SENSES, Senses
from continuon.learn.share import load_share, whole_share
from continuon.learn.slow_run import Progress, SlowRun, run_slow
from continuon.learn.train_report import TrainReport

__all__ = ["DEFAULT_STEPS", "TrainReport", "train", "train_arrays"]

DEFAULT_STEPS = 700


def train(
    data_path: Path | str,
    output_dir: Path | str,
    *,
    config_preset: str = "nano",
    num_steps: int = DEFAULT_STEPS,
    mode: str = "local",
    fsdp: int = 1,
    seed: int = 0,
    recipe: Recipe | None = None,
    proprio: tuple[str, ...] | None = None,
    senses: Senses = NO_SENSES,
    holdout: float = 0.2,
    minimum_episodes: int = 16,
    checkpoint_every: int = 100,
    resume: bool = True,
    tensorboard: bool = False,
    peers: tuple[str, ...] = (),
    loader: str = "memory",
    on_progress: Progress | None = None,
    clock: Clock | None = None,
) -> TrainReport:
    """Train on recordings; the last ones in time are held out and scored.

    Args:
        data_path: recordings, or a TFDS directory; a URL is fetched first.
        output_dir: gets `policy.hope`, `seed.hope`, `loss.csv`, `loss.json`,
            `metrics.jsonl`, `evaluation.json`; a URL gets the training state at every
            save, the rest at the end. Of many hosts the first one writes.
        config_preset: a HOPE preset.
        num_steps: updates.
        mode: "local", or "tpu" for every device of every host that the environment
            names (`jax.distributed`); each host decodes its own share of the episodes
            and gives its own windows of each batch.
        fsdp: in mode "tpu", devices that share one copy of the parameters.
        seed: of parameters and batches; equal inputs, seed and number of hosts give
            equal bytes.
        recipe: how to train; None is the measured default.
        proprio: state names to feed; None takes a car's speed where it was recorded,
            and of any other robot all its state; see `felt_names`.
        senses: depth and instruction, where they are wanted; then every episode must
            hold them.
        holdout: share of the episodes to hold out.
        minimum_episodes: fewer are refused.
        checkpoint_every: updates between saved states, from which a killed run goes on.
        resume: whether to go on from such a state.
        tensorboard: whether to write event files to `tensorboard/`.
        peers: networks of the policy's size (`gru`, `act`) to train as it was and to
            score beside it; each takes about as long again.
        loader: "memory" keeps the small pictures there; "grain" keeps them on the disk
            (of TMPDIR), and its threads make this host's windows ahead of the updates.
            Both give the same bytes, and one may go on with what the other began.
        on_progress: called with (update, num_steps, loss).
        clock: for `seconds`.

    Raises:
        UsageError: no such preset, mode, loader or peer; devices, batch or hosts that
            do not divide.
        DataError: no, too few or undecodable episodes; a loss that is not finite.
        MissingPackageError: a URL, and no package to read it; "grain" without grain.
    """
    if loader not in ("memory", "grain"):
        raise UsageError(
            "E-LEARN-LOADER-001",
            "there is no such loader",
            seen=loader,
            allowed="memory, grain",
        )
    if mode not in ("local", "tpu"):
        raise UsageError(
            "E-LEARN-MODE-001",
            "there is no such mode of training",
            seen=mode,
            allowed="local, tpu",
        )
    host, hosts = (0, 1)
    if mode == "tpu":
        import jax

        from continuon.learn.mesh import join_cluster

        join_cluster()
        host, hosts = jax.process_index(), jax.process_count()
    if peers:
        from continuon.learn.peers import check_peers

        check_peers(peers, hosts=hosts)
    recipe = recipe or Recipe()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        source = (
            download(str(data_path), scratch) if is_url(data_path) else Path(data_path)
        )
        remote = is_url(output_dir)
        run = SlowRun(
            output=str(output_dir).rstrip("/"),
            folder=scratch / "output" if remote or host else Path(output_dir),
            config_preset=config_preset,
            num_steps=num_steps,
            mode=mode,
            fsdp=fsdp,
            seed=seed,
            recipe=recipe,
            checkpoint_every=checkpoint_every,
            resume=resume,
            tensorboard=tensorboard,
            peers=peers,
            loader=loader,
            on_progress=on_progress,
            clock=clock or SystemClock(),
            overrides=dict(senses.as_fields),
        )
        share = load_share(
            source,
            host=host,
            hosts=hosts,
            holdout=holdout,
            minimum_episodes=minimum_episodes,
            image_height=recipe.image_height,
            image_width=recipe.image_width,
            proprio=proprio,
            senses=senses,
            scratch=scratch if loader == "grain" else None,
        )
        return run_slow(share, run)


def train_arrays(
    arrays: tuple[EpisodeArrays, ...],
    output_dir: Path,
    *,
    config_preset: str,
    num_steps: int,
    mode: str = "local",
    fsdp: int = 1,
    seed: int = 0,
    recipe: Recipe,
    holdout: float = 0.2,
    checkpoint_every: int = 100,
    resume: bool = True,
    tensorboard: bool = False,
    peers: tuple[str, ...] = (),
    on_progress: Progress | None = None,
    clock: Clock | None = None,
    overrides: dict[str, Any] | None = None,
) -> TrainReport:
    """Train on episodes that are already in memory, on one host; see `train`."""
    run = SlowRun(
        output=str(output_dir),
        folder=output_dir,
        config_preset=config_preset,
        num_steps=num_steps,
        mode=mode,
        fsdp=fsdp,
        seed=seed,
        recipe=recipe,
        checkpoint_every=checkpoint_every,
        resume=resume,
        tensorboard=tensorboard,
        peers=peers,
        on_progress=on_progress,
        clock=clock or SystemClock(),
        overrides=overrides or {},
    )
    return run_slow(whole_share(arrays, holdout), run)
