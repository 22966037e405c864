"""What binds a plain command line and what binds every command line agree."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon.cli.plain import bind_plain
from continuon.cli.program import _all_optional, _bind
from continuon.cli.table import Command
from continuon.errors import UsageError


def command(
    directory: Path,
    second: str | None = None,
    *,
    key: Sequence[Path] | None = None,
    names: Sequence[str] = (),
    kind: Literal["a", "b-c"] = "a",
    threshold: int = 1,
    replace: bool = False,
    ratio: float = 0.5,
) -> None:
    """Take one parameter of each type that a command has."""
    _ = directory, second, key, names, kind, threshold, replace, ratio


WORDS = st.sampled_from(
    [
        "x",
        "a/b",
        "7",
        "007",
        "-3",
        "1_0",
        "1e3",
        "a",
        "b-c",
        "é",
        "0x1",
        "true",
        "-",
        "--",
        "--key",
        "--key=k",
        "--key=",
        "--key=a=b",
        "--names",
        "--names=-1",
        "--kind",
        "--kind=b-c",
        "--threshold",
        "--threshold=2",
        "--replace",
        "--no-replace",
        "--replace=true",
        "--directory",
        "--second",
        "--ratio",
        "--ratio=1",
        "--nope",
        "-h",
        "",
    ]
)
TABLE = Command("laws", "laws:command", "")


@given(st.lists(WORDS, max_size=7), st.booleans())
def test_both_bind_the_same_or_the_plain_one_declines(tokens, partial):
    plain = bind_plain(command, tokens, partial=partial)
    if plain is None:
        return
    full = _bind(TABLE, _all_optional(command) if partial else command, tokens)
    assert dict(plain.arguments) == dict(full.arguments)
    assert [*plain.arguments] == [*full.arguments]


@pytest.mark.parametrize(
    "tokens",
    [["d"], ["d", "--key", "a", "--key=b"], ["d", "s", "--replace", "--kind", "b-c"]],
)
def test_a_plain_line_is_bound(tokens):
    assert bind_plain(command, tokens) is not None


@pytest.mark.parametrize("tokens", [[], ["--key"], ["d", "--ratio", "1"], ["d", "-x"]])
def test_what_is_not_plain_is_declined(tokens):
    assert bind_plain(command, tokens) is None


def test_a_missing_argument_is_still_a_usage_error():
    with pytest.raises(UsageError):
        _bind(TABLE, command, [])


@pytest.mark.slow
def test_verify_starts_without_the_parser_library(tmp_path):
    code = (
        "import sys; from continuon.cli.program import run; "
        f"run(['bundle', 'verify', {str(tmp_path)!r}, '--key', 'none']); "
        "print([m for m in ('cyclopts', 'rich', 'numpy', 'cryptography.x509', "
        "'cryptography.hazmat.primitives.serialization') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
