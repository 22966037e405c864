"""Checks of a rig's camera: detected, format, rate, age, and RGB-to-depth skew."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np

from continuon.errors import ContinuonError
from continuon.health.body import absent
from continuon.health.levels import Level, regrade
from continuon.health.report import Check
from continuon.health.thresholds import bounds
from continuon.rig.protocols import Frame, Rig
from continuon.rig.skew import PairSkew, StreamStamps, pair_skews, skew_stats

__all__ = ["Watched", "check_camera", "check_skew", "watch_camera"]

POLL_NS = 4_000_000


@attrs.frozen(eq=False, kw_only=True)
class Watched:
    """What a camera gave while it was watched.

    Attributes:
        stamps_ns: int64 [N], capture times.
        skew_ns: int64 [M], depth minus RGB exposure, of frames that have both.
        shape: of the first RGB picture, or None without a frame.
        depth_shape: of the first depth picture, or None.
        sequences: int64 [N].
        watched_s: how long it was watched.
        last_age_s: age of the newest frame at the end, or None.
        pairs: skew of every pair of streams that was seen, with its uncertainty.
        failure: why it could not be watched, or None.
    """

    stamps_ns: Any
    skew_ns: Any
    shape: tuple[int, ...] | None
    depth_shape: tuple[int, ...] | None
    sequences: Any
    watched_s: float
    last_age_s: float | None
    pairs: tuple[PairSkew, ...]
    failure: str | None


def watch_camera(rig: Rig, *, watch_s: float) -> Watched | None:
    """Poll camera and state for a while on the rig's clock; None without a camera."""
    camera, clock = rig.camera, rig.clock
    if camera is None:
        return None
    frames: list[tuple[int, int, int | None]] = []
    readings: list[int] = []
    first: Frame | None = None
    failure = None
    begin = now = clock.monotonic_ns()
    try:
        camera.open()
        begin = now = clock.monotonic_ns()
        while now - begin < watch_s * 1e9:
            frame = camera.poll()
            if frame is not None:
                first = frame if first is None else first
                stamps = (frame.capture_ns, frame.sequence, frame.depth_capture_ns)
                frames.append(stamps)
            if rig.state is not None and (sample := rig.state.poll()) is not None:
                readings.append(sample.capture_ns)
            clock.sleep_until_ns(now + POLL_NS)
            now = clock.monotonic_ns()
    except ContinuonError as error:
        failure = str(error)
    skew = [depth - rgb for rgb, _, depth in frames if depth is not None]
    has_depth = first is not None and first.depth is not None
    return Watched(
        stamps_ns=np.array([stamp for stamp, _, _ in frames], np.int64),
        skew_ns=np.array(skew, np.int64),
        shape=None if first is None else first.rgb.shape,
        depth_shape=first.depth.shape if has_depth else None,  # type: ignore[union-attr]
        sequences=np.array([sequence for _, sequence, _ in frames], np.int64),
        watched_s=(now - begin) / 1e9,
        last_age_s=(now - frames[-1][0]) / 1e9 if frames else None,
        pairs=() if failure else _pairs(rig, frames, readings),
        failure=failure,
    )


def _pairs(
    rig: Rig, frames: list[tuple[int, int, int | None]], readings: list[int]
) -> tuple[PairSkew, ...]:
    """Put each stream's stamps beside the others'."""
    assert rig.camera is not None
    if not frames:
        return ()
    offset = rig.camera.clock_offset()
    clocked = [
        ("rgb", offset, [rgb for rgb, _, _ in frames]),
        ("depth", offset, [depth for _, _, depth in frames if depth is not None]),
    ]
    if rig.state is not None:
        clocked.append(("state", rig.state.clock_offset(), readings))
    return pair_skews(
        [
            StreamStamps(
                name=name,
                clock=by.device,
                stamps_ns=np.array(stamps, np.int64),
                uncertainty_ns=by.uncertainty_ns,
            )
            for name, by, stamps in clocked
            if stamps
        ]
    )


def check_camera(
    rig: Rig,
    watched: Watched | None,
    limits: dict[str, Any],
    *,
    before: Level | None = None,
) -> Check:
    """Grade the camera's presence, delivered format and rate."""
    origin = rig.origin
    if watched is None or rig.camera is None:
        return Check(
            name="camera",
            level=Level.UNKNOWN,
            text=absent(rig, "camera", "there is no camera on this rig"),
            figures={"camera_detected": False},
            origin=origin,
            hint="check the ribbon cable, then `continuon rig scan`",
        )
    camera = rig.camera
    count = len(watched.stamps_ns)
    figures: dict[str, Any] = {"camera_detected": count > 0, "camera_frames": count}
    if watched.failure is not None:
        return Check(
            name="camera",
            level=Level.CRITICAL,
            text=watched.failure,
            figures={**figures, "camera_detected": False},
            origin=origin,
        )
    if watched.shape is None or watched.last_age_s is None:
        return Check(
            name="camera",
            level=Level.STALE,
            text=f"no frame in {watched.watched_s:.1f} s",
            figures=figures,
            origin=origin,
            hint="check the camera's cable and supply",
        )
    wanted = (camera.height, camera.width)
    sizes = {watched.shape[:2], watched.depth_shape or wanted}
    rate_hz = 0.0
    if count > 1:
        span_ns = int(watched.stamps_ns[-1] - watched.stamps_ns[0])
        rate_hz = (count - 1) * 1e9 / span_ns
    dropped = int(watched.sequences[-1] - watched.sequences[0]) + 1 - count
    figures |= {
        "camera_width_px": watched.shape[1],
        "camera_height_px": watched.shape[0],
        "camera_depth": watched.depth_shape is not None,
        "camera_rate_hz": round(rate_hz, 3),
        "camera_drops": dropped,
        "camera_age_s": round(watched.last_age_s, 4),
    }
    if sizes != {wanted} or watched.shape[2:] != (3,):
        level = Level.CRITICAL
        text = f"delivers {watched.shape}, asked for {wanted} with 3 channels"
    elif watched.last_age_s > limits["stale_after_s"]:
        level, text = Level.STALE, f"newest frame is {watched.last_age_s:.1f} s old"
    else:
        text = f"{wanted[1]}x{wanted[0]} at {rate_hz:.1f} Hz, {dropped} dropped"
        limit = bounds(limits, "rate_fraction", above=False)
        level = regrade(rate_hz / camera.rate_hz, limit, before=before)
    return Check(name="camera", level=level, text=text, figures=figures, origin=origin)


def check_skew(
    rig: Rig,
    watched: Watched | None,
    limits: dict[str, Any],
    *,
    min_pairs: int,
    before: Level | None = None,
) -> Check:
    """Grade the measured time between RGB and depth exposures of the same frame.

    What the clocks' offsets leave uncertain counts as skew; for the two pictures of one
    camera that is nothing.
    """
    stats = None if watched is None else skew_stats(watched.skew_ns)
    if stats is None or stats.p99_ms is None or stats.pairs < min_pairs:
        pairs = 0 if stats is None else stats.pairs
        return Check(
            name="skew",
            level=Level.UNKNOWN,
            text=f"{pairs} pairs of RGB and depth, {min_pairs} needed",
            figures={"skew_pairs": pairs},
            origin=rig.origin,
            hint="connect the depth camera",
        )
    assert watched is not None
    by_pair = {
        f"skew_{pair.first}_{pair.second}_{name}": figure
        for pair in watched.pairs
        for name, figure in pair.figures().items()
    }
    of_both = (p for p in watched.pairs if {p.first, p.second} == {"rgb", "depth"})
    unsure_ms = next((pair.uncertainty_ms for pair in of_both), 0.0)
    level = regrade(
        stats.p99_ms + unsure_ms, bounds(limits, "p99_ms", above=True), before=before
    )
    return Check(
        name="skew",
        level=level,
        text=f"RGB to depth p99 {stats.p99_ms:.2f} ms over {stats.pairs} pairs",
        figures={
            "skew_pairs": stats.pairs,
            "skew_p50_ms": stats.p50_ms,
            "skew_p99_ms": stats.p99_ms,
            "skew_max_ms": stats.max_ms,
            "skew_uncertainty_ms": unsure_ms,
            **by_pair,
        },
        origin=rig.origin,
        hint=None if level is Level.OK else "use one camera for RGB and depth",
    )
