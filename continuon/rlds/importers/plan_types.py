"""Plain JSON of the plan's steps and metadata into types; what does not fit is kept.

A field that fits its type becomes it; one that does not, or that the contract does not
know, stands as JSON text in `step_metadata` or the provenance, so that nothing is lost
and nothing is taken for what it is not.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from continuon.rlds.action import Action
from continuon.rlds.observation import Observation
from continuon.rlds.sharing import Safety, Share
from continuon.rlds.step import Step
from continuon.rlds.vocabulary import (
    ActionSource,
    ControlRole,
    Origin,
    XrMode,
    role_problem,
)

__all__ = ["metadata_facts", "source_origin", "stamp_of", "typed_step"]

_KNOWN_STEP = {
    "observation",
    "action",
    "reward",
    "is_first",
    "is_last",
    "is_terminal",
    "valid",
    "language_instruction",
    "step_metadata",
    "step_index",
    "timestamp_ns",
    "clock",
    "episode_id",
}
_MAX_MS = 2**63 // 1_000_000
_TEXTS = ("environment_id", "robot_id", "robot_model", "frame_convention", "owner")


def typed_step(raw: Mapping[str, Any], index: int, stamp_ns: int) -> Step:
    """Return a step; what does not fit is in its `step_metadata` as JSON text."""
    rest: dict[str, str] = {}
    observation = _typed(Observation, raw.get("observation"), "observation", rest)
    given = dict(raw["action"]) if isinstance(raw.get("action"), dict) else {}
    given.setdefault("source", "unknown")
    if not given.get("command"):
        wheel = [given.pop(k, None) for k in ("steering", "throttle")]
        if all(isinstance(value, int | float) for value in wheel):
            given["command"] = wheel
    action = _typed(Action, given, "action", rest)
    said = raw.get("step_metadata")
    if isinstance(said, dict):
        rest |= {str(key): _text(value) for key, value in said.items()}
    elif said is not None:
        rest["source:step_metadata"] = _text(said)
    for key in sorted(set(raw) - _KNOWN_STEP):
        rest[f"source:{key}"] = _text(raw[key])
    reward = raw.get("reward")
    instruction = raw.get("language_instruction")
    return Step(
        step_index=index,
        timestamp_ns=stamp_ns,
        observation=observation,
        action=action,
        reward=_number(reward),
        is_first=index == 0,
        is_terminal=bool(raw.get("is_terminal", False)),
        valid=raw.get("valid", True) is not False,
        language_instruction=instruction if isinstance(instruction, str) else None,
        step_metadata=rest,
    )


def _typed(kind: Any, raw: Any, path: str, rest: dict[str, str]) -> Any:
    """Build an attrs value field by field; what does not fit goes to `rest`."""
    table = raw if isinstance(raw, dict) else {}
    if raw is not None and not isinstance(raw, dict):
        rest[f"source:{path}"] = _text(raw)
    fields = {field.name: field for field in attrs.fields(attrs.resolve_types(kind))}
    values: dict[str, Any] = {}
    for key, value in table.items():
        field = fields.get(key)
        if value is None:
            continue
        if field is None or not _is_finite(value):
            rest[f"source:{path}.{key}"] = _text(value)
            continue
        try:
            values[key] = msgspec.convert(value, field.type, strict=True)
        except (msgspec.ValidationError, OverflowError, RecursionError):
            rest[f"source:{path}.{key}"] = _text(value)
            continue
        left = _unknown(value, msgspec.to_builtins(values[key]))
        if left:
            rest[f"source:{path}.{key}"] = _text(left)
    if kind is Action:
        values.setdefault("source", "unknown")
    return kind(**values)


def _is_finite(value: Any) -> bool:
    """Return whether every number anywhere in a value is finite, as in JSON it is."""
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _unknown(raw: Any, known: Any) -> Any:
    """Return the parts of `raw` that conversion left out, None where none."""
    if isinstance(raw, dict) and isinstance(known, dict):
        left = {
            key: value if key not in known else _unknown(value, known[key])
            for key, value in raw.items()
        }
        return {key: value for key, value in left.items() if value is not None} or None
    if isinstance(raw, list) and isinstance(known, list) and len(raw) == len(known):
        left_of = [_unknown(a, b) for a, b in zip(raw, known, strict=True)]
        return left_of if any(item is not None for item in left_of) else None
    return None


def stamp_of(raw: Mapping[str, Any]) -> int | None:
    """Return a step's time in ns from wherever it stood; None where nowhere."""
    seen = _below(raw, "observation")
    video, state = _below(seen, "video"), _below(seen, "robot_state")
    said = _below(raw, "step_metadata")
    for value, scale in (
        (raw.get("timestamp_ns"), 1),
        (video.get("timestamp_ns"), 1),
        (seen.get("frame_timestamp_ns"), 1),
        (raw.get("timestamp_micros"), 1000),
        (state.get("timestamp_nanos"), 1),
        (raw.get("timestamp_ms"), 1_000_000),
        (raw.get("timestamp"), 1_000_000_000),
        (said.get("timestamp"), 1_000_000_000),
    ):
        at = _nanoseconds(value, scale)
        if at is not None:
            return at
    return None


def _below(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = table.get(key)
    return inner if isinstance(inner, dict) else {}


def _nanoseconds(value: Any, scale: int) -> int | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            try:
                moment = dt.datetime.fromisoformat(value)
            except ValueError:
                return None
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=dt.UTC)
            epoch = dt.datetime.fromtimestamp(0, dt.UTC)
            return (moment - epoch) // dt.timedelta(microseconds=1) * 1000
    if not _is_number(value) or not 0 < value < 9e18 / scale:
        return None
    return value * scale if isinstance(value, int) else round(value * scale)


def metadata_facts(
    raw: Mapping[str, Any], sources: set[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return (fields of the metadata, provenance of all that did not fit).

    Mode, role and source are taken where they agree by R-EPISODE-04, else they stand in
    the provenance and the episode has the role of a demonstration.
    """
    fields: dict[str, Any] = {}
    rest: dict[str, str] = {}
    source = next(iter(sources)) if len(sources) == 1 else ""
    trio = (raw.get("xr_mode"), raw.get("control_role"), source)
    fields |= _roles(*trio)
    if not fields:
        for key, value in zip(("xr_mode", "control_role"), trio, strict=False):
            if value is not None:
                rest[f"source:{key}"] = _text(value)
    if sources:
        rest["source:action_source"] = ", ".join(sorted(sources))
    known = {"xr_mode", "control_role", "action_source", "total_steps", "steps"}
    for key, value in raw.items():
        if key in known or value is None:
            continue
        fitted = _fitted(key, value)
        if fitted is None:
            rest[f"source:{key}"] = _text(value)
        else:
            fields[key] = fitted
    return fields, rest


def _roles(mode: Any, role: Any, source: str) -> dict[str, Any]:
    try:
        trio = XrMode(mode), ControlRole(role), ActionSource(source)
    except ValueError:
        return {}
    if role_problem(*trio) is not None:
        return {}
    return dict(zip(("xr_mode", "control_role", "action_source"), trio, strict=True))


def _fitted(key: str, value: Any) -> Any:
    """Return a metadata value in our type, None where it does not fit."""
    if key in _TEXTS:
        return value if isinstance(value, str) and value else None
    if key in {"tags", "capabilities"}:
        fits = isinstance(value, list) and all(isinstance(v, str) for v in value)
        return tuple(value) if fits else None
    if key == "software":
        fits = isinstance(value, dict)
        return {str(k): _text(v) for k, v in value.items()} if fits else None
    if key in {"share", "safety"}:
        try:
            kind = Share if key == "share" else Safety
            found = msgspec.convert(value, kind, strict=True)
        except (msgspec.ValidationError, RecursionError):
            return None
        left = _unknown(value, msgspec.to_builtins(found))
        return None if left else found
    if key in {"start_time_unix_ms", "duration_ms"}:
        fits = isinstance(value, int) and 0 <= value < _MAX_MS
        return value if fits else None
    return None


def source_origin(raw: Mapping[str, Any]) -> Origin | None:
    """Return what the source calls itself, where that is an origin of the contract."""
    said = [raw.get("origin")]
    tags = raw.get("tags")
    if isinstance(tags, list):
        texts = [tag for tag in tags if isinstance(tag, str)]
        said += [t.partition(":")[2] for t in texts if t.startswith("origin:")]
    for value in said:
        if isinstance(value, str) and value in {member.value for member in Origin}:
            return Origin(value)
    return None


def _number(value: Any) -> float | None:
    return float(value) if _is_number(value) else None


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and (isinstance(value, int) or math.isfinite(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
