"""JSON by others as plain values, every text of them Unicode."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["parse_plain", "spelt_out"]


def parse_plain(data: bytes) -> tuple[Any, int]:
    r"""Return what JSON says, and how many of its texts were no Unicode.

    JSON may hold half of a character (a lone surrogate), which no file of ours can: it
    is spelt out, `\ud800`, so that nothing of the text is dropped.

    Raises:
        ValueError: no JSON. RecursionError: nested beyond reading.
    """
    value = json.loads(data)
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return _unicode(value)
    return value, 0


def _unicode(value: Any) -> tuple[Any, int]:
    if isinstance(value, str):
        text = spelt_out(value)
        return text, text != value
    if isinstance(value, list):
        items = [_unicode(item) for item in value]
        return [item for item, _ in items], sum(count for _, count in items)
    if isinstance(value, dict):
        pairs = [(_unicode(key), _unicode(item)) for key, item in value.items()]
        count = sum(a + b for (_, a), (_, b) in pairs)
        return {key: item for (key, _), (item, _) in pairs}, count
    return value, 0


def spelt_out(text: str) -> str:
    """Return a text with what is no Unicode in it as escapes, as of a file's name."""
    return text.encode(errors="backslashreplace").decode()
