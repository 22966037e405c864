"""A table of steps, as many foreign formats keep an episode, made into streams.

Every stream has one sample a step, all at the step's time. What float32 cannot hold is
counted, a step that is no demonstration cuts the episode, and nothing is mended.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import msgspec
import numpy as np
from numpy.typing import NDArray

from continuon.rlds.episode import (
    ACTION,
    DEPTH,
    RGB,
    Codec,
    EndReason,
    EpisodeMetadata,
    StreamSpec,
)
from continuon.rlds.importers.film import Film
from continuon.rlds.importers.harvest import Harvest
from continuon.rlds.importers.own_times import is_whole_picture
from continuon.rlds.importers.write import ImportedEpisode, Reading

__all__ = [
    "Pictures",
    "StepTable",
    "component_names",
    "episodes_of",
    "nominal_stamps",
    "text_spans",
    "usable_name",
]


@attrs.frozen(eq=False, kw_only=True)
class Pictures:
    """The pictures of one camera, one a step: encoded bytes, None where there is none.

    A picture of a film is an array, decoded when it is asked for and encoded by the
    recorder; the film says which of them there are, so none is decoded to find out.
    """

    codec: Codec
    frames: Sequence[bytes | NDArray[Any] | None]
    depth_unit_m: float = 0.001

    def whole(self, start: int, stop: int) -> list[bool]:
        """Return for each step from `start` to `stop` whether its picture is whole."""
        if isinstance(self.frames, Film):
            return self.frames.known()[start:stop]
        frames = (self.frames[row] for row in range(start, stop))
        return [
            is_whole_picture(frame, self.codec)
            if isinstance(frame, bytes)
            else frame is not None
            for frame in frames
        ]


@attrs.frozen(eq=False, kw_only=True)
class StepTable:
    """An episode of T steps.

    Attributes:
        stamp_ns: int64 [T], the time of each step.
        vectors: by stream: numbers [T, n] as the source holds them.
        names: by stream: n names.
        pictures: by stream.
        clock: the clock that `stamp_ns` counts.
        end_reason: of the last step; a cut before it is a slice.
        masked: bool [T], steps that the source itself masked; None where none is.
    """

    metadata: EpisodeMetadata
    stamp_ns: NDArray[np.int64]
    vectors: Mapping[str, NDArray[Any]]
    names: Mapping[str, tuple[str, ...]]
    pictures: Mapping[str, Pictures]
    clock: str
    end_reason: EndReason
    rate_hz: float | None = None
    jpeg_quality: int = 95
    masked: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.stamp_ns)


def nominal_stamps(count: int, rate_hz: float) -> NDArray[np.int64]:
    """Return int64 [count]: step number over rate, in ns, from zero."""
    return np.round(np.arange(count) * (1e9 / rate_hz)).astype(np.int64)


def component_names(field: str, width: int, given: Any = None) -> tuple[str, ...]:
    """Return `width` unique names: those given, else the field's with a number.

    LeRobot gives a list, a list in a list, or a mapping to a list.
    """
    if isinstance(given, Mapping) and len(given) == 1:
        given = next(iter(given.values()))
    while isinstance(given, list) and len(given) == 1 and isinstance(given[0], list):
        given = given[0]
    if isinstance(given, list) and len(given) == width:
        texts = tuple(str(name) for name in given)
        if len(set(texts)) == width:
            return texts
    short = field.rpartition("/")[2]
    return (short,) if width == 1 else tuple(f"{short}_{i}" for i in range(width))


def usable_name(field: str, taken: Sequence[str] = ()) -> str:
    """Return a legal, unused stream name that looks like a foreign field's."""
    legal = re.sub(r"[^A-Za-z0-9_/.-]", "_", field)
    name = re.sub(r"^[^A-Za-z]+", "", legal[-56:]) or "field"
    numbered = (f"{name}-{i}" for i in itertools.count(2))
    while name in taken or name == "clock_offset":
        name = next(numbered)
    return name


def text_spans(texts: Sequence[str]) -> str:
    """Return texts that hold from step to step as JSON: [[first step, text], ...]."""
    spans = [
        [row, text]
        for row, text in enumerate(texts)
        if row == 0 or text != texts[row - 1]
    ]
    return msgspec.json.encode(spans).decode()


def episodes_of(table: StepTable, harvest: Harvest) -> Iterator[ImportedEpisode]:
    """Yield the unbroken runs of usable steps, each an episode.

    A run ends before a step that the source masked, whose action is not finite, whose
    main picture is not whole, or whose time does not advance. The first run keeps the
    table's id, the others are told apart by their first step.
    """
    broken = _broken(table, harvest)
    vectors = {
        name: _as_float32(name, values, harvest)
        for name, values in table.vectors.items()
    }
    wide = attrs.evolve(table, vectors=vectors)
    edges = np.flatnonzero(np.diff(np.concatenate(([1], broken, [1]))))
    for start, stop in edges.reshape(-1, 2).tolist():
        yield _episode(wide, start, stop, harvest, is_whole=not broken.any())


def _broken(table: StepTable, harvest: Harvest) -> NDArray[np.int8]:
    """Return int8 [T]: 1 where a step can stand in no episode; each is counted."""
    bad = np.zeros(len(table), bool)
    if table.masked is not None:
        bad |= table.masked
        harvest.lose("E-RLDS-LOSS-020", count=int(bad.sum()))
    action = table.vectors.get(ACTION)
    if action is not None and action.dtype.kind == "f":
        not_finite = ~np.isfinite(action).reshape(len(table), -1).all(axis=1)
        harvest.lose("E-RLDS-LOSS-005", count=int((not_finite & ~bad).sum()))
        bad |= not_finite
    main = table.pictures.get(RGB)
    if main is not None:
        torn = ~np.array(main.whole(0, len(table)), bool)
        harvest.lose("E-RLDS-LOSS-006", count=int((torn & ~bad).sum()))
        bad |= torn
    latest = -1
    for row, at in enumerate(table.stamp_ns.tolist()):
        if bad[row]:
            continue
        if at <= latest:
            bad[row] = True
            harvest.lose("E-RLDS-LOSS-011")
        else:
            latest = at
    return bad.astype(np.int8)


def _as_float32(name: str, values: NDArray[Any], harvest: Harvest) -> NDArray[Any]:
    with np.errstate(over="ignore", invalid="ignore"):
        small = values.astype(np.float32).reshape(len(values), -1)
        wide = values.reshape(len(values), -1)
        if wide.dtype.kind in "iu":
            changed = small.astype(np.float64) != wide.astype(np.float64)
            changed |= np.abs(wide.astype(np.float64)) > 2**53
        else:
            changed = (small != wide) & ~(np.isnan(small) & np.isnan(wide))
    harvest.lose("E-RLDS-LOSS-009", name, int(changed.sum()))
    return small


def _episode(
    table: StepTable, start: int, stop: int, harvest: Harvest, *, is_whole: bool
) -> ImportedEpisode:
    metadata = table.metadata
    if not is_whole:
        facts = {"first_step": str(start), "steps_of_source": str(len(table))}
        metadata = attrs.evolve(
            metadata,
            episode_id=f"{metadata.episode_id}-s{start}",
            provenance={**metadata.provenance, **facts},
        )
    pictures = {
        name: _kept(name, pictures, start, stop, harvest)
        for name, pictures in table.pictures.items()
    }
    pictures = {name: kept for name, kept in pictures.items() if any(kept)}
    streams = [_image_spec(table, name, table.pictures[name]) for name in pictures]
    streams += [
        StreamSpec(
            name=name,
            codec=Codec.VECTOR,
            names=table.names[name],
            clock=table.clock,
            rate_hz=table.rate_hz,
        )
        for name in table.vectors
    ]
    counts = {name: sum(kept) for name, kept in pictures.items()}
    counts |= dict.fromkeys(table.vectors, stop - start)
    at_end = stop == len(table)
    return ImportedEpisode(
        metadata=metadata,
        streams=tuple(streams),
        readings=partial(_readings, table, start, stop, pictures),
        counts=counts,
        jpeg_quality=table.jpeg_quality,
        end_reason=table.end_reason if at_end else EndReason.SLICE,
        shorter=partial(_shorter, table, start, stop),
    )


def _shorter(table: StepTable, start: int, stop: int) -> ImportedEpisode | None:
    """Return the steps before the first whose main picture is found to be missing.

    What it leaves out is counted by who asks for it.
    """
    main = table.pictures.get(RGB)
    whole = [True] * (stop - start) if main is None else main.whole(start, stop)
    end = start + [*whole, False].index(False)
    if end == start:
        return None
    return _episode(table, start, end, Harvest(), is_whole=False)


def _kept(
    name: str, pictures: Pictures, start: int, stop: int, harvest: Harvest
) -> list[bool]:
    """Return for each step whether its picture is whole; the main ones are."""
    if name == RGB:
        return [True] * (stop - start)
    kept = pictures.whole(start, stop)
    harvest.lose("E-RLDS-LOSS-007", name, kept.count(False))
    return kept


def _image_spec(table: StepTable, name: str, pictures: Pictures) -> StreamSpec:
    is_depth = name == DEPTH or pictures.codec is Codec.PNG16
    return StreamSpec(
        name=name,
        codec=pictures.codec,
        clock=table.clock,
        rate_hz=table.rate_hz,
        depth_unit_m=pictures.depth_unit_m if is_depth else 0.001,
    )


def _readings(
    table: StepTable, start: int, stop: int, kept: Mapping[str, list[bool]]
) -> Iterator[Reading]:
    """Yield all samples step by step, the pictures last, so that they end the tick."""
    for row in range(start, stop):
        at = int(table.stamp_ns[row])
        for name, values in table.vectors.items():
            yield Reading(name, values[row], at)
        for name, whole in kept.items():
            if whole[row - start]:
                yield Reading(name, table.pictures[name].frames[row], at)
