"""Episodes of a live robot: who may begin one, what it says of itself, its verdict."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import msgspec

from continuon.clock import Clock
from continuon.durable import replace_file
from continuon.errors import ContinuonError, ContractError
from continuon.home import Home
from continuon.rlds.episode import (
    ActionSource,
    ControlRole,
    EndReason,
    EpisodeMetadata,
    XrMode,
    role_problem,
)
from continuon.rlds.layout import PART_SUFFIX, SUFFIX
from continuon.robot.capture_episode import EpisodeNotes
from continuon.robot.feed import Feed
from continuon.robot.feed_facts import episode_metadata
from continuon.robot.modes import Mode, ModeState, Motion
from continuon.robot.recorder_handle import RecorderHandle

__all__ = ["CLIENTS", "MAX_DURATION_S", "Recordings", "Wish"]

MAX_DURATION_S = 600.0
CLIENTS = ("cockpit", "companion", "xr", "terminal")
"""What a person drives with; stands in the episode's provenance as `client`."""

_KEPT_RESULTS = 200
_RESTART_NS = 5_000_000_000
_HUMAN = {
    ActionSource.HUMAN_TELEOP_XR: (XrMode.TRAINER, ControlRole.HUMAN_TELEOP),
    ActionSource.HUMAN_DEV_XR: (XrMode.WORKSTATION, ControlRole.HUMAN_DEV_XR),
    ActionSource.HUMAN_SUPERVISOR: (XrMode.OBSERVER, ControlRole.HUMAN_SUPERVISOR),
    ActionSource.VLA_POLICY: (XrMode.OBSERVER, ControlRole.HUMAN_SUPERVISOR),
}


@attrs.frozen(kw_only=True)
class Wish:
    """What a person says of an episode that shall begin.

    Attributes:
        source: whose commands it will hold; None takes the mode's usual one.
        xr_mode, control_role: None takes those that go with the source.
        client: what the person drives with.
    """

    task: str
    tags: tuple[str, ...] = ()
    source: ActionSource | None = None
    xr_mode: XrMode | None = None
    control_role: ControlRole | None = None
    client: str = "cockpit"
    max_duration_s: float = MAX_DURATION_S
    provenance: Mapping[str, str] = attrs.field(factory=dict)


class Recordings:
    """The recorder and the shelf of finished episodes. Safe to call from threads.

    Args:
        home: where episodes and their verdicts lie.
        feed_path: what the loop publishes.
        robot_id: what the robot is called.
        clock: the host's.
        microphone: ALSA's name of the one whose sound goes with each episode.
    """

    def __init__(
        self,
        home: Home,
        feed_path: Path,
        *,
        robot_id: str,
        clock: Clock,
        microphone: str | None = None,
    ) -> None:
        self._home = home
        self._feed_path = feed_path
        self._robot_id = robot_id
        self._clock = clock
        self._beginning = threading.Lock()
        self._lock = threading.Lock()
        self._source: ActionSource | None = None
        self._current: str | None = None
        self._ended = threading.Condition(self._lock)
        self._results: dict[str, dict[str, Any]] = {}
        self._unkept: dict[str, dict[str, Any]] = {}
        self._taken = 0
        self._restart_due_ns = 0
        self.recorder = RecorderHandle(feed_path, self._heard, microphone=microphone)

    @property
    def source(self) -> ActionSource | None:
        """Whose commands are being recorded; None while nothing is."""
        return self._source if self._current is not None else None

    @property
    def finished(self) -> int:
        """Episodes that ended since the service started."""
        return self._taken

    def begin(self, state: ModeState, wish: Wish) -> dict[str, Any]:
        """Begin an episode in this state of the robot.

        Raises:
            ContractError: E-ROBOT-RECORD-001 the robot does nothing that could be
                recorded, or the wish contradicts itself.
            ContinuonError: the recorder cannot, with its own code.
        """
        metadata = self._metadata(state, wish)
        # Events come on the thread that also brings the recorder's answer, and take
        # `_lock`: it is not held while waiting for that answer.
        with self._beginning:
            episode_id = self.recorder.begin(
                self._home.episodes,
                metadata,
                time_limit_ns=round(min(wish.max_duration_s, MAX_DURATION_S) * 1e9),
            )
            with self._lock:
                if episode_id not in self._results:
                    self._current, self._source = episode_id, metadata.action_source
        return {"episode_id": episode_id, "action_source": metadata.action_source.value}

    def end(self, reason: EndReason, *, wait_s: float = 0.0) -> dict[str, Any] | None:
        """End the episode under way; with `wait_s`, wait for its summary.

        Returns what is known of it then; None where nothing was being recorded.
        """
        with self._lock:
            current = self._current
            if current is None:
                return None
            self.recorder.end(reason)
            self._ended.wait_for(lambda: current in self._results, timeout=wait_s)
            return self._results.get(current, {"episode_id": current})

    def motion_ended(self, state: ModeState, *, by_itself: bool = False) -> None:
        """Give the recorder the reason why the robot no longer moves; never waits.

        `by_itself`: nobody asked for the stop, so that it is a fault.
        """
        if self._current is None:
            return
        is_emergency = state.mode is Mode.E_STOP
        reason = EndReason.FAULT if by_itself else EndReason.STOPPED
        reason = EndReason.EMERGENCY_STOP if is_emergency else reason
        # A recorder that is gone or deaf must not keep a stop from being reported; it
        # sees for itself that nothing moves, or `watch` sees that it died.
        with contextlib.suppress(ContinuonError):
            self.recorder.end(reason)

    def watch(self) -> None:
        """Notice that the recorder died, and start another, at most each 5 s."""
        if self.recorder.alive:
            return
        with self._lock:
            if self._current is not None:
                lost = {"episode_id": self._current, "lost": "the recorder died"}
                self._results[self._current] = lost
                self._current = None
                self._ended.notify_all()
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._restart_due_ns:
            self._restart_due_ns = now_ns + _RESTART_NS
            self.recorder.close()
            self.recorder.launch()

    def judge(self, episode_id: str) -> None:
        """Ask for a verdict on a finished recording.

        Raises:
            ContractError: E-ROBOT-RECORD-008, there is no such recording.
        """
        if episode_id not in {path.stem for path in self._paths()}:
            raise ContractError(
                "E-ROBOT-RECORD-008", "there is no such recording", seen=episode_id
            )
        self.recorder.judge(self._home.episodes / f"{episode_id}{SUFFIX}")

    def current(self) -> dict[str, Any] | None:
        """Return what is known of the episode under way."""
        return self.recorder.progress() if self._current is not None else None

    def shelf(self) -> list[dict[str, Any]]:
        """Return the recordings on disk, with the verdict where there is one."""
        rows = []
        for path in self._paths():
            size = path.stat().st_size
            row = {"episode_id": path.stem, "bytes": size}
            rows.append(row | self._verdict(path.stem, size))
        parts = sorted(self._home.episodes.glob(f"*{PART_SUFFIX}"))
        for part in parts:
            name = part.name.removesuffix(PART_SUFFIX)
            if name != self._current:
                rows.append(
                    {
                        "episode_id": name,
                        "bytes": part.stat().st_size,
                        "torn": "run continuon episodes recover",
                    }
                )
        return rows

    def close(self) -> None:
        """Finish what is being recorded and end the recorder."""
        self.recorder.close()

    def _metadata(self, state: ModeState, wish: Wish) -> EpisodeMetadata:
        if not state.facts.records or state.motion is Motion.NONE:
            raise ContractError(
                "E-ROBOT-RECORD-001",
                "the robot does nothing that could be recorded",
                seen=f"{state.mode}, executing={state.executing}",
                allowed="TRAINING or AUTONOMOUS, started",
                hint="request TRAINING, then START",
            )
        is_policy = state.motion is Motion.POLICY
        usual = ActionSource.VLA_POLICY if is_policy else ActionSource.HUMAN_TELEOP_XR
        source = wish.source or usual
        mode, role = _HUMAN[source]
        mode, role = wish.xr_mode or mode, wish.control_role or role
        problem = role_problem(mode, role, source)
        if is_policy != (source is ActionSource.VLA_POLICY):
            problem = f"in {state.mode} {usual} acts, not {source}"
        if problem is not None:
            raise ContractError(
                "E-ROBOT-RECORD-009",
                "mode, role and source contradict each other",
                seen=problem,
            )
        wall_ns = self._clock.wall_ns()
        said: dict[str, Any] = {
            "task": wish.task,
            "tags": wish.tags,
            "xr_mode": mode,
            "control_role": role,
            "action_source": source,
            "robot_id": self._robot_id,
            "provenance": {"client": wish.client, **wish.provenance},
        }
        feed = Feed.open(self._feed_path)
        try:
            facts = feed.facts
        finally:
            feed.close()
        return episode_metadata(
            facts,
            EpisodeNotes(**said),
            episode_id=_name(wall_ns),
            start_wall_ns=wall_ns,
        )

    def _heard(self, event: dict[str, Any]) -> None:
        """Take the recorder's events, on its reader's thread."""
        episode_id = str(event["episode_id"])
        if event["event"] == "judged":
            self._keep(episode_id, event["report"], event["about"])
            return
        result = {key: value for key, value in event.items() if key != "event"}
        with self._lock:
            self._results[episode_id] = result
            if len(self._results) > _KEPT_RESULTS:
                del self._results[next(iter(self._results))]
            self._taken += 1
            if self._current == episode_id:
                self._current = None
            self._ended.notify_all()

    def _keep(
        self, episode_id: str, report: dict[str, Any], about: dict[str, Any]
    ) -> None:
        path = self._home.episodes / f"{episode_id}{SUFFIX}"
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            # Somebody removed it while it was judged.
            return
        verdict = {
            "bytes": size,
            "about": about,
            "ok": report["ok"],
            "errors": report["errors"],
            "warnings": report["warnings"],
            "figures": report["figures"],
            "judged_wall_ns": self._clock.wall_ns(),
        }
        try:
            replace_file(self._verdict_path(episode_id), msgspec.json.encode(verdict))
        except OSError:
            # A full disk: the verdict is shown until the service ends.
            self._unkept[episode_id] = verdict

    def _verdict(self, episode_id: str, size: int) -> dict[str, Any]:
        """Return the kept verdict, unless there is none, or it is of other bytes."""
        kept = dict(self._unkept.get(episode_id, {}))
        try:
            kept = kept or msgspec.json.decode(
                self._verdict_path(episode_id).read_bytes()
            )
        except (FileNotFoundError, msgspec.DecodeError):
            return {}
        if kept.pop("bytes", None) != size:
            return {}
        about: dict[str, Any] = kept.pop("about", {})
        return about | {"verdict": kept}

    def _verdict_path(self, episode_id: str) -> Path:
        return self._home.state / "verdicts" / f"{episode_id}.json"

    def _paths(self) -> list[Path]:
        folder = self._home.episodes
        return sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


def _name(wall_ns: int) -> str:
    """Return an episode's id: its start in UTC to the millisecond."""
    seconds, rest_ns = divmod(wall_ns, 1_000_000_000)
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%Y%m%dT%H%M%S}-{rest_ns // 1_000_000:03d}"
