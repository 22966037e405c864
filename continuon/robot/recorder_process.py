"""The recorder's process: reads the loop's feed, encodes, writes, and judges the file.

It shares nothing with the loop but memory, so nothing that it does or suffers delays a
tick. When the other end of its channel closes it finishes the episode and ends.
"""

from __future__ import annotations

import argparse
import select
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from continuon.clock import Clock, SystemClock
from continuon.errors import ContinuonError, DataError, UsageError
from continuon.rig.microphone import Microphone
from continuon.rlds.episode import EndReason, EpisodeMetadata
from continuon.robot.channel import Channel
from continuon.robot.ear import SoundInput
from continuon.robot.feed import Feed
from continuon.robot.live_episode import LiveEpisode

__all__ = ["RecorderProcess", "main"]

PUMP_NS = 5_000_000
_IDLE_S = 1.0
_FIGURES = (
    "steps",
    "valid_steps",
    "duration_s",
    "rgb_rate_hz",
    "depth_rate_hz",
    "state_rate_hz",
    "action_rate_hz",
    "skew_ms",
    "drops",
)


class RecorderProcess:
    """One recorder with its channel; `turn` is one look at messages and feed.

    Args:
        feed: what the loop publishes.
        channel: to whoever started this process.
        clock: the host's.
        begin: opens an episode; tests put a failing disk behind it.
        microphone: makes the one whose sound goes with each episode; None for none.
    """

    def __init__(
        self,
        feed: Feed,
        channel: Channel,
        clock: Clock,
        *,
        begin: Callable[..., LiveEpisode] = LiveEpisode,
        microphone: Callable[[], SoundInput] | None = None,
    ) -> None:
        self._feed = feed
        self._channel = channel
        self._clock = clock
        self._begin = begin
        self._microphone = microphone
        self._episode: LiveEpisode | None = None
        self._judges: list[threading.Thread] = []
        self._sending = threading.Lock()
        self._running = True

    @property
    def recording(self) -> bool:
        """Whether an episode is open."""
        return self._episode is not None

    def turn(self) -> bool:
        """Obey what was asked, hand over what is new; returns whether to go on."""
        self._read_messages()
        now_ns = self._clock.monotonic_ns()
        if self._episode is not None:
            reason = self._episode.pump(now_ns)
            if reason is None and not self._running:
                reason = EndReason.FAULT
            if reason is not None:
                self._end(reason)
        return self._running

    def close(self) -> None:
        """Finish an open episode and wait for the judges."""
        self._running = False
        self.turn()
        for judge in self._judges:
            judge.join()

    def _read_messages(self) -> None:
        while self._running:
            try:
                message = self._channel.poll()
            except (EOFError, ConnectionError):
                self._running = False
                return
            if message is None:
                return
            try:
                answer = self._obey(message)
            except ContinuonError as error:
                answer = {"error": error.as_dict()}
            except OSError as error:
                answer = {"error": _disk_error(error).as_dict()}
            if "id" in message:
                self._send({"id": message["id"], **answer})

    def _obey(self, message: Mapping[str, Any]) -> dict[str, Any]:
        now_ns = self._clock.monotonic_ns()
        match message.get("do"):
            case "begin":
                if self._episode is not None:
                    raise UsageError(
                        "E-ROBOT-RECORD-003",
                        "an episode is being recorded already",
                        seen=self._episode.metadata.episode_id,
                        hint="end it first",
                    )
                self._episode = self._begin(
                    self._feed,
                    Path(message["directory"]),
                    msgspec.convert(message["metadata"], EpisodeMetadata),
                    now_ns=now_ns,
                    time_limit_ns=message["time_limit_ns"],
                    microphone=self._microphone() if self._microphone else None,
                )
                return {"episode_id": self._episode.metadata.episode_id}
            case "end":
                if self._episode is not None:
                    self._episode.say_why(EndReason(message["reason"]))
                return {"ending": self._episode is not None}
            case "judge":
                self._judge(Path(message["path"]), {})
                return {}
            case "progress":
                episode = self._episode
                return {"episode": episode.progress(now_ns) if episode else None}
            case unknown:
                raise UsageError("E-ROBOT-RECORD-004", "no such message", seen=unknown)

    def _end(self, reason: EndReason) -> None:
        assert self._episode is not None
        episode, self._episode = self._episode, None
        facts: dict[str, Any] = {
            "episode_id": episode.metadata.episode_id,
            "progress": episode.progress(self._clock.monotonic_ns()),
        }
        try:
            summary = episode.close(reason)
        except ContinuonError as error:
            self._send({"event": "failed", **facts, "error": error.as_dict()})
        except OSError as error:
            failed = _disk_error(error).as_dict()
            self._send({"event": "failed", **facts, "error": failed})
        else:
            facts["summary"] = summary.as_dict()
            self._send({"event": "ended", **facts})
            self._judge(summary.path, facts)

    def _judge(self, path: Path, facts: dict[str, Any]) -> None:
        """Validate a recording on a thread, so that the next one need not wait."""

        def work() -> None:
            from continuon.rlds.validate import validate_recording

            report = validate_recording(path).as_dict()
            about = _about(path)
            figures = {k: report["figures"].get(k) for k in _FIGURES}
            report["figures"] = {k: v for k, v in figures.items() if v is not None}
            told = {"episode_id": path.stem, "report": report, "about": about} | facts
            self._send({"event": "judged", **told})

        thread = threading.Thread(target=work, name="judge", daemon=True)
        thread.start()
        self._judges = [judge for judge in self._judges if judge.is_alive()] + [thread]

    def _send(self, message: Mapping[str, Any]) -> None:
        try:
            with self._sending:
                self._channel.send(message)
        except (BrokenPipeError, BlockingIOError):
            # Nobody reads any more: the same as a closed channel.
            self._running = False


def _about(path: Path) -> dict[str, Any]:
    from continuon.rlds.recording import open_recording

    try:
        with open_recording(path) as recording:
            metadata = recording.metadata
            return {
                "task": metadata.task,
                "tags": list(metadata.tags),
                "origin": metadata.origin.value,
                "action_source": metadata.action_source.value,
                "end_reason": recording.end_reason.value,
            }
    except DataError:
        # The report beside this says that the file is no whole recording.
        return {}


def _disk_error(error: OSError) -> ContinuonError:
    return ContinuonError(
        "E-ROBOT-RECORD-005",
        f"the recording cannot be written: {error.strerror}",
        where=error.filename,
        hint="free space; `continuon episodes recover` saves what stands in the file",
    )


def run(process: RecorderProcess, channel: Channel, clock: Clock) -> None:
    """Turn every 5 ms while recording, and on a message otherwise."""
    try:
        while process.turn():
            if process.recording:
                clock.sleep_until_ns(clock.monotonic_ns() + PUMP_NS)
            else:
                select.select([channel], [], [], _IDLE_S)
    finally:
        process.close()


def main(argv: list[str] | None = None) -> int:
    """Run one recorder on a feed; it is told what to record over the channel."""
    parser = argparse.ArgumentParser(prog="continuon.robot.recorder_process")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--feed", type=Path, required=True)
    parser.add_argument("--microphone")
    args = parser.parse_args(argv)
    channel = Channel.from_fd(args.fd)
    # The service ends the recorder by closing the channel, after the episode.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        feed = Feed.open(args.feed)
    except ContinuonError as error:
        channel.send({"id": 0, "error": error.as_dict()})
        return error.exit_code
    clock = SystemClock()
    try:
        channel.send({"id": 0, "ready": True})
    except BrokenPipeError:
        # Who started it is gone already: there is nobody to record for.
        return 0
    microphone = None
    if args.microphone is not None:
        microphone = partial(Microphone, clock=clock, device=args.microphone)
    process = RecorderProcess(feed, channel, clock, microphone=microphone)
    run(process, channel, clock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
