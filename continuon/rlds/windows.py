"""Windows of T steps over many episodes, by index: a source with random access.

A window never crosses an episode's end unless that is asked for, and only the columns
asked for are read. It has `__len__` and `__getitem__`, so it is what grain calls a
random access data source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError, UsageError
from continuon.rlds.step_store import Columns, StepStore, check_columns, open_store

__all__ = ["WindowSource", "open_windows", "windows"]


@attrs.frozen(eq=False)
class WindowSource:
    """Windows of `length` steps; made by `windows`.

    Attributes:
        columns: what each window holds.
        first: int64 [episodes + 1], where each episode starts among all steps.
        starts: int64 [windows], where each window starts among all steps.
        one_step: any step of any episode, whose shapes all have.
    """

    store: StepStore
    length: int
    stride: int
    columns: tuple[str, ...]
    first: NDArray[np.int64]
    starts: NDArray[np.int64]
    one_step: Columns

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: Any) -> Columns:
        """Return one window: each column with `length` steps on its first axis.

        Raises:
            DataError: a picture or a list in it is damaged.
            IndexError: no such window.
        """
        start = self._start(index)
        parts = list(self._read(start, start + self.length, None))
        if len(parts) == 1:
            return parts[0]
        return {name: _joined([part[name] for part in parts]) for name in self.columns}

    def blank(self, count: int) -> Columns:
        """Return room for `count` windows: arrays, and empty lists where it is text."""
        return {
            name: [[] for _ in range(count)]
            if isinstance(step, list)
            else np.empty((count, self.length, *step.shape[1:]), step.dtype)
            for name, step in self.one_step.items()
        }

    def fill(self, index: int, batch: Columns, row: int) -> None:
        """Read a window into row `row` of what `blank` made.

        Raises:
            DataError: a picture or a list in it is damaged or of another size.
            IndexError: no such window.
        """
        start = self._start(index)
        arrays = {n: v[row] for n, v in batch.items() if not isinstance(v, list)}
        for part in self._read(start, start + self.length, arrays):
            for name, values in batch.items():
                if isinstance(values, list):
                    values[row].extend(part[name])

    def where(self, index: int) -> tuple[int, int]:
        """Return the episode and the step in it at which a window starts."""
        start = int(self.starts[index])
        episode = int(np.searchsorted(self.first, start, side="right")) - 1
        return episode, start - int(self.first[episode])

    def fingerprint(self) -> str:
        """Return a hash of what windows there are: equal sources have equal ones."""
        shapes = {
            name: step.shape[1:]
            for name, step in self.one_step.items()
            if not isinstance(step, list)
        }
        about = (self.length, self.stride, self.columns, shapes, len(self))
        digest = hashlib.sha256(msgspec.json.encode(about))
        digest.update(np.ascontiguousarray(self.first, "<i8").tobytes())
        digest.update(np.ascontiguousarray(self.starts, "<i8").tobytes())
        return digest.hexdigest()[:32]

    def _start(self, index: Any) -> int:
        at = int(index)
        if not 0 <= at < len(self):
            msg = f"window {at} of {len(self)}"
            raise IndexError(msg)
        return int(self.starts[at])

    def _read(
        self, start: int, stop: int, into: Mapping[str, NDArray[Any]] | None
    ) -> Iterator[Columns]:
        """Yield steps start to stop, counted over all episodes, by episode."""
        begun = start
        while start < stop:
            episode = int(np.searchsorted(self.first, start, side="right")) - 1
            base, end = int(self.first[episode]), int(self.first[episode + 1])
            last = min(stop, end)
            room = {n: v[start - begun : last - begun] for n, v in (into or {}).items()}
            yield self.store.read(
                episode, start - base, last - base, self.columns, into=room
            )
            start = last


def _joined(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], list):
        return [item for part in parts for item in part]
    return np.concatenate(parts)


def windows(
    store: StepStore,
    *,
    length: int,
    stride: int = 1,
    columns: Sequence[str] | None = None,
    only_valid: bool = False,
    across_ends: bool = False,
) -> WindowSource:
    """Return the windows of `length` steps, one every `stride` steps of each episode.

    Args:
        store: the episodes.
        length: steps of a window.
        stride: steps from one window's start to the next's.
        columns: what each window holds; None for all that the store has.
        only_valid: leave out windows that hold a masked step.
        across_ends: let windows run from one episode into the next (`is_first` in them
            marks where).

    Raises:
        DataError: no episode is long enough.
        UsageError: no such column, or no such length.
    """
    if length < 1 or stride < 1:
        raise UsageError(
            "E-RLDS-WINDOW-001",
            "windows have a length and a stride of at least one step",
            seen=(length, stride),
        )
    asked = store.columns if columns is None else tuple(columns)
    check_columns(asked, store.columns)
    first = np.concatenate(([0], np.cumsum(store.steps))).astype(np.int64)
    bounds = list(zip(first[:-1].tolist(), first[1:].tolist(), strict=True))
    if across_ends:
        bounds = [(0, int(first[-1]))]
    spans = [np.arange(a, b - length + 1, stride, dtype=np.int64) for a, b in bounds]
    starts = np.concatenate(spans) if spans else np.empty(0, np.int64)
    if only_valid:
        starts = starts[_is_valid(store, starts, length)]
    if not len(starts):
        raise DataError(
            "E-RLDS-WINDOW-002",
            "there is no window of this length",
            seen=f"episodes of {int(store.steps.max(initial=0))} steps at most",
            allowed=f"{length} steps or more",
        )
    longest = int(np.argmax(store.steps))
    one_step = store.read(longest, 0, 1, asked)
    return WindowSource(store, length, stride, asked, first, starts, one_step)


def _is_valid(
    store: StepStore, starts: NDArray[np.int64], length: int
) -> NDArray[np.bool_]:
    """Return bool [windows]: none of its steps is masked."""
    if "valid" not in store.columns:
        raise UsageError(
            "E-RLDS-WINDOW-003", "this data set does not say which steps are valid"
        )
    flags = [
        store.read(episode, 0, int(count), ("valid",))["valid"]
        for episode, count in enumerate(store.steps)
    ]
    masked = np.cumsum(~np.concatenate(flags).astype(bool), dtype=np.int64)
    before = np.concatenate((np.zeros(1, np.int64), masked))
    return np.equal(before[starts + length], before[starts])


def open_windows(
    path: Path,
    *,
    length: int,
    picture_size: tuple[int, int] | None = None,
    **options: Any,
) -> WindowSource:
    """Return the windows of a TFDS directory or of recordings; see `windows`.

    With `picture_size` (height, width) every picture comes as small as that.

    Raises:
        DataError: nothing is there, it is damaged, or no episode is long enough.
        UsageError: no such column, or no such length.
    """
    store = open_store(Path(path), picture_size=picture_size)
    return windows(store, length=length, **options)
