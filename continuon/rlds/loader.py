"""Batches of windows: the same order everywhere, and from any point on again.

Which window comes when is a function of seed, epoch and place, so the state of a loader
is one number; hosts take turns, so that together they see each window once. Windows are
decoded by threads: the codecs release the interpreter's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import attrs
import numpy as np

from continuon.errors import ContractError, UsageError
from continuon.rlds.shuffle import shuffled
from continuon.rlds.step_store import Columns

__all__ = ["Loader", "LoaderState", "Source"]


class Source(Protocol):
    """Windows by index, as `WindowSource` has them."""

    def __len__(self) -> int: ...

    def blank(self, count: int) -> Columns:
        """Return room for so many windows."""
        ...

    def fill(self, index: int, batch: Columns, row: int) -> None:
        """Read a window into a row of that room."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of what windows there are."""
        ...


@attrs.frozen(kw_only=True)
class LoaderState:
    """Where a loader stands: batches given so far, and what it was made of."""

    batches: int
    seed: int
    batch_size: int
    hosts: int
    source: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> LoaderState:
        """Return the state that `as_dict` wrote."""
        return cls(**facts)


class Loader:
    """An endless stream of batches, epoch after epoch, or of one epoch.

    Each host gets floor(windows / hosts / batch_size) batches an epoch, all the same
    number, so that hosts that train together stay in step; the few windows left over
    are others in each epoch.

    Args:
        source: the windows.
        batch_size: windows of a batch, on this host.
        seed: of the order; the same on every host.
        shuffle: False gives the windows in their own order.
        epochs: after how many to stop; None for never.
        host: which of `hosts` this is.
        hosts: how many share the data.
        threads: that decode; 0 decodes in the caller.
        prefetch: batches that may wait.
        reuse: write later batches into the arrays of earlier ones, which saves fetching
            fresh memory (a tenth to a quarter of the time): a batch is then good only
            until the next is asked for.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        epochs: int | None = None,
        host: int = 0,
        hosts: int = 1,
        threads: int = 2,
        prefetch: int = 2,
        reuse: bool = False,
    ) -> None:
        if batch_size < 1 or not 0 <= host < hosts or threads < 0 or prefetch < 1:
            raise UsageError(
                "E-RLDS-LOADER-001",
                "no such loader",
                seen=f"batch_size={batch_size}, host={host} of {hosts}, "
                f"threads={threads}, prefetch={prefetch}",
                allowed="batch_size >= 1, 0 <= host < hosts, threads >= 0, "
                "prefetch >= 1",
            )
        self.batches_per_epoch = len(source) // hosts // batch_size
        if not self.batches_per_epoch:
            raise UsageError(
                "E-RLDS-LOADER-002",
                "there are fewer windows than one batch on every host wants",
                seen=len(source),
                allowed=f"{batch_size * hosts} or more",
            )
        self._source = source
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._epochs = epochs
        self._host = host
        self._hosts = hosts
        self._threads = threads
        self._prefetch = prefetch
        self._reuse = reuse
        self._free: list[Columns] = []
        self._given = 0

    def state(self) -> LoaderState:
        """Return where the loader stands: behind the last batch that it gave."""
        return LoaderState(
            batches=self._given,
            seed=self._seed,
            batch_size=self._batch_size,
            hosts=self._hosts,
            source=self._source.fingerprint(),
        )

    def restore(self, state: LoaderState) -> None:
        """Go on from a state; the next iterator starts there.

        Raises:
            ContractError: it is of another loader.
        """
        mine = attrs.evolve(self.state(), batches=state.batches)
        if state != mine or state.batches < 0:
            raise ContractError(
                "E-RLDS-LOADER-003",
                "this is the state of another loader or of other data",
                seen=state.as_dict(),
                allowed=mine.as_dict(),
            )
        self._given = state.batches

    def indices(self, batch: int) -> list[int]:
        """Return which windows batch number `batch`, counted over epochs, holds."""
        epoch, place = divmod(batch, self.batches_per_epoch)
        first = place * self._batch_size
        mine = np.arange(first, first + self._batch_size, dtype=np.int64)
        places = mine * self._hosts + self._host
        if self._shuffle:
            count = len(self._source)
            places = shuffled(places, count, seed=self._seed, epoch=epoch)
        picked: list[int] = places.tolist()
        return picked

    def __iter__(self) -> Iterator[Columns]:
        """Yield batches: each column has axes window, step, ...

        Raises:
            DataError: a window is damaged.
        """
        if not self._threads:
            while not self._is_over(self._given):
                batch = self._room()
                for row, index in enumerate(self.indices(self._given)):
                    self._source.fill(index, batch, row)
                self._given += 1
                yield batch
                self._give_back(batch)
            return
        with ThreadPoolExecutor(self._threads, "loader") as pool:
            waiting: deque[tuple[Columns, list[Future[None]]]] = deque()
            ahead = self._given
            try:
                while waiting or not self._is_over(ahead):
                    while len(waiting) < self._prefetch and not self._is_over(ahead):
                        waiting.append(self._begin(pool, ahead))
                        ahead += 1
                    batch, windows = waiting.popleft()
                    for window in windows:
                        window.result()
                    self._given += 1
                    yield batch
                    self._give_back(batch)
            finally:
                for _, windows in waiting:
                    for window in windows:
                        window.cancel()

    def _begin(
        self, pool: ThreadPoolExecutor, batch: int
    ) -> tuple[Columns, list[Future[None]]]:
        room = self._room()
        picked = enumerate(self.indices(batch))
        fill = self._source.fill
        return room, [pool.submit(fill, index, room, row) for row, index in picked]

    def _room(self) -> Columns:
        return self._free.pop() if self._free else self._source.blank(self._batch_size)

    def _give_back(self, batch: Columns) -> None:
        if not self._reuse:
            return
        for values in batch.values():
            if isinstance(values, list):
                values[:] = [[] for _ in values]
        self._free.append(batch)

    def _is_over(self, batch: int) -> bool:
        epochs = self._epochs
        return epochs is not None and batch >= epochs * self.batches_per_epoch
