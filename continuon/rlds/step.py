"""One step of the plan's episode, and its line of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import attrs
import msgspec

from continuon.errors import DataError
from continuon.rlds.action import Action
from continuon.rlds.observation import Observation
from continuon.rlds.vocabulary import Int64

__all__ = ["BlobRef", "Step", "blob_refs", "step_from_json", "step_to_json"]

_DECODER: msgspec.json.Decoder[Step]


@attrs.frozen(kw_only=True)
class Step:
    """An observation, the action in force, what came of it, and where it stands.

    Attributes:
        timestamp_ns: capture time of the video frame, in `clock`; of the step where
            there is none.
        reward: None where nobody gave one, which is not the same as 0.
        valid: False masks a step whose samples cannot be trusted.
    """

    step_index: Int64
    timestamp_ns: Int64
    clock: str = "host"
    observation: Observation
    action: Action
    reward: float | None = None
    is_first: bool = False
    is_last: bool = False
    is_terminal: bool = False
    valid: bool = True
    language_instruction: str | None = None
    step_metadata: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class BlobRef:
    """A blob that a step names: what kind it is and where it lies."""

    kind: str
    uri: str


_DECODER = msgspec.json.Decoder(Step)


def step_to_json(step: Step) -> bytes:
    """Return a step as one line of JSON, keys sorted; equal steps are equal bytes.

    JSON has no NaN: `msgspec` writes null for one, and reading that back is refused.
    """
    return msgspec.json.encode(step, order="sorted")


def step_from_json(line: bytes | memoryview, *, where: object = None) -> Step:
    """Parse a step, unknown fields ignored.

    Raises:
        DataError: not JSON, a field is missing, mistyped, or a number not finite.
    """
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "E-RLDS-STEP-001",
            f"a step does not fit the schema: {error}",
            where=where,
            hint="continuon episodes validate --profile lenient lists every such line",
        ) from error


def blob_refs(step: Step) -> Iterator[BlobRef]:
    """Yield the blobs that a step names, in the order of the observation's fields."""
    seen = step.observation
    if seen.video is not None:
        yield BlobRef("video", seen.video.uri)
    if seen.depth is not None:
        yield BlobRef("depth", seen.depth.uri)
    if seen.audio is not None:
        yield BlobRef("audio", seen.audio.uri)
    if seen.segmentation is not None:
        yield BlobRef("segmentation", seen.segmentation.uri)
