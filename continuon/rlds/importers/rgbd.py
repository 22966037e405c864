"""Import RGB-D folders: TUM's tables with true times, or numbered depth and colour.

TUM RGB-D (Sturm et al., IROS 2012, "file formats"): `rgb.txt`, `depth.txt` list a Unix
time in seconds and a PNG a line, other tables a time and numbers; 5000 counts of depth
are 1 m. Folders as camera tools write them hold `depth/` and `color/` PNGs whose names
are times or frame numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path, PurePosixPath

import attrs
import numpy as np

from continuon.rlds.episode import (
    DEPTH,
    NOMINAL_CLOCK,
    RGB,
    Codec,
    StreamSpec,
)
from continuon.rlds.images import colour_size
from continuon.rlds.importers.facts import digest_of_files, imported_metadata
from continuon.rlds.importers.harvest import Harvest, ImportOptions, Located
from continuon.rlds.importers.locate import Format
from continuon.rlds.importers.own_times import (
    SourceStream,
    in_time_order,
    is_whole_picture,
    merged_episode,
)
from continuon.rlds.importers.unpack import is_path
from continuon.rlds.importers.write import ImportedEpisode
from continuon.rlds.png_file import is_png
from continuon.rlds.units import unit_of

__all__ = ["import_rgbd", "import_tum"]

_TUM_UNIT_M = 0.0002
_PICTURES = {"rgb.txt": RGB, "depth.txt": DEPTH}
_COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "accelerometer": ("ax_m_s2", "ay_m_s2", "az_m_s2"),
    "groundtruth": ("tx_m", "ty_m", "tz_m", "qx", "qy", "qz", "qw"),
}
_MAX_PARAMETER_BYTES = 1 << 16


@attrs.frozen
class _Line:
    """One line of a table: its time, and what stands behind it."""

    stamp_ns: int
    fields: tuple[str, ...]


def import_tum(
    found: Located, harvest: Harvest, options: ImportOptions
) -> Iterator[ImportedEpisode]:
    """Yield the one episode of a TUM RGB-D folder, each stream with its own times."""
    root = found.root
    tables = {
        path.name: _table(path, harvest)
        for path in sorted(root.glob("*.txt"))
        if not path.name.startswith((".", "associat"))
    }
    streams: list[SourceStream] = []
    used: list[Path] = [root / name for name in tables]
    for name, lines in tables.items():
        if name in _PICTURES:
            stream, files = _listed_pictures(root, name, lines, harvest, options)
            used += files
        else:
            stream = _numbers(name.removesuffix(".txt"), lines, harvest)
        streams += [stream] if stream is not None else []
    _name_unused(root, set(used), harvest)
    if not streams:
        return
    start = min(stream.stamp_ns[0] for stream in streams)
    yield merged_episode(
        imported_metadata(
            Format.TUM,
            found.name,
            digest_of_files(used, root),
            0,
            stamp_source="capture",
            start_wall_ns=start,
            robot_model="camera",
            facts={"depth_unit_m": repr(options.depth_unit_m or _TUM_UNIT_M)},
        ),
        sorted(streams, key=lambda stream: stream.spec.is_image),
    )


def _table(path: Path, harvest: Harvest) -> list[_Line]:
    lines: list[_Line] = []
    for raw in path.read_bytes().splitlines():
        text = raw.decode(errors="replace").strip()
        if not text or text.startswith("#"):
            continue
        fields = tuple(text.replace(",", " ").split())
        stamp = _nanoseconds(fields[0])
        if stamp is None or len(fields) < 2:
            harvest.lose("E-RLDS-LOSS-013", path.name)
        else:
            lines.append(_Line(stamp, fields[1:]))
    return lines


def _nanoseconds(text: str) -> int | None:
    """Return decimal seconds as whole ns, exactly; None for what is no such time."""
    try:
        at = Decimal(text)
    except InvalidOperation:
        return None
    if not at.is_finite() or not 0 <= at < 9_000_000_000:
        return None
    return int((at * 1_000_000_000).to_integral_value())


def _listed_pictures(
    root: Path,
    table: str,
    lines: Sequence[_Line],
    harvest: Harvest,
    options: ImportOptions,
) -> tuple[SourceStream | None, list[Path]]:
    """Return the stream, and the files of it that are there."""
    listed: list[tuple[int, Path]] = []
    for line in lines:
        path = PurePosixPath(line.fields[0])
        if is_path(path) and (root / path).is_file():
            listed.append((line.stamp_ns, root / path))
        else:
            harvest.lose("E-RLDS-LOSS-002", str(path))
    name = _PICTURES[table]
    unit = options.depth_unit_m or _TUM_UNIT_M
    stream = _pictures(name, listed, harvest, clock="wall", unit_m=unit)
    return stream, [path for _, path in listed]


def _pictures(
    name: str,
    listed: Sequence[tuple[int, Path]],
    harvest: Harvest,
    *,
    clock: str,
    unit_m: float,
) -> SourceStream | None:
    """Return the stream of pictures that are whole, of one codec and size, in order."""
    codec = Codec.PNG16 if name == DEPTH else Codec.PNG
    if listed and codec is Codec.PNG and not is_png(listed[0][1].read_bytes()[:8]):
        codec = Codec.JPEG
    whole: list[tuple[int, Path]] = []
    size: tuple[int, int] | None = None
    for at, path in listed:
        data = path.read_bytes()
        fits = is_whole_picture(data, codec)
        if not fits or colour_size(data) != (size or colour_size(data)):
            harvest.lose("E-RLDS-LOSS-007", path.name)
            continue
        size = size or colour_size(data)
        whole.append((at, path))
    rows = in_time_order([at for at, _ in whole], harvest, name)
    kept = [whole[row] for row in rows]
    if not kept or size is None:
        return None
    return SourceStream(
        spec=StreamSpec(
            name=name,
            codec=codec,
            clock=clock,
            width=size[0],
            height=size[1],
            depth_unit_m=unit_m if name == DEPTH else 0.001,
        ),
        stamp_ns=[at for at, _ in kept],
        load=partial(_bytes_of, [path for _, path in kept]),
    )


def _bytes_of(paths: Sequence[Path], row: int) -> bytes:
    return paths[row].read_bytes()


def _numbers(
    name: str, lines: Sequence[_Line], harvest: Harvest
) -> SourceStream | None:
    """Return a table of numbers as a stream; what float32 rounds is counted."""
    width = len(lines[0].fields) if lines else 0
    stamps: list[int] = []
    rows: list[list[float]] = []
    rounded = 0
    for line in lines:
        try:
            values = [float(field) for field in line.fields]
        except ValueError:
            values = []
        if len(values) != width:
            harvest.lose("E-RLDS-LOSS-013", f"{name}.txt")
            continue
        stamps.append(line.stamp_ns)
        rows.append(values)
        rounded += sum(map(_is_rounded, line.fields, values))
    harvest.lose("E-RLDS-LOSS-009", name, rounded)
    kept = in_time_order(stamps, harvest, name)
    if not kept:
        return None
    names = _COMPONENTS.get(name, ())
    units = tuple(unit_of(component) or "1" for component in names)
    if len(names) != width:
        names, units = tuple(f"{name}_{i}" for i in range(width)), ()
    columns = np.array(rows, np.float64).astype(np.float32)[kept]
    return SourceStream(
        spec=StreamSpec(
            name=re.sub(r"[^A-Za-z0-9_.-]", "_", name),
            codec=Codec.VECTOR,
            names=names,
            clock="wall",
            units=units,
        ),
        stamp_ns=[stamps[row] for row in kept],
        load=columns.__getitem__,
    )


def _is_rounded(text: str, value: float) -> bool:
    """Return whether float32 no longer says the digits that the text says."""
    digits = len(text.partition(".")[2]) if "e" not in text.lower() else 12
    with np.errstate(over="ignore"):
        small = float(np.float32(value))
    return f"{small:.{digits}f}" != f"{value:.{digits}f}"


def import_rgbd(
    found: Located, harvest: Harvest, options: ImportOptions
) -> Iterator[ImportedEpisode]:
    """Yield the one episode of folders of depth and colour pictures."""
    root = found.root
    folders = {DEPTH: root / "depth"}
    for name in ("color", "colour", "rgb"):
        if (root / name).is_dir():
            folders[RGB] = root / name
    files = {
        name: sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
        for name, folder in folders.items()
    }
    numbered = {
        name: _numbered(paths, harvest, options.rate_hz)
        for name, paths in files.items()
    }
    is_nominal = not all(is_time for _, is_time in numbered.values())
    if is_nominal:
        harvest.note(
            f"file names are frame numbers: stamped at a nominal "
            f"{options.rate_hz:g} Hz, from which no rate or speed follows"
        )
    if options.depth_unit_m is None:
        harvest.note("depth does not state its unit: taken as 1 mm")
    clock = NOMINAL_CLOCK if is_nominal else "wall"
    unit = options.depth_unit_m or 0.001
    streams = [
        _pictures(name, listed, harvest, clock=clock, unit_m=unit)
        for name, (listed, _) in numbered.items()
    ]
    there = [stream for stream in streams if stream is not None]
    used = [path for paths in files.values() for path in paths]
    facts, parameters = _parameters(root, harvest)
    _name_unused(root, {*used, *parameters}, harvest)
    if not there:
        return
    start = min(stream.stamp_ns[0] for stream in there)
    yield merged_episode(
        imported_metadata(
            Format.RGBD,
            found.name,
            digest_of_files([*used, *parameters], root),
            0,
            stamp_source="nominal" if is_nominal else "capture",
            start_wall_ns=0 if is_nominal else start,
            robot_model="camera",
            facts=facts,
        ),
        there,
    )


def _numbered(
    paths: Sequence[Path], harvest: Harvest, rate_hz: float
) -> tuple[list[tuple[int, Path]], bool]:
    """Return ((stamp, picture) in order, whether names are times in s or ns)."""
    known: list[tuple[Decimal, Path]] = []
    for path in paths:
        number = re.search(r"\d+(\.\d+)?$", path.stem)
        if number is None:
            harvest.lose("E-RLDS-LOSS-012", path.name)
        else:
            known.append((Decimal(number[0]), path))
    known.sort(key=lambda item: item[0])
    numbers = [number for number, _ in known]
    scale, is_time = 1_000_000_000 / Decimal(rate_hz), False
    if numbers and all(10**9 <= n < 9 * 10**9 for n in numbers):
        scale, is_time = Decimal(10**9), True
    elif numbers and all(10**18 <= n < 9 * 10**18 for n in numbers):
        scale, is_time = Decimal(1), True
    return [(int(n * scale), path) for n, path in known], is_time


def _parameters(root: Path, harvest: Harvest) -> tuple[dict[str, str], list[Path]]:
    """Return camera parameters as text, and their files."""
    facts: dict[str, str] = {}
    files = []
    for path in sorted(root.glob("*.json")):
        if not path.is_file() or path.stat().st_size > _MAX_PARAMETER_BYTES:
            harvest.lose("E-RLDS-LOSS-012", path.name)
            continue
        files.append(path)
        facts[f"file:{path.name}"] = path.read_text("utf-8", errors="replace")
    return facts, files


def _name_unused(root: Path, used: set[Path], harvest: Harvest) -> None:
    """Name files that are in no stream; a licence or read-me is none."""
    for path in sorted(root.rglob("*")):
        is_text = path.suffix.lower() in {".md", ".source", ""} or path.name[0] == "."
        if path.is_file() and path not in used and not is_text:
            harvest.lose("E-RLDS-LOSS-012", str(path.relative_to(root)))
