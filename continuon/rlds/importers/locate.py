"""Which format is this? Told by what files hold; a suffix is never believed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from continuon.errors import DataError
from continuon.rlds.example import parse_example
from continuon.rlds.importers.harvest import Harvest, Located
from continuon.rlds.importers.unpack import is_archive, unpack
from continuon.rlds.tfrecord import read_records

__all__ = ["Format", "locate"]

_HEAD_BYTES = 4096
_LITTER = ("._", ".DS_Store", "__MACOSX")


class Format(StrEnum):
    """A format that can be imported; the value stands in the provenance."""

    TUB = "donkeycar-tub-v2"
    TFDS = "tfds-rlds"
    LEROBOT = "lerobot"
    TUM = "tum-rgbd"
    RGBD = "rgbd-folders"
    ROSBAG1 = "rosbag1"
    ROSBAG2 = "rosbag2"
    MCAP = "mcap"
    PLAN = "continuon-json"


_KNOWN = (
    "a Donkeycar tub v2, a LeRobot data set (v2, v3), a TFDS/RLDS directory, a TUM "
    "RGB-D folder, folders of depth and colour PNGs, a ROS bag (1, 2), an MCAP file, "
    "the plan's JSON episodes; or one of these as .tar.gz or .zip"
)


@contextmanager
def locate(source: Path, harvest: Harvest) -> Iterator[tuple[Format, Located]]:
    """Find the one recording at or up to two levels below `source`.

    Raises:
        DataError: nothing that can be imported, several recordings, or a damaged
            archive.
    """
    file = _only_file(source)
    if file is not None and is_archive(file):
        with TemporaryDirectory(prefix="continuon-import-") as unpacked:
            for name in unpack(file, Path(unpacked)):
                harvest.lose("E-RLDS-LOSS-001", name)
            kind, root = _search(Path(unpacked), source)
            name = re.sub(r"(\.tar)?\.[A-Za-z0-9]+$", "", file.name)
            yield kind, Located(root=root, name=name, where=source)
        return
    kind, root = _search(source, source)
    yield kind, Located(root=root, name=root.resolve().name, where=source)


def _search(start: Path, source: Path) -> tuple[Format, Path]:
    level = [start]
    for _ in range(3):
        found = [(kind, path) for path in level if (kind := _format_of(path))]
        kinds = {kind for kind, _ in found}
        if len(found) == 1:
            return found[0]
        if kinds == {Format.PLAN}:
            return Format.PLAN, found[0][1].parent
        if found:
            raise DataError(
                "E-RLDS-IMPORT-002",
                "there are several recordings here",
                where=source,
                seen=", ".join(f"{path.name} ({kind})" for kind, path in found[:5]),
                hint="import them one by one",
            )
        level = [below for path in level for below in _entries(path)]
    raise DataError(
        "E-RLDS-IMPORT-001",
        "this is no recording that can be imported",
        where=source,
        seen=_describe(source),
        allowed=_KNOWN,
    )


def _entries(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(
        entry for entry in path.iterdir() if not entry.name.startswith(_LITTER)
    )


def _only_file(source: Path) -> Path | None:
    """Return the source if it is a file, or the one packed file in a folder of few."""
    if source.is_file():
        return source
    if not source.is_dir() or _format_of(source) is not None:
        return None
    packed = [entry for entry in _entries(source) if is_archive(entry)]
    return packed[0] if len(packed) == 1 else None


def _format_of(path: Path) -> Format | None:
    if path.is_file():
        return _format_of_file(path)
    return _format_of_folder(path) if path.is_dir() else None


def _format_of_folder(path: Path) -> Format | None:
    names = {entry.name for entry in _entries(path)}
    if {"features.json", "dataset_info.json"} <= names:
        return Format.TFDS
    if _holds(path / "meta" / "info.json", b'"codebase_version"'):
        return Format.LEROBOT
    if _holds(path / "metadata.yaml", b"rosbag2_bagfile_information"):
        return Format.ROSBAG2
    if "manifest.json" in names and not any(n.endswith(".mcap") for n in names):
        return Format.TUB
    if _is_plan_folder(path, names):
        return Format.PLAN
    if "depth.txt" in names or "rgb.txt" in names:
        return Format.TUM
    has_depth = "depth" in names and _has_png(path / "depth")
    return Format.RGBD if has_depth and names & {"color", "colour", "rgb"} else None


def _is_plan_folder(path: Path, names: set[str]) -> bool:
    if "metadata.json" in names:
        return "steps" in names or _holds(path / "metadata.json", b"xr_mode")
    return "episode.json" in names and _holds(path / "episode.json", b"{")


def _has_png(path: Path) -> bool:
    return any(_head(entry)[:8] == b"\x89PNG\r\n\x1a\n" for entry in _entries(path)[:3])


def _format_of_file(path: Path) -> Format | None:
    head = _head(path)
    if head.startswith(b"\x89MCAP0\r\n"):
        return Format.MCAP
    if head.startswith(b"#ROSBAG V"):
        return Format.ROSBAG1
    if head.startswith(b"SQLite format 3\0"):
        return Format.ROSBAG2
    is_plan = _is_plan_text(head) or _is_step_record(path, head)
    return Format.PLAN if is_plan else None


def _is_step_record(path: Path, head: bytes) -> bool:
    """Return whether a file starts as a TFRecord of the plan's steps."""
    if len(head) < 12:
        return False
    try:
        first = next(read_records(path), None)
        found = set() if first is None else set(parse_example(first))
    except DataError:
        return False
    return {"observation", "action"} <= found


def _is_plan_text(head: bytes) -> bool:
    """Return whether text is the plan's episode, whole or its first line."""
    if head.lstrip()[:1] != b"{":
        return False
    words = (b'"steps"', b'"observation"', b'"xr_mode"', b'"episode_metadata"')
    if not any(word in head for word in words):
        return False
    first = head.split(b"\n", 1)[0]
    try:
        return isinstance(msgspec.json.decode(first), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return b'"steps"' in head or b'"metadata"' in head


def _holds(path: Path, words: bytes) -> bool:
    return path.is_file() and words in _head(path, 1 << 20)


def _head(path: Path, size: int = _HEAD_BYTES) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(size)


def _describe(source: Path) -> str:
    if source.is_dir():
        names = [entry.name for entry in _entries(source)]
        return "a folder with " + (", ".join(names[:5]) or "nothing in it")
    return "a file of no known kind" if source.is_file() else "nothing"
