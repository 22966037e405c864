"""Episodes as plain values, written without the recorder's own checks.

A draft can hold what no recorder would accept, so that the validator's part can be
tested; `legal_draft` is one without fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from continuon.clock import ClockOffset
from continuon.rlds.episode import (
    ActionSource,
    ControlRole,
    EndReason,
    EpisodeMetadata,
    Origin,
    StreamSpec,
    XrMode,
)
from continuon.rlds.episode_log import EpisodeLog
from continuon.rlds.file_sink import FileSink
from continuon.rlds.images import encode_depth_png, encode_jpeg
from continuon.rlds.layout import SUFFIX, Opening, clock_channel
from continuon.rlds.sample_queue import Sample

__all__ = ["EpisodeDraft", "legal_draft", "legal_metadata", "write_draft"]


@attrs.frozen(kw_only=True)
class EpisodeDraft:
    """Samples by stream: (capture_ns, bytes or float32 vector), in file order.

    `device_shift_ns` is by stream how far the device's stamp is from the capture time,
    where it has one; `lost_bytes` are cut off the end of the finished file.
    """

    metadata: EpisodeMetadata
    streams: tuple[StreamSpec, ...]
    samples: Mapping[str, tuple[tuple[int, Any], ...]]
    offsets: tuple[ClockOffset, ...] = ()
    end_reason: EndReason = EndReason.COMPLETE
    drops: Mapping[str, int] = attrs.field(factory=dict)
    device_shift_ns: Mapping[str, int] = attrs.field(factory=dict)
    lost_bytes: int = 0


def legal_metadata(**changes: Any) -> EpisodeMetadata:
    """Return metadata that every profile accepts."""
    facts: dict[str, Any] = {
        "episode_id": "episode-1",
        "origin": Origin.SIMULATED,
        "xr_mode": XrMode.TRAINER,
        "control_role": ControlRole.HUMAN_TELEOP,
        "action_source": ActionSource.HUMAN_TELEOP_XR,
        "environment_id": "track-1",
        "robot_id": "car-1",
        "robot_model": "car",
        "frame_convention": "base_link",
        "software": {"continuon": "0"},
        "start_wall_ns": 1_700_000_000_000_000_000,
        "camera_rate_hz": 30.0,
        "control_rate_hz": 50.0,
    }
    return EpisodeMetadata(**(facts | changes))


def legal_draft(steps: int = 8, *, width: int = 16, height: int = 12) -> EpisodeDraft:
    """Return an RGB-D episode at 30 Hz with state and action at 50 Hz."""
    frame_ns, control_ns = 33_333_333, 20_000_000
    streams = (
        StreamSpec(name="rgb", codec="jpeg", clock="camera", rate_hz=30.0),
        StreamSpec(name="depth", codec="png16", clock="camera", rate_hz=30.0),
        StreamSpec(name="state", codec="vector", names=("speed_mps",), rate_hz=50.0),
        StreamSpec(name="action", codec="vector", names=("steering", "throttle")),
    )
    start = 1_000_000_000
    colour = [np.full((height, width, 3), i * 20 % 256, np.uint8) for i in range(steps)]
    depth = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    ticks = range(start - control_ns, start + steps * frame_ns + 60_000_000, control_ns)
    return EpisodeDraft(
        metadata=legal_metadata(),
        streams=streams,
        samples={
            "rgb": tuple(
                (start + i * frame_ns, encode_jpeg(image))
                for i, image in enumerate(colour)
            ),
            "depth": tuple(
                (start + i * frame_ns + 900_000, encode_depth_png(depth + i))
                for i in range(steps)
            ),
            "state": tuple((at, np.float32([at % 7])) for at in ticks),
            "action": tuple((at, np.float32([0.5, -0.25])) for at in ticks),
        },
        offsets=(ClockOffset("camera", 0, 200_000, start),),
    )


def write_draft(draft: EpisodeDraft, directory: Path) -> Path:
    """Write a draft as a finished recording, samples of all streams by time."""
    path = directory / f"{draft.metadata.episode_id}{SUFFIX}"
    sink = FileSink(path)
    log = EpisodeLog(sink, Opening(draft.metadata, draft.streams))
    log.open()
    channels = {spec.name: i for i, spec in enumerate(draft.streams, start=1)}
    rows = [
        (at, channels[name], sequence, payload)
        for name, samples in draft.samples.items()
        for sequence, (at, payload) in enumerate(samples)
    ]
    shifts = {channels[name]: shift for name, shift in draft.device_shift_ns.items()}
    clock = clock_channel(draft.streams)
    for sequence, offset in enumerate(draft.offsets):
        at = offset.measured_at_ns
        log.add(Sample(clock, sequence, at, None, offset))
    for at, channel, sequence, payload in sorted(rows, key=lambda r: (r[2], r[1])):
        shift = shifts.get(channel)
        device = None if shift is None else at + shift
        log.add(Sample(channel, sequence, at, device, payload))
    log.flush()
    log.finish(draft.end_reason, {channels[name]: n for name, n in draft.drops.items()})
    if draft.lost_bytes:
        sink.truncate(log.size - draft.lost_bytes)
    sink.close()
    return path
