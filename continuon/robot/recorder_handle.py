"""The supervisor's end of the recorder: start it, begin and end episodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from continuon.errors import HardwareError
from continuon.rlds.episode import EndReason, EpisodeMetadata
from continuon.robot.caller import Caller
from continuon.robot.channel import channel_pair
from continuon.robot.spare import FD, start_module

__all__ = ["RecorderHandle"]

_START_TIMEOUT_S = 30.0


class RecorderHandle:
    """A recorder process on a loop's feed. Safe to call from threads.

    Args:
        feed_path: what the loop publishes; it must exist when the process starts.
        on_event: told of "ended", "failed" and "judged", on a thread of its own.
        microphone: ALSA's name of the one whose sound goes with each episode.
    """

    def __init__(
        self,
        feed_path: Path,
        on_event: Callable[[dict[str, Any]], None],
        *,
        microphone: str | None = None,
    ) -> None:
        self._microphone = microphone
        self._feed_path = feed_path
        self._on_event = on_event
        self._caller: Caller | None = None
        self._pid = 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._caller is not None and self._caller.alive

    @property
    def pid(self) -> int:
        """The recorder's process id."""
        return self._pid

    def launch(self) -> None:
        """Start the process, and do not wait."""
        mine, theirs = channel_pair()
        arguments = ["--fd", FD, "--feed", str(self._feed_path)]
        if self._microphone is not None:
            arguments += ["--microphone", self._microphone]
        process = start_module(
            "continuon.robot.recorder_process", arguments, fd=theirs.fileno()
        )
        theirs.close()
        self._pid = process.pid
        self._caller = Caller(
            mine,
            process,
            what="recorder",
            codes=("E-ROBOT-RECORD-006", "E-ROBOT-RECORD-007"),
            on_event=self._on_event,
        )

    def begin(
        self, directory: Path, metadata: EpisodeMetadata, *, time_limit_ns: int
    ) -> str:
        """Open an episode and return its id; a dead recorder is started again.

        Raises:
            ContinuonError: it cannot be recorded now, with the recorder's own code.
        """
        if not self.alive:
            self.close()
            self.launch()
        caller = self._called()
        caller.wait_ready(_START_TIMEOUT_S)
        answer = caller.ask(
            "begin",
            directory=str(directory),
            metadata=msgspec.to_builtins(metadata),
            time_limit_ns=time_limit_ns,
        )
        return str(answer["episode_id"])

    def end(self, reason: EndReason) -> None:
        """Ask for the end of the episode under way, and do not wait for it."""
        if self.alive:
            self._called().send({"do": "end", "reason": reason.value})

    def judge(self, path: Path) -> None:
        """Ask for a verdict on a recording; it comes as an event."""
        if not self.alive:
            self.close()
            self.launch()
        self._called().send({"do": "judge", "path": str(path)})

    def progress(self) -> dict[str, Any] | None:
        """Return what is known of the episode under way; None where there is none."""
        if not self.alive:
            return None
        found: dict[str, Any] | None = self._called().ask("progress")["episode"]
        return found

    def close(self) -> None:
        """End the process, which finishes an open episode; may be called twice."""
        if self._caller is not None:
            self._caller.close()
            self._caller = None

    def _called(self) -> Caller:
        if self._caller is None:
            raise HardwareError(
                "E-ROBOT-RECORD-007", "the recorder process is gone", hint="restart it"
            )
        return self._caller
