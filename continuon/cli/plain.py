"""Plain command lines, bound without the parser library.

Importing cyclopts costs more than most commands do. A command line of positional
words, `--name value` and `--switch` needs none of it; whatever is less plain (help,
mistakes, odd types) is left to cyclopts, which also words the refusal. A law holds the
two to the same answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

__all__ = ["bind_plain"]

_MAX_DIGITS = 15
_SEQUENCES = (Sequence, list, tuple)


@attrs.frozen
class _Kind:
    """What one parameter takes."""

    convert: Callable[[str], Any]
    many: bool = False
    switch: bool = False


class _NotPlainError(Exception):
    """The parser library has to look at this command line."""


def bind_plain(
    function: Callable[..., Any], tokens: Sequence[str], *, partial: bool = False
) -> inspect.BoundArguments | None:
    """Return the arguments that plain `tokens` name, or None where they are not plain.

    With `partial`, required parameters may be missing. No default is filled in.
    """
    signature = inspect.signature(function)
    try:
        found = _read(signature.parameters, get_type_hints(function), tokens)
    except _NotPlainError:
        return None
    required = (
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is inspect.Parameter.empty
    )
    if not partial and any(name not in found for name in required):
        return None
    bound = signature.bind_partial()
    ordered = {name: found[name] for name in signature.parameters if name in found}
    bound.arguments.update(ordered)
    return bound


def _read(
    parameters: Mapping[str, inspect.Parameter],
    hints: Mapping[str, Any],
    tokens: Sequence[str],
) -> dict[str, Any]:
    positional = [
        name
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    flags = {f"--{name.replace('_', '-')}": name for name in parameters}
    if any(
        token.partition("=")[0] in flags
        and flags[token.partition("=")[0]] in positional
        for token in tokens
    ):
        raise _NotPlainError
    found: dict[str, Any] = {}
    queue = list(tokens)
    while queue:
        token = queue.pop(0)
        flag, equals, value = token.partition("=")
        if token[:1] != "-":
            left = [name for name in positional if name not in found]
            if not left:
                raise _NotPlainError
            _put(found, left[0], _kind(parameters, hints, left[0]), token)
            continue
        if flag not in flags:
            raise _NotPlainError
        kind = _kind(parameters, hints, flags[flag])
        if kind.switch and not equals:
            value = ""
        elif not equals:
            value = queue.pop(0) if queue else ""
        _put(found, flags[flag], kind, value)
    return found


def _put(found: dict[str, Any], name: str, kind: _Kind, text: str) -> None:
    if kind.switch != (not text) or text[:1] == "-":
        raise _NotPlainError
    value = kind.convert(text)
    if kind.many:
        found[name] = [*found.get(name, ()), value]
    elif name in found:
        raise _NotPlainError
    else:
        found[name] = value


def _kind(
    parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], name: str
) -> _Kind:
    """Return how a parameter's text is read; odd types are not plain."""
    hint = hints.get(name)
    if get_origin(hint) in (Union, UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        hint = kinds[0] if len(kinds) == 1 else None
    many = get_origin(hint) in _SEQUENCES
    if many:
        if parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY:
            raise _NotPlainError
        item, *rest = get_args(hint)
        hint = item if rest in ([], [Ellipsis]) else None
    if hint is bool and not many:
        return _Kind(_on, switch=True)
    if hint in (str, Path):
        return _Kind(hint, many)
    if hint is int:
        return _Kind(_integer, many)
    if get_origin(hint) is Literal:
        return _Kind(_one_of(get_args(hint)), many)
    raise _NotPlainError


def _on(_text: str) -> bool:
    return True


def _integer(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise _NotPlainError
    return int(text)


def _one_of(choices: tuple[Any, ...]) -> Callable[[str], Any]:
    def choose(text: str) -> Any:
        if text not in choices:
            raise _NotPlainError
        return text

    return choose
