"""Streams that each have their own times, merged into one episode."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs

from continuon.errors import DataError
from continuon.rlds.depth_codecs import decode_depth, depth_codec_of
from continuon.rlds.episode import Codec, EndReason, EpisodeMetadata, StreamSpec
from continuon.rlds.images import decode_colour
from continuon.rlds.importers.harvest import Harvest
from continuon.rlds.importers.write import ImportedEpisode, Reading
from continuon.rlds.png_file import is_png

__all__ = ["SourceStream", "in_time_order", "is_whole_picture", "merged_episode"]


@attrs.frozen(eq=False, kw_only=True)
class SourceStream:
    """One stream as its source holds it.

    Attributes:
        stamp_ns: time of each sample, never decreasing.
        device_ns: the device's own stamps, where the source has both.
        load: returns sample number i: encoded bytes, an array, or numbers.
    """

    spec: StreamSpec
    stamp_ns: Sequence[int]
    load: Callable[[int], Any]
    device_ns: Sequence[int | None] | None = None

    def readings(self, order: int) -> Iterator[tuple[int, int, int]]:
        """Yield (time, place among streams, row), in time order."""
        for row, at in enumerate(self.stamp_ns):
            yield at, order, row


def merged_episode(
    metadata: EpisodeMetadata,
    streams: Sequence[SourceStream],
    end_reason: EndReason = EndReason.STOPPED,
    *,
    jpeg_quality: int = 95,
) -> ImportedEpisode:
    """Return an episode of all samples by time, those at one time by stream."""
    return ImportedEpisode(
        metadata=metadata,
        streams=tuple(stream.spec for stream in streams),
        readings=partial(_readings, tuple(streams)),
        counts={stream.spec.name: len(stream.stamp_ns) for stream in streams},
        end_reason=end_reason,
        jpeg_quality=jpeg_quality,
    )


def _readings(streams: Sequence[SourceStream]) -> Iterator[Reading]:
    ordered = [stream.readings(order) for order, stream in enumerate(streams)]
    for at, order, row in heapq.merge(*ordered):
        stream = streams[order]
        device = None if stream.device_ns is None else stream.device_ns[row]
        yield Reading(stream.spec.name, stream.load(row), at, device)


def is_whole_picture(data: bytes, codec: Codec) -> bool:
    """Return whether bytes are a picture of this codec that decodes to its end."""
    try:
        if codec.is_depth:
            return depth_codec_of(data) is codec and decode_depth(data).size > 0
        if is_png(data) != (codec is not Codec.JPEG):
            return False
        decode_colour(data)
    except DataError:
        return False
    return True


def in_time_order(stamps: Sequence[int], harvest: Harvest, name: str) -> list[int]:
    """Return the rows whose time is not before that of the row kept last."""
    kept: list[int] = []
    for row, at in enumerate(stamps):
        if kept and at < stamps[kept[-1]]:
            harvest.lose("E-RLDS-LOSS-016", name)
        else:
            kept.append(row)
    return kept
