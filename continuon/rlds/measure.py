"""Figures of an episode: rates, steps, skew, repeats; and pictures judged unopened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.depth_codecs import depth_size
from continuon.rlds.depth_lz4 import check_depth_lz4
from continuon.rlds.episode import ACTION, DEPTH, RGB, STATE, Codec
from continuon.rlds.images import jpeg_size, png_size
from continuon.rlds.png8 import COLOUR_KINDS
from continuon.rlds.png16 import DEPTH_KINDS
from continuon.rlds.png_file import png_header
from continuon.rlds.recording import BlobSequence, Recording, Stream
from continuon.rlds.steps import UNKNOWN_NS, EpisodeSteps

__all__ = [
    "duplicate_frames",
    "episode_figures",
    "image_problems",
    "median_step_ns",
    "percentiles_ms",
    "rate_hz",
]


def rate_hz(capture_ns: NDArray[np.int64]) -> float | None:
    """Return samples a second over the whole span; None for fewer than two."""
    span = int(capture_ns.max() - capture_ns.min()) if len(capture_ns) > 1 else 0
    return (len(capture_ns) - 1) * 1e9 / span if span > 0 else None


def median_step_ns(capture_ns: NDArray[np.int64]) -> float:
    """Return the median time from sample to sample; 0.0 for fewer than two."""
    return float(np.median(np.diff(capture_ns))) if len(capture_ns) > 1 else 0.0


def percentiles_ms(times_ns: NDArray[np.int64]) -> dict[str, float] | None:
    """Return p50, p99 and max of the magnitudes in ms; None where none was measured."""
    known = np.abs(times_ns[times_ns != UNKNOWN_NS]) / 1e6
    if not known.size:
        return None
    p50, p99 = np.percentile(known, (50, 99))
    return {"p50": float(p50), "p99": float(p99), "max": float(known.max())}


def duplicate_frames(images: Sequence[bytes]) -> int:
    """Return how many frames are byte for byte the one before."""
    if isinstance(images, BlobSequence):
        sizes, views = images.sizes(), images.views()
    else:
        sizes = np.array([len(blob) for blob in images], np.int64)
        views = [memoryview(blob) for blob in images]
    alike = np.flatnonzero((sizes[1:] == sizes[:-1]) & (sizes[1:] > 0))
    return sum(bytes(views[row + 1]) == bytes(views[row]) for row in alike.tolist())


def image_problems(stream: Stream) -> Iterator[tuple[str, int, str]]:
    """Yield (short code, row, what was seen) of pictures that cannot be whole.

    Headers, sizes and end markers are read; pixels are not decoded.
    """
    codec = stream.spec.codec
    wanted = (stream.spec.width, stream.spec.height)
    for row, view in enumerate(stream.blobs.views()):
        if not len(view):
            yield "IMAGE-001", row, "0 bytes"
            continue
        try:
            size, problem = _size(view, codec), _problem(view, codec)
        except DataError as error:
            yield "IMAGE-002", row, error.what
            continue
        if problem is not None:
            yield "IMAGE-002", row, problem
        wanted = (wanted[0] or size[0], wanted[1] or size[1])
        if size != wanted:
            yield "IMAGE-003", row, f"{size} for {wanted}"


def _problem(view: memoryview, codec: Codec) -> str | None:
    """Return what a picture with a legal header lacks, None where it lacks nothing."""
    if codec is Codec.DEPTH_LZ4:
        check_depth_lz4(bytes(view))
        return None
    is_jpeg = codec is Codec.JPEG
    end = b"\xff\xd9" if is_jpeg else b"IEND\xae\x42\x60\x82"
    if not bytes(view[-len(end) - 8 :]).rstrip(b"\x00").endswith(end):
        return "no end marker"
    pixels = COLOUR_KINDS if codec is Codec.PNG else DEPTH_KINDS
    if not is_jpeg and png_header(bytes(view[:64])).pixel not in pixels:
        return f"a PNG of another kind than {codec}"
    return None


def _size(view: memoryview, codec: Codec) -> tuple[int, int]:
    if codec is Codec.DEPTH_LZ4:
        return depth_size(bytes(view[:64]))
    if codec is not Codec.JPEG:
        return png_size(bytes(view[:64]))
    try:
        return jpeg_size(bytes(view[:2048]))
    except DataError:
        return jpeg_size(bytes(view))


def episode_figures(
    recording: Recording, steps: EpisodeSteps, duplicates: int
) -> dict[str, Any]:
    """Return what was measured, as plain numbers.

    `skew_ms` is what is left after alignment, by pair: for depth the distance of the
    two exposures; for a state the clocks' uncertainty where it was interpolated, else
    the distance of the nearest sample; for an action, which holds until the next one,
    the clocks' uncertainty is all there is and its `action_age_ms` stands beside it.
    `nearest_ms` is the plain distance of the nearest sample of each stream.
    """
    streams, skew = recording.streams, steps.skew_ns
    span_ns = int(steps.stamp_ns[-1] - steps.stamp_ns[0])
    figures: dict[str, Any] = {
        "steps": len(steps),
        "valid_steps": int(steps.valid.sum()),
        "duration_s": span_ns / 1e9,
        "step_dt_ms": percentiles_ms(np.diff(steps.stamp_ns)),
    }
    for name in (RGB, DEPTH, STATE, ACTION):
        stream = streams.get(name)
        # A stream without samples is false, and no figure.
        rate = None if stream is None else rate_hz(stream.capture_ns)
        figures[f"{name}_rate_hz"] = rate
    figures["rgb_size"] = _frame_size(streams.get(RGB))
    figures["depth_size"] = _frame_size(streams.get(DEPTH))
    residual = {
        "rgb-depth": skew.get("depth"),
        "rgb-state": skew.get("state_residual"),
        "rgb-action": skew.get("action_residual"),
    }
    figures["skew_ms"] = _measured(residual)
    figures["nearest_ms"] = _measured(
        {f"rgb-{name}": skew.get(name) for name in (DEPTH, STATE, ACTION)}
    )
    figures["action_age_ms"] = (
        percentiles_ms(skew["action_age"]) if "action_age" in skew else None
    )
    figures["duplicates"] = duplicates
    figures["drops"] = dict(recording.drops)
    return figures


def _measured(
    pairs: dict[str, NDArray[np.int64] | None],
) -> dict[str, dict[str, float]]:
    figures = {}
    for name, times in pairs.items():
        percentiles = None if times is None else percentiles_ms(times)
        if percentiles is not None:
            figures[name] = percentiles
    return figures


def _frame_size(stream: Stream | None) -> list[int] | None:
    if stream is None or not len(stream) or not stream.spec.is_image:
        return None
    if stream.spec.width and stream.spec.height:
        return [stream.spec.width, stream.spec.height]
    try:
        return list(_size(stream.blobs.view(0), stream.spec.codec))
    except DataError:
        return None
