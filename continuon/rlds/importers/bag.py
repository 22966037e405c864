"""Import a ROS bag or a foreign MCAP file: every message kept, its clocks named.

A message may carry two times: when it was recorded, and its header's stamp, by the
clock of whoever made it. Where headers have stamps these are the capture times; if they
count another clock than the recorder's, they are moved by the smallest delay that was
seen, and the file says so in a clock offset. Pictures become image streams, the topics
of the commands and the state vectors too, everything else documents; what cannot be
decoded is kept as it is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from continuon.clock import ClockOffset
from continuon.rlds.episode import ACTION, EndReason
from continuon.rlds.importers.bag_sources import (
    BagMessage,
    BagSource,
    mcap_source,
    rosbag_source,
)
from continuon.rlds.importers.bag_survey import (
    HEADER_CLOCK,
    Plan,
    Topic,
    capture_ns,
    clock_offset,
    depth_unit_m,
    is_object,
    picture_in,
    shift_ns,
    stream_names,
    stream_specs,
    survey,
    vector_topics,
)
from continuon.rlds.importers.facts import digest_of_files, imported_metadata
from continuon.rlds.importers.harvest import Harvest, ImportOptions, Located
from continuon.rlds.importers.locate import Format
from continuon.rlds.importers.own_times import is_whole_picture
from continuon.rlds.importers.ros_messages import (
    Picture,
    document_of,
    header_ns,
    numbers_of,
)
from continuon.rlds.importers.write import ImportedEpisode, Reading
from continuon.rlds.vocabulary import Codec

__all__ = ["import_bag", "import_mcap"]

_UNIX_2000_NS = 946_684_800_000_000_000
"""A recorder's time before this is no Unix time."""


def import_bag(
    found: Located, harvest: Harvest, options: ImportOptions
) -> Iterator[ImportedEpisode]:
    """Yield the one episode of a ROS 1 or ROS 2 bag."""
    kind = Format.ROSBAG2
    if found.root.is_file() and found.root.read_bytes()[:8] == b"#ROSBAG ":
        kind = Format.ROSBAG1
    source = rosbag_source(found.root)
    yield from _import(kind, source, found, harvest, options)


def import_mcap(
    found: Located, harvest: Harvest, options: ImportOptions
) -> Iterator[ImportedEpisode]:
    """Yield the one episode of an MCAP file that another program wrote."""
    source = mcap_source(found.root)
    yield from _import(Format.MCAP, source, found, harvest, options)


def _import(
    kind: Format,
    source: BagSource,
    found: Located,
    harvest: Harvest,
    options: ImportOptions,
) -> Iterator[ImportedEpisode]:
    topics = survey(source, options)
    if source.damage is not None:
        harvest.lose("E-RLDS-LOSS-003", f"{found.root.name} ({source.damage[:100]})")
    if not topics:
        return
    if source.undecoded:
        harvest.note(f"{source.undecoded} messages of unknown type are kept as bytes")
    streams = stream_names(topics, options)
    vectors = vector_topics(topics, options, harvest)
    offset, spread = clock_offset(topics)
    offsets: tuple[ClockOffset, ...] = ()
    plan = Plan(
        streams=streams,
        vectors=vectors,
        topics=topics,
        offset_ns=offset,
        shift_ns=shift_ns(source, topics, offset),
        quality=options.jpeg_quality,
    )
    counts = _count(source, plan, harvest)
    specs = stream_specs(plan, topics, counts, depth_unit_m(source, options, harvest))
    start = min(topic.first_log_ns for topic in topics.values())
    if offset:
        offsets = (ClockOffset(HEADER_CLOCK, offset + plan.shift_ns, spread, 0),)
        harvest.note(
            f"headers count another clock than the recorder: moved by {offset} ns, "
            f"known to {spread / 1e6:.1f} ms"
        )
    has_headers = any(topic.delays for topic in topics.values())
    harvest.note(
        "times are the headers' stamps where there are such, else of recording"
        if has_headers
        else "times are those of recording: no message has a stamp of its own"
    )
    facts = {f"stream:{stream}": topic for topic, stream in streams.items()}
    facts |= {f"stream:{stream}": topic for topic, stream in vectors.items()}
    facts |= {f"type:{topic}": value.kind for topic, value in topics.items()}
    facts |= {f"schema:{name}": text for name, text in source.schemas.items()}
    facts |= {"log_start_ns": str(start), "shift_ns": str(plan.shift_ns)}
    yield ImportedEpisode(
        metadata=imported_metadata(
            kind,
            found.name,
            digest_of_files(_files(found.root), found.root.parent),
            0,
            stamp_source="capture" if has_headers else "write",
            start_wall_ns=start if start > _UNIX_2000_NS else 0,
            facts=facts,
        ),
        streams=specs,
        readings=partial(_readings, source, plan),
        counts=counts,
        end_reason=EndReason.STOPPED,
        jpeg_quality=options.jpeg_quality or 95,
        clock_offsets=offsets,
    )


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    return sorted(path for path in root.rglob("*") if path.is_file())


def _samples(message: BagMessage, plan: Plan) -> Iterator[tuple[str, Any]]:
    """Yield (stream, value) of a message; a value of None does not fit its stream."""
    topic = plan.topics[message.topic]
    stream = plan.streams[message.topic]
    if topic.codec is Codec.DOCUMENT:
        document = message.json if is_object(message.json) else None
        if message.value is not None:
            document = document_of(message.value)
        yield stream, document
    elif topic.codec is Codec.BLOB:
        yield stream, message.raw
    else:
        yield stream, _fitting(picture_in(message), topic, plan)
    vector = plan.vectors.get(message.topic)
    if vector is not None:
        values = numbers_of(message.value) if message.value is not None else None
        fits = values is not None and tuple(values) == topic.numbers
        row = list(values.values()) if fits and values is not None else None
        finite = row is not None and (vector != ACTION or np.isfinite(row).all())
        yield vector, row if finite else None


def _fitting(picture: Picture | None, topic: Topic, plan: Plan) -> Any:
    """Return a picture's value where it is of its stream's kind and whole."""
    if picture is None:
        return None
    if isinstance(picture.value, bytes):
        whole = is_whole_picture(picture.value, topic.codec)
        return picture.value if whole else None
    raw = Codec.JPEG if plan.quality is not None else Codec.PNG
    codec = raw if picture.codec is Codec.PNG else picture.codec
    topic.size = topic.size or picture.size
    fits = codec is topic.codec and topic.size == picture.size
    return picture.value if fits else None


def _count(source: BagSource, plan: Plan, harvest: Harvest) -> dict[str, int]:
    """Walk the messages to see how many samples each stream will get."""
    counts: Counter[str] = Counter()
    lost: defaultdict[str, int] = defaultdict(int)
    for message in source.messages():
        for stream, value in _samples(message, plan):
            if value is None:
                lost[f"{message.topic} ({stream})"] += 1
            else:
                counts[stream] += 1
                is_raw = isinstance(value, np.ndarray)
                if is_raw and plan.topics[message.topic].codec is Codec.JPEG:
                    harvest.lose("E-RLDS-LOSS-010", message.topic)
    for name, count in lost.items():
        harvest.lose("E-RLDS-LOSS-014", name, count)
    return dict(counts)


def _readings(source: BagSource, plan: Plan) -> Iterator[Reading]:
    for message in source.messages():
        at = capture_ns(message, plan.offset_ns) + plan.shift_ns
        device = header_ns(message.value)
        for stream, value in _samples(message, plan):
            if value is not None:
                yield Reading(stream, value, at, device)
