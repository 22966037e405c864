"""The plan's episodes in every shape that was ever written, as plain JSON values.

A folder with `metadata.json` and `steps/*.jsonl`; a recorder's `episode.json` with
`step_NNNN_rgb.npy` beside it; one JSON file; JSON lines, one step each; a TFRecord of
one step an Example, its observation and action as JSON. Nothing is judged here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from continuon.errors import DataError
from continuon.rlds.example import parse_example
from continuon.rlds.importers.harvest import Harvest
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


def raw_episodes(root: Path, harvest: Harvest) -> Iterator[RawEpisode]:
    """Yield the episodes at `root` or up to two levels below, in order of their names.

    What cannot be read is named in the harvest.
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
            if entry.name[0] != "." and (entry.is_dir() or is_text):
                yield from raw_episodes(entry, harvest)


def _folder(root: Path, head: Path, harvest: Harvest) -> Iterator[RawEpisode]:
    facts = _json(head, harvest)
    if not isinstance(facts, dict):
        return
    steps = [step for step in facts.pop("steps", []) if isinstance(step, dict)]
    files = [head]
    for path in sorted((root / "steps").glob("*.json*")):
        files.append(path)
        steps += _lines(path, harvest)
    yield RawEpisode(
        name=root.name,
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
        facts = json.loads(data)
    except (ValueError, RecursionError):
        yield from _json_lines(path, harvest)
        return
    if not isinstance(facts, dict):
        return
    if "observation" in facts and "steps" not in facts:
        facts = {"steps": [facts]}
    found = facts.pop("steps", [])
    steps = [step for step in found if isinstance(step, dict)]
    harvest.lose("E-RLDS-LOSS-013", path.name, len(found) - len(steps))
    yield RawEpisode(
        name=path.stem,
        shape="json",
        metadata=_metadata(facts),
        steps=tuple(steps),
        folder=path.parent,
        files=(path,),
    )


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
            name=name or path.stem,
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
            step = _step_of_example(parse_example(payload))
            if step is None:
                harvest.lose("E-RLDS-LOSS-013", path.name)
            else:
                groups.setdefault(str(step.get("episode_id", "")), []).append(step)
    except DataError as error:
        harvest.lose("E-RLDS-LOSS-003", f"{path.name} ({error.what})")
    for name, steps in groups.items():
        yield RawEpisode(
            name=name or path.stem,
            shape="tfrecord-of-steps",
            metadata={},
            steps=tuple(steps),
            folder=None,
            files=(path,),
        )


def _step_of_example(features: dict[str, Any]) -> dict[str, Any] | None:
    step: dict[str, Any] = {}
    for key, value in features.items():
        if not len(value):
            continue
        first = value[0]
        if not isinstance(first, memoryview | bytes):
            step[key] = first.item() if len(value) == 1 else value.tolist()
            continue
        text = bytes(first).decode(errors="replace")
        try:
            step[key] = json.loads(text)
        except (ValueError, RecursionError):
            step[key] = text
    known = isinstance(step.get("observation"), dict) and isinstance(
        step.get("action"), dict
    )
    return step if known else None


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
    for line in path.read_bytes().splitlines():
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            lines.append(value)
        else:
            harvest.lose("E-RLDS-LOSS-013", path.name)
    return lines


def _json(path: Path, harvest: Harvest) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        harvest.lose("E-RLDS-LOSS-003", f"{path.name} ({str(error)[:80]})")
        return None
