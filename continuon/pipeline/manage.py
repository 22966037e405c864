"""The training manager: what is there, what is missing, and the exact next commands."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from continuon.errors import DataError
from continuon.home import Home
from continuon.pipeline.phase import MINIMUM_EPISODES

__all__ = ["Inventory", "Step", "take_inventory"]


@attrs.frozen(kw_only=True)
class Step:
    """One step of the plan: whether it is done, and the command that does it."""

    name: str
    done: bool
    reason: str
    command: str


@attrs.frozen(kw_only=True)
class Inventory:
    """What lies below a home, counted and not judged."""

    episodes: int
    unfinished: int
    tfrecord_episodes: int
    checkpoints: int
    exported: int
    bundles: int
    steps: tuple[Step, ...]

    @property
    def next_commands(self) -> tuple[str, ...]:
        """The commands of the steps that are not done, in order."""
        return tuple(step.command for step in self.steps if not step.done)


def take_inventory(
    home: Home, *, episodes_dir: Path | None = None, tfrecord_dir: Path | None = None
) -> Inventory:
    """Count what is there and name what is missing; writes nothing."""
    episodes = episodes_dir or home.episodes
    tfrecord = tfrecord_dir or home.tfrecord
    recorded = len(list(episodes.glob("*.mcap")))
    unfinished = len(list(episodes.glob("*.mcap.part")))
    converted = _tfrecord_episodes(tfrecord)
    checkpoints = len(list(home.checkpoints.rglob("*.hope")))
    exported = len(list(home.export.rglob("manifest.json")))
    bundles = len(list(home.root.rglob("edge_manifest.json")))
    steps = (
        Step(
            name="recover",
            done=unfinished == 0,
            reason=f"{unfinished} unfinished recordings",
            command=f"continuon episodes recover {episodes}",
        ),
        Step(
            name="record",
            done=recorded >= MINIMUM_EPISODES,
            reason=f"{recorded} of {MINIMUM_EPISODES} episodes",
            command=(
                f"continuon record --output-dir {episodes} "
                f"--count {max(MINIMUM_EPISODES - recorded, 0)}"
            ),
        ),
        Step(
            name="convert",
            done=0 < recorded <= converted,
            reason=f"{converted} of {recorded} episodes are in TFRecord",
            command=(
                f"continuon convert --input-dir {episodes} --output-dir {tfrecord}"
            ),
        ),
        Step(
            name="train",
            done=checkpoints > 0,
            reason=f"{checkpoints} checkpoints",
            command=(
                f"continuon train --trainer jax --mode local --data-path {tfrecord} "
                f"--output-dir {home.checkpoints}"
            ),
        ),
        Step(
            name="export",
            done=exported > 0,
            reason=f"{exported} anonymised exports",
            command=(
                f"continuon export --episodes-dir {episodes} --output-dir {home.export}"
            ),
        ),
        Step(
            name="bundle",
            done=bundles > 0,
            reason=f"{bundles} bundles",
            command="continuon pipeline run --only bundle",
        ),
    )
    return Inventory(
        episodes=recorded,
        unfinished=unfinished,
        tfrecord_episodes=converted,
        checkpoints=checkpoints,
        exported=exported,
        bundles=bundles,
        steps=steps,
    )


def _tfrecord_episodes(folder: Path) -> int:
    total = 0
    for path in sorted(folder.rglob("dataset_info.json")):
        try:
            splits = json.loads(path.read_text("utf-8"))["splits"]
            total += sum(int(n) for split in splits for n in split["shardLengths"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                "E-PIPE-MANAGE-001",
                "this dataset_info.json is damaged",
                where=path,
                seen=f"{type(error).__name__} {error}",
                hint="remove its folder and convert again",
            ) from error
    return total
