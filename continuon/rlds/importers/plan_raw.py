"""The plan's episodes in every shape that was ever written, as plain JSON values.

A folder with `metadata.json` and `steps/*.jsonl`; a recorder's `episode.json` with
`step_NNNN_rgb.npy` beside it; one JSON file; JSON lines, one step each; a TFRecord of
one step an Example, its observation and action as JSON. Nothing is judged here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from continuon.errors import DataError
from continuon.rlds.example import parse_example
from continuon.rlds.importers.harvest import Harvest
from continuon.rlds.importers.plain_json import parse_plain, spelt_out
from continuon.rlds.tfrecord import read_records

__all__ = ["RawEpisode", "raw_episodes"]


@attrs.frozen(eq=False, kw_only=True)
class RawEpisode:
    """An episode as it was written.

    Attributes:
        shape: which of the shapes it had, for the provenance.
        folder: below which its blobs lie; None where it has none.
        files: what it was read from.
    """

    name: str
    shape: str
    metadata: dict[str, Any]
    steps: tuple[dict[str, Any], ...]
    folder: Path | None
    files: tuple[Path, ...]


def raw_episodes(
    root: Path, harvest: Harvest, *, levels: int = 2
) -> Iterator[RawEpisode]:
    """Yield the episodes at `root` or `levels` below, in order of their names.

    What cannot be read is named in the harvest. No link to a folder is followed: it
    may lead back.
    """
    if root.is_file():
        yield from _file(root, harvest)
        return
    if (root / "metadata.json").is_file():
        yield from _folder(root, root / "metadata.json", harvest)
    elif (root / "episode.json").is_file():
        yield from _folder(root, root / "episode.json", harvest)
    else:
        for entry in sorted(root.iterdir()):
            is_text = entry.suffix in {".json", ".jsonl", ".tfrecord"}
            is_folder = entry.is_dir() and not entry.is_symlink() and levels > 0
            if entry.name[0] != "." and (is_folder or (is_text and entry.is_file())):
                yield from raw_episodes(entry, harvest, levels=levels - 1)


def _folder(root: Path, head: Path, harvest: Harvest) -> Iterator[RawEpisode]:
    facts = _json(head, harvest)
    if not isinstance(facts, dict):
        if facts is not None:
            harvest.lose("E-RLDS-LOSS-003", f"{head.name} (no object)")
        return
    steps = _steps(facts, head, harvest)
    files = [head]
    for path in sorted((root / "steps").glob("*.json*")):
        if not path.is_file():
            harvest.lose("E-RLDS-LOSS-003", f"{path.name} (no file)")
            continue
        files.append(path)
        steps += _lines(path, harvest)
    yield RawEpisode(
        name=spelt_out(root.name),
        shape="directory" if head.name == "metadata.json" else "recorder",
        metadata=_metadata(facts),
        steps=tuple(steps),
        folder=root,
        files=tuple(files),
    )


def _file(path: Path, harvest: Harvest) -> Iterator[RawEpisode]:
    data = path.read_bytes()
    if data.lstrip()[:1] != b"{":
        yield from _records(path, harvest)
        return
    try:
        facts, strays = parse_plain(data)
    except (ValueError, RecursionError):
        yield from _json_lines(path, harvest)
        return
    harvest.lose("E-RLDS-LOSS-019", path.name, strays)
    if "observation" in facts and "steps" not in facts:
        facts = {"steps": [facts]}
    steps = _steps(facts, path, harvest)
    yield RawEpisode(
        name=spelt_out(path.stem),
        shape="json",
        metadata=_metadata(facts),
        steps=tuple(steps),
        folder=path.parent,
        files=(path,),
    )


def _steps(facts: dict[str, Any], path: Path, harvest: Harvest) -> list[dict[str, Any]]:
    """Take the steps out of an episode; what is there and is no step is named."""
    found = facts.pop("steps", None)
    if found is None:
        return []
    if not isinstance(found, list):
        harvest.lose("E-RLDS-LOSS-013", f"{path.name} (its steps are no list)")
        return []
    for number, step in enumerate(found):
        if not isinstance(step, dict):
            harvest.lose("E-RLDS-LOSS-013", f"{path.name}, steps[{number}]")
    return [step for step in found if isinstance(step, dict)]


def _json_lines(path: Path, harvest: Harvest) -> Iterator[RawEpisode]:
    """Yield the episodes of JSON lines, told apart by their `episode_id`."""
    groups: dict[str, list[dict[str, Any]]] = {}
    heads: dict[str, Any] = {}
    for line in _lines(path, harvest):
        if "observation" not in line and "action" not in line:
            heads |= _metadata(line)
        else:
            groups.setdefault(str(line.get("episode_id", "")), []).append(line)
    for name, steps in groups.items():
        yield RawEpisode(
            name=name or spelt_out(path.stem),
            shape="jsonl",
            metadata=dict(heads),
            steps=tuple(steps),
            folder=path.parent,
            files=(path,),
        )


def _records(path: Path, harvest: Harvest) -> Iterator[RawEpisode]:
    """Yield the episodes of a TFRecord with one step an Example."""
    groups: dict[str, list[dict[str, Any]]] = {}
    try:
        for payload in read_records(path):
            step, strays = _step_of_example(parse_example(payload))
            harvest.lose("E-RLDS-LOSS-019", path.name, strays)
            if step is None:
                harvest.lose("E-RLDS-LOSS-013", path.name)
            else:
                groups.setdefault(str(step.get("episode_id", "")), []).append(step)
    except DataError as error:
        harvest.lose("E-RLDS-LOSS-003", f"{path.name} ({error.what})")
    for name, steps in groups.items():
        yield RawEpisode(
            name=name or spelt_out(path.stem),
            shape="tfrecord-of-steps",
            metadata={},
            steps=tuple(steps),
            folder=None,
            files=(path,),
        )


def _step_of_example(features: dict[str, Any]) -> tuple[dict[str, Any] | None, int]:
    step: dict[str, Any] = {}
    strays = 0
    for key, value in features.items():
        if not len(value):
            continue
        first = value[0]
        if not isinstance(first, memoryview | bytes):
            step[key] = first.item() if len(value) == 1 else value.tolist()
            continue
        try:
            step[key], odd = parse_plain(bytes(first))
            strays += odd
        except (ValueError, RecursionError):
            step[key] = bytes(first).decode(errors="replace")
    known = isinstance(step.get("observation"), dict) and isinstance(
        step.get("action"), dict
    )
    return (step if known else None), strays


def _metadata(facts: dict[str, Any]) -> dict[str, Any]:
    """Return metadata as one table, from any of the places it stood in."""
    out = dict(facts)
    for key in ("metadata", "episode_metadata", "continuon"):
        inner = out.pop(key, None)
        if isinstance(inner, dict):
            said = {name: value for name, value in out.items() if value is not None}
            out = {**_metadata(inner), **said}
    return out


def _lines(path: Path, harvest: Harvest) -> list[dict[str, Any]]:
    lines = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            value, strays = parse_plain(line)
        except (ValueError, RecursionError) as error:
            harvest.lose("E-RLDS-LOSS-013", f"{where} ({str(error)[:50]})")
            continue
        harvest.lose("E-RLDS-LOSS-019", where, strays)
        if isinstance(value, dict):
            lines.append(value)
        else:
            harvest.lose("E-RLDS-LOSS-013", f"{where} (no object)")
    return lines


def _json(path: Path, harvest: Harvest) -> Any:
    try:
        value, strays = parse_plain(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        harvest.lose("E-RLDS-LOSS-003", f"{path.name} ({str(error)[:80]})")
        return None
    harvest.lose("E-RLDS-LOSS-019", path.name, strays)
    return value
