"""The first walk over a bag: its topics, which streams they become, and its clocks."""

from __future__ import annotations

import attrs
import msgspec
import numpy as np

from continuon.rlds.episode import ACTION, DEPTH, RGB, STATE, StreamSpec
from continuon.rlds.importers.bag_sources import BagMessage, BagSource
from continuon.rlds.importers.harvest import Harvest, ImportOptions
from continuon.rlds.importers.ros_messages import (
    Picture,
    encoded_picture,
    header_ns,
    is_picture_type,
    numbers_of,
    picture_of,
)
from continuon.rlds.importers.table import usable_name
from continuon.rlds.vocabulary import Codec

__all__ = [
    "HEADER_CLOCK",
    "Plan",
    "Topic",
    "capture_ns",
    "clock_offset",
    "depth_unit_m",
    "is_object",
    "picture_in",
    "shift_ns",
    "stream_names",
    "stream_specs",
    "survey",
    "vector_topics",
]

HEADER_CLOCK = "header"
"""The clock of stamps in message headers, where it is not the recorder's."""
_SAME_CLOCK_NS = 10_000_000_000
"""Headers this near to the recorder's time count the same clock (NTP, one host)."""
_COMMANDS = (
    "geometry_msgs/msg/Twist",
    "geometry_msgs/msg/TwistStamped",
    "ackermann_msgs/msg/AckermannDrive",
    "ackermann_msgs/msg/AckermannDriveStamped",
)
_COLOUR = frozenset({Codec.JPEG, Codec.PNG})
_STATES = ("sensor_msgs/msg/JointState", "nav_msgs/msg/Odometry")
_DEPTH_UNIT = "/option/Depth Units/value"


@attrs.define
class Topic:
    """What the first walk learnt of a topic.

    Attributes:
        streams: the streams that its messages go to, with their codecs.
        names: of the components, where one of them is a vector.
    """

    kind: str
    count: int = 0
    codec: Codec = Codec.DOCUMENT
    size: tuple[int, int] | None = None
    numbers: tuple[str, ...] | None = None
    delays: list[int] = attrs.field(factory=list)
    first_log_ns: int = 0


@attrs.frozen(kw_only=True)
class Plan:
    """Which stream each topic goes to, and how its times are read."""

    streams: dict[str, str]
    vectors: dict[str, str]
    topics: dict[str, Topic]
    offset_ns: int
    shift_ns: int
    quality: int | None


def survey(source: BagSource, options: ImportOptions) -> dict[str, Topic]:
    """Walk the messages once: topics, codecs, sizes, and what delays they show."""
    topics: dict[str, Topic] = {}
    for message in source.messages():
        topic = topics.setdefault(message.topic, Topic(message.kind))
        if not topic.count:
            topic.first_log_ns = message.log_ns
            picture = picture_in(message)
            topic.codec = _codec_of(message, picture)
            if picture is not None and options.jpeg_quality is not None:
                is_raw = not isinstance(picture.value, bytes)
                to_jpeg = is_raw and topic.codec is Codec.PNG
                topic.codec = Codec.JPEG if to_jpeg else topic.codec
            values = numbers_of(message.value) if message.value is not None else None
            topic.numbers = None if values is None else tuple(values)
        topic.count += 1
        stamp = header_ns(message.value)
        if stamp is not None:
            topic.delays.append(message.log_ns - stamp)
    return topics


def picture_in(message: BagMessage) -> Picture | None:
    """Return the picture that a message is, None where it is none of ours."""
    if message.picture is not None:
        return encoded_picture(message.picture)
    if message.value is not None and is_picture_type(message.kind):
        return picture_of(message.value)
    return None


def _codec_of(message: BagMessage, picture: Picture | None) -> Codec:
    if picture is not None:
        return picture.codec
    is_document = message.value is not None or is_object(message.json)
    return Codec.DOCUMENT if is_document else Codec.BLOB


def is_object(json: bytes | None) -> bool:
    """Return whether bytes are one JSON object."""
    try:
        return json is not None and isinstance(msgspec.json.decode(json), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def stream_names(topics: dict[str, Topic], options: ImportOptions) -> dict[str, str]:
    """Return the stream of each topic: the first cameras are `rgb` and `depth`."""
    pictures = (n for n, t in topics.items() if t.codec in _COLOUR or t.codec.is_depth)
    options.check_named("camera", pictures)
    names: dict[str, str] = {}
    order = sorted(topics, key=lambda name: (name != options.camera, name))
    for topic in order:
        codec = topics[topic].codec
        colour = RGB if codec in _COLOUR else None
        main = DEPTH if codec.is_depth else colour
        taken = (*names.values(), RGB, DEPTH, STATE, ACTION)
        if main is not None and main not in names.values():
            names[topic] = main
        else:
            names[topic] = usable_name(topic.strip("/"), taken)
    return names


def vector_topics(
    topics: dict[str, Topic], options: ImportOptions, harvest: Harvest
) -> dict[str, str]:
    """Return the topics that are commands or state, and become vectors too."""
    for option in (ACTION, STATE):
        options.check_named(option, (n for n, t in topics.items() if t.numbers))
    chosen: dict[str, str] = {}
    for stream, wanted, usual in (
        (ACTION, options.action, _COMMANDS),
        (STATE, options.state, _STATES),
    ):
        fit = [
            name
            for name, topic in topics.items()
            if topic.numbers and (name == wanted if wanted else topic.kind in usual)
        ]
        if len(fit) == 1:
            chosen[fit[0]] = stream
            harvest.note(f"{fit[0]} is taken as the {stream}")
        elif len(fit) > 1:
            harvest.note(f"several topics could be the {stream}: {', '.join(fit)}")
    return chosen


def clock_offset(topics: dict[str, Topic]) -> tuple[int, int]:
    """Return (ns from the headers' clock to the recorder's, its uncertainty).

    Zero where both are the same clock. A delay is never negative, so the smallest
    difference is nearest to the offset; the spread of all says how well it is known.
    """
    delays = [delay for topic in topics.values() for delay in topic.delays]
    if not delays or abs(int(np.median(delays))) < _SAME_CLOCK_NS:
        return 0, 0
    return min(delays), max(delays) - min(delays)


def capture_ns(message: BagMessage, offset_ns: int) -> int:
    """Return a message's time in the recorder's clock."""
    stamp = header_ns(message.value)
    return message.log_ns if stamp is None else stamp + offset_ns


def shift_ns(source: BagSource, topics: dict[str, Topic], offset_ns: int) -> int:
    """Return what must be added so that no time is negative."""
    if not any(topic.delays for topic in topics.values()):
        return 0
    earliest = min(capture_ns(m, offset_ns) for m in source.messages())
    return max(0, -earliest)


def stream_specs(
    plan: Plan, topics: dict[str, Topic], counts: dict[str, int], unit_m: float
) -> tuple[StreamSpec, ...]:
    """Return the streams that get any sample, in the order of the topics."""
    specs = []
    for name, topic in topics.items():
        clock = HEADER_CLOCK if plan.offset_ns and topic.delays else "host"
        stream = plan.streams[name]
        is_deep = topic.codec.is_depth
        if counts.get(stream):
            specs.append(
                StreamSpec(
                    name=stream,
                    codec=topic.codec,
                    clock=clock,
                    depth_unit_m=unit_m if is_deep else 0.001,
                )
            )
        vector = plan.vectors.get(name)
        if vector is not None and counts.get(vector):
            specs.append(
                StreamSpec(
                    name=vector,
                    codec=Codec.VECTOR,
                    names=topic.numbers or (),
                    clock=clock,
                )
            )
    return tuple(specs)


def depth_unit_m(source: BagSource, options: ImportOptions, harvest: Harvest) -> float:
    """Return metres per count: the option, the camera's own word, or 1 mm (REP 118)."""
    if options.depth_unit_m is not None:
        return options.depth_unit_m
    for message in source.messages():
        if message.topic.endswith(_DEPTH_UNIT) and message.value is not None:
            said = float(str(np.float32(message.value.data)))
            harvest.note(f"{message.topic} says that a count of depth is {said:g} m")
            return said
    return 0.001
