"""The contract as JSON Schema, made from the types that read and write it."""

from __future__ import annotations

from typing import Any

import msgspec

from continuon.rlds.episode import SCHEMA_VERSION, EpisodeMetadata, StreamSpec
from continuon.rlds.step import Step

__all__ = ["episode_schema", "episode_schema_json"]


def episode_schema() -> dict[str, Any]:
    """Return a JSON Schema (2020-12) with `metadata`, `streams` and one `step`."""
    kinds = (EpisodeMetadata, StreamSpec, Step)
    (metadata, stream, step), defined = msgspec.json.schema_components(kinds)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"continuon episode {SCHEMA_VERSION}",
        "type": "object",
        "properties": {
            "metadata": metadata,
            "streams": {"type": "array", "items": stream},
            "steps": {"type": "array", "items": step},
        },
        "required": ["metadata", "steps"],
        "$defs": defined,
    }


def episode_schema_json() -> bytes:
    """Return the schema as it stands in `specs/episode/episode.schema.json`."""
    encoded = msgspec.json.encode(episode_schema(), order="sorted")
    return msgspec.json.format(encoded) + b"\n"
