"""Results to standard output, diagnostics to standard error."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import attrs

from continuon.cli.entry import say_error
from continuon.cli.options import Common
from continuon.errors import ContinuonError

__all__ = ["Result", "emit", "emit_error", "plain", "say"]


@attrs.frozen(kw_only=True)
class Result:
    """What a command found.

    Attributes:
        data: the report for machines; plain values or attrs values.
        text: what a person reads; made from `data` when empty.
        exit_code: 0 done, 3 finished with a loss or a missed gate, and so on.
    """

    data: Any
    text: str = ""
    exit_code: int = 0


def plain(value: Any) -> Any:
    """Return a value in terms of JSON: arrays become lists, NaN becomes null.

    What has an `as_dict` of its own says there what its report holds.
    """
    if hasattr(value, "as_dict"):
        return plain(value.as_dict())
    if attrs.has(type(value)):
        fields = attrs.fields(type(value))
        return {f.name.lstrip("_"): plain(getattr(value, f.name)) for f in fields}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool | int | str) or value is None:
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def emit(result: Result, common: Common) -> int:
    """Print a result the way that was asked for and return the exit code."""
    if common.json:
        text = json.dumps(plain(result.data), indent=1, ensure_ascii=False)
        if common.json_path is None:
            print(text)
        else:
            _write(common.json_path, text + "\n")
    if not common.quiet and (not common.json or common.json_path is not None):
        print(result.text or _table(plain(result.data)))
    return result.exit_code


def emit_error(error: ContinuonError, common: Common) -> int:
    """Print an error's one line, and the same as JSON where that was asked for."""
    code = say_error(error)
    if common.json:
        text = json.dumps({"error": error.as_dict()}, indent=1, ensure_ascii=False)
        if common.json_path is None:
            print(text)
        else:
            try:
                _write(common.json_path, text + "\n")
            except OSError as failed:
                say(f"not written: {failed}")
    return code


def say(text: str) -> None:
    """Tell a person something that is not the result."""
    print(text, file=sys.stderr, flush=True)


def colour() -> bool:
    """Whether standard error is a terminal that wants colour."""
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


def _write(path: Path, text: str) -> None:
    from continuon.durable import replace_file

    replace_file(path, text.encode(errors="backslashreplace"))


def _table(data: Any, indent: str = "") -> str:
    if isinstance(data, dict):
        width = max((len(key) for key in data), default=0)
        lines = []
        for key, value in data.items():
            if isinstance(value, dict | list) and value:
                lines += [f"{indent}{key}", _table(value, indent + "  ")]
            else:
                lines.append(f"{indent}{key:<{width}}  {_cell(value)}")
        return "\n".join(lines)
    if isinstance(data, list):
        return "\n".join(
            _table(item, indent) if isinstance(item, dict) else f"{indent}{_cell(item)}"
            for item in data
        )
    return f"{indent}{_cell(data)}"


def _cell(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.6g}"
    if value in ([], {}):
        return "none"
    return str(value)
