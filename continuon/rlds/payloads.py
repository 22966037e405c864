"""What a recorder accepts as a sample: the right kind, size and length, or an error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError
from continuon.rlds.depth_codecs import DEPTH_CODECS
from continuon.rlds.episode import ACTION, Codec, StreamSpec
from continuon.rlds.images import jpeg_size, png_size
from continuon.rlds.sample_queue import Payload

__all__ = ["check_time", "document_payload", "image_payload", "vector_payload"]


def image_payload(
    spec: StreamSpec, image: NDArray[np.uint8] | NDArray[np.uint16] | bytes
) -> Payload:
    """Return a frame to be queued: an array's copy, or encoded bytes as they are.

    Raises:
        ContractError: the image does not fit the stream.
        DataError: the bytes are not of the stream's codec.
    """
    payload: Payload
    if isinstance(image, bytes):
        size = _encoded_size(spec.codec, image)
        payload = image
    else:
        _check_pixels(spec, image)
        size = (image.shape[1], image.shape[0])
        payload = image.copy()
    wanted = (spec.width or size[0], spec.height or size[1])
    if size != wanted:
        raise ContractError(
            "E-RLDS-RECORD-004",
            "a frame of another size than its stream's",
            where=spec.name,
            seen=size,
            allowed=wanted,
        )
    return payload


def vector_payload(
    spec: StreamSpec, values: Sequence[float] | NDArray[np.floating]
) -> NDArray[np.float32]:
    """Return a vector sample to be queued, float32 [components].

    Raises:
        ContractError: wrong length, or an action that is not finite.
    """
    array = np.array(values, np.float32)
    if array.shape != (len(spec.names),):
        raise ContractError(
            "E-RLDS-RECORD-005",
            "a vector of another length than its stream's",
            where=spec.name,
            seen=array.shape,
            allowed=(len(spec.names),),
        )
    if spec.name == ACTION and not np.isfinite(array).all():
        raise ContractError(
            "E-RLDS-ACTION-001",
            "an action is finite; this one is refused",
            where=spec.name,
            seen=array.tolist(),
        )
    return array


def document_payload(stream: str, document: bytes) -> bytes:
    """Return a document to be queued, as it is.

    Raises:
        ContractError: it does not start and end as a JSON object.
    """
    if document[:1] != b"{" or document[-1:] != b"}":
        raise ContractError(
            "E-RLDS-RECORD-011",
            "a document is one JSON object",
            where=stream,
            seen=f"{len(document)} bytes, first {document[:8]!r}",
        )
    return document


def check_time(stream: str, capture_ns: int) -> None:
    """Refuse a capture time that a file cannot hold.

    Raises:
        ContractError: negative, or beyond 63 bits.
    """
    if not 0 <= capture_ns < 1 << 63:
        raise ContractError(
            "E-RLDS-RECORD-008",
            "a capture time is a count of nanoseconds since the clock's epoch",
            where=stream,
            seen=capture_ns,
            allowed="0 to 2**63 - 1",
        )


def _encoded_size(codec: Codec, image: bytes) -> tuple[int, int]:
    if codec.is_depth:
        return DEPTH_CODECS[codec].size(image)
    return jpeg_size(image) if codec is Codec.JPEG else png_size(image)


def _check_pixels(spec: StreamSpec, image: NDArray[np.generic]) -> None:
    colour = not spec.codec.is_depth
    dtype = np.dtype(np.uint8 if colour else np.uint16)
    channels = image.shape[2:] == (3,) if colour else image.ndim == 2
    if image.dtype != dtype or not channels or image.size == 0:
        raise ContractError(
            "E-RLDS-RECORD-009",
            "an image of another kind than its stream's",
            where=spec.name,
            seen=f"{image.dtype} {image.shape}",
            allowed="uint8 [height, width, 3]" if colour else "uint16 [height, width]",
        )
