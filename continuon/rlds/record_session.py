"""What an open recorder runs: the file, the queue and the threads between them."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from functools import partial

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContinuonError
from continuon.rlds.episode import EndReason
from continuon.rlds.episode_log import EpisodeLog
from continuon.rlds.file_sink import FileSink
from continuon.rlds.sample_queue import SampleQueue

__all__ = ["Encode", "RecordSession"]

_SYNC_PERIOD_S = 1.0
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Encode = Callable[[NDArray[np.generic]], bytes]


@attrs.define(eq=False)
class RecordSession:
    """A file being written. Each encoder, the writer and the sync have a thread."""

    sink: FileSink
    log: EpisodeLog
    queue: SampleQueue
    _stop_sync: threading.Event = attrs.field(factory=threading.Event)
    _threads: list[threading.Thread] = attrs.field(factory=list)

    def start(self, encoders: Mapping[int, tuple[str, Encode]]) -> None:
        """Start the threads; `encoders` is name and encoder by channel."""
        self._start(self._write_all, "writer")
        for channel, (name, encode) in encoders.items():
            self._start(partial(self._encode_all, channel, encode), name)
        self._start(self._sync_all, "sync")

    def drain(self) -> None:
        """Accept nothing more, write what waits, end the threads."""
        self.queue.close()
        self._stop_sync.set()
        for thread in self._threads:
            thread.join()

    def finish(self, reason: EndReason) -> tuple[EndReason, dict[str, int]]:
        """Write the closing records; returns (why it ended, drops by stream).

        Raises:
            OSError: the disk could not even hold the closing records.
        """
        try:
            self.log.flush()
        except OSError as error:
            self.queue.fail(error, _disk_reason(error))
        reason = self.queue.ended or reason
        drops = {number: lane.drops for number, lane in self.queue.lanes.items()}
        return reason, self.log.finish(reason, drops)

    def _start(self, work: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=work, name=f"record-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)

    def _encode_all(self, channel: int, encode: Encode) -> None:
        queue = self.queue
        while (sample := queue.take_raw(channel)) is not None:
            if queue.failure is None:
                assert isinstance(sample.payload, np.ndarray)
                try:
                    sample.payload = encode(sample.payload)
                except (ContinuonError, ValueError) as error:
                    queue.fail(error, EndReason.FAULT)
            queue.hand_on(sample)

    def _write_all(self) -> None:
        queue = self.queue
        while (sample := queue.take_ready()) is not None:
            if queue.failure is not None:
                queue.lose(sample.channel)
            else:
                try:
                    self.log.add(sample)
                except OSError as error:
                    queue.fail(error, _disk_reason(error))
            queue.written(sample)

    def _sync_all(self) -> None:
        while not self._stop_sync.wait(_SYNC_PERIOD_S):
            try:
                self.sink.datasync()
            except OSError as error:
                self.queue.fail(error, _disk_reason(error))
                return


def _disk_reason(error: OSError) -> EndReason:
    return EndReason.DISK_FULL if error.errno in _DISK_FULL else EndReason.FAULT
