"""JSON Schema of `edge_manifest.json`, made from the values that the parser fills."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from continuon.bundle.manifest import Manifest


def manifest_schema() -> dict[str, Any]:
    """Return the schema: no unknown keys, but top-level ones that start with `x-`."""
    schema: dict[str, Any] = msgspec.json.schema(Manifest)
    for definition in schema["$defs"].values():
        definition["additionalProperties"] = False
    top = schema["$defs"]["Manifest"]
    del top["properties"]["extensions"]
    top["patternProperties"] = {"^x-": {}}
    top["required"] = sorted({*top["required"], "schema"})
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def render() -> str:
    """Return the text of `edge_manifest.schema.json`."""
    return json.dumps(manifest_schema(), indent=1, sort_keys=True) + "\n"
