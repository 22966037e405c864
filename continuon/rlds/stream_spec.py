"""The streams of an episode: name, codec, clock, origin and units of each."""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs
import msgspec

from continuon.errors import ContractError, DataError
from continuon.rlds.units import unit_of
from continuon.rlds.vocabulary import Codec, Origin

__all__ = [
    "ACTION",
    "AUDIO",
    "BLOBS",
    "DEPTH",
    "HOST_CLOCKS",
    "NOMINAL_CLOCK",
    "RGB",
    "STATE",
    "STEPS",
    "StreamSpec",
    "streams_from_json",
    "streams_to_json",
]

RGB, DEPTH, STATE, ACTION, AUDIO = "rgb", "depth", "state", "action", "audio"
STEPS, BLOBS = "steps", "blobs"
"""Streams of the plan's steps as documents, and of what these name beside pictures."""
HOST_CLOCKS = frozenset({"host", "host-monotonic", "monotonic", "boottime", "wall"})
"""Names of clocks that need no measured offset: they are the recorder's own."""
NOMINAL_CLOCK = "nominal"
"""The clock of stamps that were counted up, not measured: nothing follows from them."""

_RESERVED = frozenset({"clock_offset"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_/.-]{0,63}")


def _strings(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


@attrs.frozen(kw_only=True)
class StreamSpec:
    """One stream of samples that share a codec and a clock.

    Attributes:
        name: "rgb", "depth", "state", "action" or another short name.
        names: components of a vector stream, units in the names; () for images.
        clock: the device clock that `device_ns` counts in; a host's needs no offset.
        rate_hz: nominal rate, None where the source did not say.
        width, height: of images in pixels, 0 for vectors or where not known.
        depth_unit_m: metres per count of a depth image.
        origin: where this stream's samples came from; None: where the episode did.
        sample_rate_hz: of sound, samples a second; its `rate_hz` is that of blocks.
        units: of the components of a vector, where their names do not say them.
    """

    name: str
    codec: Codec = attrs.field(converter=Codec)
    names: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    clock: str = "host"
    rate_hz: float | None = None
    width: int = 0
    height: int = 0
    depth_unit_m: float = 0.001
    origin: Origin | None = None
    units: tuple[str, ...] = attrs.field(default=(), converter=_strings)
    sample_rate_hz: int = 0

    def __attrs_post_init__(self) -> None:
        """Refuse a name, a shape or component names that no stream may have."""
        if not _NAME.fullmatch(self.name) or self.name in _RESERVED:
            raise ContractError(
                "E-RLDS-STREAM-001",
                "illegal stream name",
                seen=self.name,
                allowed="a letter, then up to 63 of A-Z a-z 0-9 _ / . -",
            )
        is_vector = self.codec is Codec.VECTOR
        if is_vector != bool(self.names) or len(set(self.names)) != len(self.names):
            raise ContractError(
                "E-RLDS-STREAM-002",
                "component names do not fit the codec",
                where=self.name,
                seen=self.names,
                allowed="one unique name a component for a vector; none for images",
            )
        if self.units and len(self.units) != len(self.names):
            raise ContractError(
                "E-RLDS-STREAM-005",
                "one unit a component, or none at all",
                where=self.name,
                seen=self.units,
                allowed=f"{len(self.names)} units",
            )
        if (self.sample_rate_hz > 0) != (self.codec is Codec.AUDIO):
            raise ContractError(
                "E-RLDS-STREAM-006",
                "sound has a sample rate, and nothing else has",
                where=self.name,
                seen=f"{self.sample_rate_hz} Hz, codec {self.codec}",
                allowed="above 0 for audio, 0 for the rest",
            )
        if not is_vector and min(self.width, self.height) < 0:
            raise ContractError(
                "E-RLDS-STREAM-003",
                "an image stream's size is not negative",
                where=self.name,
                seen=(self.width, self.height),
            )

    @property
    def is_image(self) -> bool:
        """True for streams of encoded pictures."""
        return self.codec in {Codec.JPEG, Codec.PNG} or self.codec.is_depth

    @property
    def is_vector(self) -> bool:
        """True for streams of numbers."""
        return self.codec is Codec.VECTOR

    def component_units(self) -> tuple[str | None, ...]:
        """Return the unit of each component; None where nobody said it."""
        return self.units or tuple(unit_of(name) for name in self.names)


def streams_to_json(streams: tuple[StreamSpec, ...]) -> bytes:
    """Return the stream table as JSON."""
    return msgspec.json.encode(streams, order="sorted")


def streams_from_json(data: bytes, *, where: object = None) -> tuple[StreamSpec, ...]:
    """Parse a stream table.

    Raises:
        DataError: not JSON or not a stream table.
    """
    try:
        return msgspec.json.decode(data, type=tuple[StreamSpec, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "E-RLDS-STREAM-004",
            f"stream table does not fit the schema: {error}",
            where=where,
        ) from error
