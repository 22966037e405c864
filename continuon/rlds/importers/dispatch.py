"""Import a foreign recording: find its format, write its episodes, judge them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path

from continuon.errors import ContractError, DataError
from continuon.rlds.episode import RGB
from continuon.rlds.importers.harvest import Harvest, Importer, ImportOptions
from continuon.rlds.importers.locate import Format, locate
from continuon.rlds.importers.report import ImportReport, judge_import
from continuon.rlds.importers.write import (
    ImportedEpisode,
    ImportedPlan,
    write_episode,
    write_plan_episode,
)

__all__ = ["import_recording"]

_HOMES = {
    Format.TUB: "tub:import_tub",
    Format.TFDS: "tfds:import_tfds",
    Format.TUM: "rgbd:import_tum",
    Format.RGBD: "rgbd:import_rgbd",
    Format.ROSBAG1: "bag:import_bag",
    Format.ROSBAG2: "bag:import_bag",
    Format.MCAP: "bag:import_mcap",
    Format.PLAN: "plan:import_plan",
    Format.LEROBOT: "lerobot:import_lerobot",
}
"""Where each format is read; its packages are imported only then."""
_NOT_THE_SOURCES_FAULT = frozenset({"E-RLDS-IMPORT-006", "E-RLDS-IMPORT-007"})


def import_recording(
    source: Path,
    output_dir: Path,
    *,
    episode_steps: int = 50,
    options: ImportOptions | None = None,
    progress: Callable[[int, str], None] | None = None,
) -> ImportReport:
    """Import a foreign recording as episodes, its format told by content.

    Running it again adds nothing: an episode that is there already is kept.

    Args:
        source: a file or folder; see `Format` for what is known.
        output_dir: where the episodes go.
        episode_steps: longest episode of a tub; in `options` with all the others.
        options: what the source does not say of itself.
        progress: told the number and name of each episode that was written.

    Raises:
        DataError: no recording that can be read, not one usable step in it, or a full
            disk.
        UsageError: an option that means nothing.
        MissingPackageError: the format's extra is not installed.
    """
    options = options or ImportOptions(episode_steps=episode_steps)
    source, output_dir = Path(source), Path(output_dir)
    harvest = Harvest()
    paths: list[Path] = []
    steps = 0
    with locate(source, harvest) as (kind, found):
        for episode in _importer(kind)(found, harvest, options):
            output_dir.mkdir(parents=True, exist_ok=True)
            written = _written(episode, output_dir, harvest)
            if written is None:
                continue
            path, counts = written
            paths.append(path)
            steps += counts.get(RGB, max(counts.values(), default=0))
            if progress is not None:
                progress(len(paths), episode.metadata.episode_id)
    verdict = judge_import(paths)
    silent = verdict.strict_errors.get("E-EPISODE-STREAM-003", 0)
    if silent:
        text = f"{silent} of {len(paths)} episodes hold no action"
        harvest.note(f"nothing to learn from: {text}")
    losses = harvest.named()
    if not paths:
        said = [f"{loss.count} {loss.text}" for loss in losses] + harvest.notes
        raise DataError(
            "E-RLDS-IMPORT-008",
            f"not one step of this {kind} recording can be used",
            where=source,
            seen="; ".join(said) or "nothing in it",
        )
    return ImportReport(
        source=source,
        format=kind.value,
        episodes=tuple(paths),
        steps=steps,
        losses=losses,
        notes=tuple(harvest.notes),
        verdict=verdict,
    )


def _written(
    episode: ImportedEpisode | ImportedPlan, output_dir: Path, harvest: Harvest
) -> tuple[Path, Mapping[str, int]] | None:
    """Write one episode, up to where its film breaks off; returns it and its counts.

    None, and a named loss, where nothing of it can be written.

    Raises:
        DataError: a full disk, or another episode of its name.
    """
    try:
        if isinstance(episode, ImportedPlan):
            return write_plan_episode(episode, output_dir), episode.counts
        return write_episode(episode, output_dir), episode.counts
    except (ContractError, DataError) as error:
        if error.code in _NOT_THE_SOURCES_FAULT:
            raise
        what = f"{episode.metadata.episode_id} ({error.what})"
        shorter = episode.shorter() if isinstance(episode, ImportedEpisode) else None
        if isinstance(episode, ImportedEpisode) and shorter is not None:
            lost = episode.samples - shorter.samples
            if lost > 0:
                harvest.lose("E-RLDS-LOSS-018", what, lost)
                return _written(shorter, output_dir, harvest)
        harvest.lose("E-RLDS-LOSS-017", what)
        return None


def _importer(kind: Format) -> Importer:
    module, _, name = _HOMES[kind].partition(":")
    found: Importer = getattr(
        importlib.import_module(f"continuon.rlds.importers.{module}"), name
    )
    return found
