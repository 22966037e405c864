"""One episode of a live robot: everything new in the feed goes to the recorder.

`LiveEpisode.pump` never waits for the loop, and the loop never waits for it: what the
feed has dropped before it was read is counted as dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from continuon.errors import HardwareError
from continuon.rig.protocols import VectorSample
from continuon.rlds.episode import ACTION, DEPTH, RGB, STATE, EndReason, EpisodeMetadata
from continuon.rlds.recorder import EpisodeRecorder, RecordingSummary
from continuon.robot.ear import Ear, SoundInput, sound_stream
from continuon.robot.feed import CommandRow, Feed
from continuon.robot.feed_facts import APPLIED, episode_streams
from continuon.robot.kernel import Verdict

__all__ = ["LiveEpisode"]

QUEUE_SIZE = 48
"""Samples of a stream that may wait for their encoder: 1.6 s and 75 MB of RGB-D."""

CAMERA_LOST_NS = 1_000_000_000
LOOP_LOST_NS = 1_000_000_000
SAY_WHY_NS = 500_000_000
_OFFSET_PERIOD_NS = 1_000_000_000


def _first_since(
    read: Callable[[int], VectorSample | CommandRow | None], count: int, since_ns: int
) -> int:
    """Return the number of the oldest sample of at least `since_ns`.

    The first frame that is recorded was taken after `since_ns`: what was measured and
    in force at that time belongs to its step.
    """
    number = count
    while number > 0:
        sample = read(number - 1)
        if sample is None or _time_ns(sample) < since_ns:
            break
        number -= 1
    return number


def _time_ns(sample: VectorSample | CommandRow) -> int:
    return sample.now_ns if isinstance(sample, CommandRow) else sample.capture_ns


@attrs.define(eq=False)
class _Place:
    """How far one ring of the feed has been read."""

    number: int


class LiveEpisode:
    """An open recording of a running loop.

    Args:
        feed: what the loop publishes.
        directory: where `<episode_id>.mcap` will stand.
        metadata: what the episode says of itself.
        now_ns: host monotonic.
        time_limit_ns: after which it ends as `time_limit`.
        microphone: whose sound goes with it; opened here and closed with the episode.
        open_recorder: makes the recorder; tests put a failing disk behind it.

    Raises:
        HardwareError: E-ROBOT-RECORD-002, there is no camera, or it shows nothing; or
            the microphone's own.
        DataError: an episode of this name exists.
    """

    def __init__(
        self,
        feed: Feed,
        directory: Path,
        metadata: EpisodeMetadata,
        *,
        now_ns: int,
        time_limit_ns: int,
        microphone: SoundInput | None = None,
        open_recorder: Callable[..., EpisodeRecorder] = EpisodeRecorder,
    ) -> None:
        newest = feed.read_frame(feed.frame_count - 1) if feed.frame_count else None
        if newest is None or now_ns - newest.capture_ns > CAMERA_LOST_NS:
            raise HardwareError(
                "E-ROBOT-RECORD-002",
                "the camera shows nothing to record",
                where=feed.facts.rig,
                allowed="a frame within the last second",
                hint="check the camera's cable, then `continuon rig scan`",
            )
        self.metadata = metadata
        self._feed = feed
        self._has_depth = newest.depth is not None
        streams = episode_streams(feed.facts, has_depth=self._has_depth)
        if microphone is not None:
            microphone.open()
            streams = (*streams, sound_stream(microphone.rate_hz))
        self._recorder = open_recorder(
            directory, metadata, streams, queue_size=QUEUE_SIZE
        )
        try:
            self._recorder.open()
        except BaseException:
            if microphone is not None:
                microphone.close()
            raise
        self._ear = None if microphone is None else Ear(microphone, self._recorder)
        self._frames = _Place(feed.frame_count)
        since_ns = newest.capture_ns
        self._states = _Place(_first_since(feed.read_state, feed.state_count, since_ns))
        self._commands = _Place(
            _first_since(feed.read_command, feed.command_count, since_ns)
        )
        self._recorded_frames = 0
        self._began_ns = now_ns
        self._frame_ns = now_ns
        self._time_limit_ns = time_limit_ns
        self._offset_due_ns = now_ns
        self._silent_since_ns: int | None = None
        self._said: EndReason | None = None
        self._verdicts: Counter[str] = Counter()
        self._sources: Counter[str] = Counter()

    def say_why(self, reason: EndReason) -> None:
        """Give the reason of an end that the loop itself does not know."""
        self._said = self._said or reason

    def pump(self, now_ns: int) -> EndReason | None:
        """Hand over what is new; returns why the episode is over, else None."""
        self._pump_frames(now_ns)
        self._pump_states()
        stop = self._pump_commands(now_ns)
        self._pump_offsets(now_ns)
        if self._ear is not None:
            self._ear.pump(now_ns)
        if self._recorder.ended is not None:
            return self._recorder.ended
        if stop is not None:
            return stop
        if self._said is not None:
            return self._said
        pulse = self._feed.read_pulse()
        if pulse is None or now_ns - pulse.now_ns > LOOP_LOST_NS:
            return EndReason.FAULT
        if now_ns - self._frame_ns > CAMERA_LOST_NS:
            return EndReason.CAMERA_LOST
        if now_ns - self._began_ns >= self._time_limit_ns:
            return EndReason.TIME_LIMIT
        return None

    def progress(self, now_ns: int) -> dict[str, Any]:
        """Return what is known of it while it runs."""
        return {
            "episode_id": self.metadata.episode_id,
            "task": self.metadata.task,
            "duration_s": (now_ns - self._began_ns) / 1e9,
            "frames": self._recorded_frames,
            "drops": self._recorder.drops,
            "verdicts": dict(self._verdicts),
            "sources": dict(self._sources),
            "sound": self._sound(),
        }

    def close(self, reason: EndReason) -> RecordingSummary:
        """Finish the file.

        Raises:
            DataError: a frame could not be encoded; the file up to there is finished.
            OSError: the disk could not even hold the closing records.
        """
        if self._ear is not None:
            self._ear.close()
        return self._recorder.close(reason)

    def _sound(self) -> str:
        if self._ear is None:
            return "none"
        return "lost" if self._ear.lost else "recorded"

    def _pump_frames(self, now_ns: int) -> None:
        streams = (RGB, DEPTH) if self._has_depth else (RGB,)
        feed, place = self._feed, self._frames
        while place.number < feed.frame_count:
            frame = feed.read_frame(place.number, with_depth=self._has_depth)
            place.number += 1
            if frame is None:
                self._lose(streams)
                continue
            self._frame_ns = now_ns
            self._recorded_frames += 1
            self._recorder.rgb(
                frame.rgb, capture_ns=frame.capture_ns, device_ns=frame.device_ns
            )
            if not self._has_depth:
                continue
            if frame.depth is None or frame.depth_capture_ns is None:
                self._lose((DEPTH,))
                continue
            apart_ns = frame.depth_capture_ns - frame.capture_ns
            self._recorder.depth(
                frame.depth,
                capture_ns=frame.depth_capture_ns,
                device_ns=frame.device_ns + apart_ns,
            )

    def _pump_states(self) -> None:
        feed, place = self._feed, self._states
        if not feed.facts.state_names:
            return
        while place.number < feed.state_count:
            sample = feed.read_state(place.number)
            place.number += 1
            if sample is None:
                self._lose((STATE,))
                continue
            self._recorder.vector(
                STATE,
                sample.values,
                capture_ns=sample.capture_ns,
                device_ns=sample.device_ns,
            )

    def _pump_commands(self, now_ns: int) -> EndReason | None:
        feed, place = self._feed, self._commands
        stop = None
        while place.number < feed.command_count:
            row = feed.read_command(place.number)
            place.number += 1
            if row is None:
                self._lose((ACTION, APPLIED))
                continue
            self._record_command(row)
            self._silent_since_ns = None
            if row.verdict is Verdict.STOP:
                stop = EndReason.CAMERA_LOST if row.is_blind else EndReason.FAULT
        return stop or self._silence(now_ns)

    def _silence(self, now_ns: int) -> EndReason | None:
        """Return why no command goes out any more, once somebody should have said."""
        pulse = self._feed.read_pulse()
        if pulse is None or pulse.executing:
            return None
        if self._silent_since_ns is None:
            self._silent_since_ns = now_ns
        if self._said is not None:
            return self._said
        waited_ns = now_ns - self._silent_since_ns
        return EndReason.FAULT if waited_ns > SAY_WHY_NS else None

    def _record_command(self, row: CommandRow) -> None:
        self._verdicts[row.verdict.value] += 1
        self._recorder.vector(APPLIED, row.applied, capture_ns=row.now_ns)
        if row.source is None:
            return
        self._sources[row.source.value] += 1
        finite = bool(np.isfinite(row.intended).all())
        # What was no number was held: the held command is what was really intended.
        wanted = row.intended if finite else row.applied
        self._recorder.vector(ACTION, wanted, capture_ns=row.now_ns)

    def _pump_offsets(self, now_ns: int) -> None:
        if now_ns < self._offset_due_ns:
            return
        self._offset_due_ns = now_ns + _OFFSET_PERIOD_NS
        for which in ("camera", "state"):
            offset = self._feed.read_offset(which)
            if offset is not None:
                self._recorder.clock_offset(offset)

    def _lose(self, streams: tuple[str, ...]) -> None:
        for stream in streams:
            self._recorder.lose(stream)
