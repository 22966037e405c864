"""Batches that grain's threads make ahead of the update that asks for them.

The batches are those of the sampler: grain reads and draws them in parallel, in order.
A host of several gives its own share, which its sampler holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import attrs

from continuon.learn.windows import Batch, Sampler
from continuon.rlds.grain_source import require_grain

__all__ = ["GrainSampler", "open_grain"]


@attrs.define(eq=False)
class GrainSampler:
    """Gives batch k for step k; steps are asked for in order. Made by `open_grain`."""

    _batches: Any
    _next: int

    def batch(self, step: int) -> Batch:
        """Return the batch of a step.

        Raises:
            ValueError: it is not the step after the last one.
        """
        if step != self._next:
            msg = f"step {step} was asked for, and {self._next} is next"
            raise ValueError(msg)
        self._next += 1
        batch: Batch = next(self._batches)
        return batch


def open_grain(
    sampler: Sampler, *, first: int, until: int, threads: int = 2, ahead: int = 8
) -> AbstractContextManager[GrainSampler]:
    """Return the batches of steps `first` to `until` - 1; its threads end with it.

    Args:
        sampler: whose `batch` is a function of the step alone, so any thread may call
            it at any time, and a run that goes on at `first` sees what an
            uninterrupted one would have seen.
        first: step.
        until: step.
        threads: that make batches. Decoding and copying leave the interpreter free.
        ahead: batches that wait at most.

    Raises:
        MissingPackageError: grain is not installed.
    """
    grain = require_grain("making batches in grain's threads")
    dataset = grain.MapDataset.range(first, until).map(sampler.batch)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return _opened(iter(dataset.to_iter_dataset(options)), first)


@contextmanager
def _opened(batches: Any, first: int) -> Iterator[GrainSampler]:
    try:
        yield GrainSampler(batches, first)
    finally:
        batches.close()
