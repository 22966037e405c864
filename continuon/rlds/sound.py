"""Sound in a recording: blocks of 16-bit samples as Foxglove's RawAudio.

The message is protobuf `foxglove.RawAudio` (timestamp 1, data 2, format 3, sample_rate
4, number_of_channels 5) with the device's own stamp beside it as field 1001, as in
pictures. A block's time is that of its first sample.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError
from continuon.rlds.descriptors import (
    BYTES,
    FIXED32_KIND,
    INT64,
    STRING,
    field_of,
    stamped_message_set,
)
from continuon.rlds.foxglove import DEVICE_NS_FIELD, stamp_of
from continuon.rlds.stream_spec import StreamSpec
from continuon.rlds.wire import FIXED32, LENGTH, Pieces, tag, varint

__all__ = [
    "AUDIO_SCHEMA_NAME",
    "audio_descriptor_set",
    "audio_message",
    "audio_payload",
    "missing_share",
]

AUDIO_SCHEMA_NAME = "foxglove.RawAudio"
_FORMAT = b"pcm-s16"
_SAMPLE_BYTES = 2


def audio_payload(spec: StreamSpec, samples: NDArray[np.int16]) -> bytes:
    """Return a block to be queued: little-endian 16-bit samples.

    Raises:
        ContractError: E-RLDS-RECORD-012, not int16 on one axis, or empty.
    """
    if samples.dtype != np.int16 or samples.ndim != 1 or not samples.size:
        raise ContractError(
            "E-RLDS-RECORD-012",
            "a block of sound is int16 with one axis, and not empty",
            where=spec.name,
            seen=f"{samples.dtype} {samples.shape}",
            allowed="int16 [samples]",
        )
    return samples.astype("<i2").tobytes()


def audio_message(
    pcm: bytes, *, sample_rate_hz: int, capture_ns: int, device_ns: int | None
) -> Pieces:
    """Return a RawAudio of one channel whose samples are shared, not copied."""
    head = Pieces()
    head.field(1, stamp_of(capture_ns))
    head.field(3, _FORMAT)
    head.add(tag(4, FIXED32) + struct.pack("<I", sample_rate_hz))
    head.add(tag(5, FIXED32) + struct.pack("<I", 1))
    if device_ns is not None:
        head.add(tag(DEVICE_NS_FIELD, 0) + varint(device_ns))
    message = Pieces()
    message.add(head.join() + tag(2, LENGTH) + varint(len(pcm)))
    message.add(pcm)
    return message


def audio_descriptor_set() -> bytes:
    """Return the FileDescriptorSet that describes `foxglove.RawAudio`."""
    members = (
        field_of("data", 2, BYTES),
        field_of("format", 3, STRING),
        field_of("sample_rate", 4, FIXED32_KIND),
        field_of("number_of_channels", 5, FIXED32_KIND),
        field_of("device_ns", DEVICE_NS_FIELD, INT64),
    )
    return stamped_message_set("foxglove", "RawAudio", members)


def missing_share(
    spec: StreamSpec, capture_ns: NDArray[np.int64], sizes: NDArray[np.int64]
) -> float:
    """Return which share of the time from the first block to the last has no sound.

    Args:
        spec: of the stream.
        capture_ns: int64 [blocks], of each block's first sample.
        sizes: int64 [blocks], bytes of each.

    Returns:
        0 to 1; 0 for fewer than two blocks, which span no time.
    """
    if len(capture_ns) < 2:
        return 0.0
    span_s = float(capture_ns[-1] - capture_ns[0]) / 1e9
    heard_s = float(sizes[:-1].sum()) / _SAMPLE_BYTES / spec.sample_rate_hz
    return max(0.0, 1.0 - heard_s / span_s) if span_s > 0 else 0.0
