"""Named illegal changes of a legal episode, and the finding that each must get."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from continuon._specs.episode.drafts import EpisodeDraft, legal_draft
from continuon.rlds.episode import Codec, ControlRole, EndReason, Share, StreamSpec
from continuon.rlds.images import encode_jpeg
from continuon.rlds.stream_spec import STEPS

__all__ = ["MUTATIONS", "VERSION"]

VERSION = 2
Change = Callable[[EpisodeDraft], EpisodeDraft]


def _metadata(**changes: Any) -> Change:
    return lambda draft: attrs.evolve(
        draft, metadata=attrs.evolve(draft.metadata, **changes)
    )


def _stream(name: str, change: Callable[[list[Any]], list[Any]]) -> Change:
    return lambda draft: attrs.evolve(
        draft,
        samples={**draft.samples, name: tuple(change(list(draft.samples[name])))},
    )


def _retime(name: str, change: Callable[[int, int], int]) -> Change:
    return _stream(
        name, lambda rows: [(change(i, at), blob) for i, (at, blob) in enumerate(rows)]
    )


def _replace(name: str, row: int, payload: Any) -> Change:
    def change(rows: list[Any]) -> list[Any]:
        rows[row] = (rows[row][0], payload)
        return rows

    return _stream(name, change)


def _codec(name: str, codec: Codec) -> Change:
    return lambda draft: attrs.evolve(
        draft,
        streams=tuple(
            attrs.evolve(s, codec=codec) if s.name == name else s for s in draft.streams
        ),
    )


def _sound(blocks: list[tuple[int, bytes]]) -> Change:
    spec = StreamSpec(name="audio", codec="audio", sample_rate_hz=16_000)
    return lambda draft: attrs.evolve(
        draft,
        streams=(*draft.streams, spec),
        samples={**draft.samples, "audio": tuple(blocks)},
    )


def _without(name: str) -> Change:
    return lambda draft: attrs.evolve(
        draft,
        streams=tuple(s for s in draft.streams if s.name != name),
        samples={n: rows for n, rows in draft.samples.items() if n != name},
    )


def _torn_steps(draft: EpisodeDraft) -> EpisodeDraft:
    """Add a stream of the plan's steps whose first document is cut."""
    steps = StreamSpec(name=STEPS, codec=Codec.DOCUMENT)
    return attrs.evolve(
        draft,
        streams=(*draft.streams, steps),
        samples={**draft.samples, STEPS: ((1_000_000_000, b'{"cut": '),)},
    )


def _repeat_frames(rows: list[Any]) -> list[Any]:
    return [(at, rows[0][1]) for at, _ in rows]


_OTHER_SIZE = encode_jpeg(np.zeros((24, 16, 3), np.uint8))
_TORN = encode_jpeg(np.zeros((12, 16, 3), np.uint8))[:-20]

MUTATIONS: Mapping[str, tuple[Change, str]] = {
    "role contradicts mode": (
        _metadata(control_role=ControlRole.HUMAN_DEV_XR),
        "E-EPISODE-ROLE-001",
    ),
    "environment is empty": (_metadata(environment_id=""), "E-EPISODE-META-001"),
    "software is empty": (_metadata(software={}), "E-EPISODE-META-001"),
    "start is unknown": (_metadata(start_wall_ns=0), "E-EPISODE-META-002"),
    "public without clearance": (
        _metadata(share=Share(public=True)),
        "E-EPISODE-SHARE-001",
    ),
    "no actions": (_stream("action", lambda _: []), "E-EPISODE-STREAM-001"),
    "a camera alone": (_without("action"), "E-EPISODE-STREAM-003"),
    "no frames": (_stream("rgb", lambda _: []), "E-EPISODE-STREAM-001"),
    "frames out of order": (
        _stream("rgb", lambda rows: [rows[1], rows[0], *rows[2:]]),
        "E-EPISODE-TIME-001",
    ),
    "two frames at one time": (
        _stream("rgb", lambda rows: [rows[0], (rows[0][0], rows[1][1]), *rows[2:]]),
        "E-EPISODE-TIME-002",
    ),
    "stamps that nobody measured": (
        _metadata(provenance={"stamp_source": "nominal"}),
        "E-EPISODE-TIME-005",
    ),
    "stamps of a conversion": (
        _retime("rgb", lambda i, _: 1_000_000_000 + 3_000_000 * i),
        "E-EPISODE-TIME-003",
    ),
    "camera stalls": (
        _retime("rgb", lambda i, at: at + (2_000_000_000 if i > 3 else 0)),
        "E-EPISODE-TIME-004",
    ),
    "camera at half its rate": (
        _retime("rgb", lambda i, _: 1_000_000_000 + 66_000_000 * i),
        "E-EPISODE-RATE-001",
    ),
    "clock never measured": (
        lambda draft: attrs.evolve(draft, offsets=()),
        "E-EPISODE-CLOCK-001",
    ),
    "depth 6 ms behind": (
        _retime("depth", lambda _, at: at + 5_200_000),
        "E-EPISODE-SKEW-001",
    ),
    "state at 10 Hz with an unmeasured clock": (
        lambda draft: attrs.evolve(
            _stream("state", lambda rows: rows[::5])(draft), offsets=()
        ),
        "E-EPISODE-SKEW-002",
    ),
    "action is not a number": (
        _replace("action", 3, np.float32([np.nan, 0])),
        "E-EPISODE-ACTION-001",
    ),
    "action beyond full scale": (
        _replace("action", 3, np.float32([1.5, 0])),
        "E-EPISODE-ACTION-002",
    ),
    "state without a reading": (
        _replace("state", 3, np.float32([np.nan])),
        "E-EPISODE-STATE-001",
    ),
    "speed in no unit": (
        lambda draft: attrs.evolve(
            draft,
            streams=tuple(
                attrs.evolve(s, names=("speed",)) if s.name == "state" else s
                for s in draft.streams
            ),
        ),
        "E-EPISODE-UNIT-003",
    ),
    "empty blob": (
        lambda draft: attrs.evolve(
            draft,
            streams=(*draft.streams, StreamSpec(name="sound", codec="blob")),
            samples={**draft.samples, "sound": ((1_000_000_000, b""),)},
        ),
        "E-EPISODE-BLOB-001",
    ),
    "half a sample": (
        _sound([(1_000_000_000, bytes(639))]),
        "E-EPISODE-SOUND-001",
    ),
    "sound with a hole": (
        _sound([(1_000_000_000 + i * 100_000_000, bytes(640)) for i in range(3)]),
        "E-EPISODE-SOUND-002",
    ),
    "sound kept as a blob": (
        lambda draft: attrs.evolve(
            draft,
            streams=(*draft.streams, StreamSpec(name="audio", codec="blob")),
            samples={**draft.samples, "audio": ((1_000_000_000, b"so"),)},
        ),
        "E-EPISODE-STREAM-002",
    ),
    "empty picture": (_replace("rgb", 2, b""), "E-EPISODE-IMAGE-001"),
    "torn picture": (_replace("rgb", 2, _TORN), "E-EPISODE-IMAGE-002"),
    "picture of another kind": (
        _replace("depth", 2, _TORN),
        "E-EPISODE-IMAGE-002",
    ),
    "picture of another size": (_replace("rgb", 2, _OTHER_SIZE), "E-EPISODE-IMAGE-003"),
    "some drops": (
        lambda draft: attrs.evolve(draft, drops={"action": 1}),
        "E-EPISODE-DROP-001",
    ),
    "many drops": (
        lambda draft: attrs.evolve(draft, drops={"rgb": 4}),
        "E-EPISODE-DROP-002",
    ),
    "the same frame again and again": (
        _stream("rgb", _repeat_frames),
        "E-EPISODE-DUP-001",
    ),
    "actions stop early": (
        _stream("action", lambda rows: rows[:2]),
        "E-EPISODE-VALID-002",
    ),
    "camera was lost": (
        lambda draft: attrs.evolve(draft, end_reason=EndReason.CAMERA_LOST),
        "E-EPISODE-END-001",
    ),
    "the file's end is lost": (
        lambda draft: attrs.evolve(draft, lost_bytes=20),
        "E-EPISODE-OPEN-001",
    ),
    "camera's stamps 8 ms from where its clock says": (
        lambda draft: attrs.evolve(draft, device_shift_ns={"rgb": -8_000_000}),
        "E-EPISODE-CLOCK-002",
    ),
    "depth kept as JPEG": (_codec("depth", Codec.JPEG), "E-EPISODE-STREAM-002"),
    "one step of 24 masked": (
        lambda _: _replace("state", 4, np.float32([np.nan]))(legal_draft(24)),
        "E-EPISODE-VALID-001",
    ),
    "steps of the plan that are cut": (_torn_steps, "E-EPISODE-STEP-001"),
    "one frame": (_stream("rgb", lambda rows: rows[:1]), "E-EPISODE-SHORT-001"),
}
"""Name -> (change, code of the finding). Others may come along; this one must."""
