"""The shape of a JSON object: which keys, of which kinds, with which defaults.

A shape is a plain table {key: (kind,) or (kind, default)}. A kind is `str`, `int`,
`float`, `bool`, `object` for anything, another table, or one of the classes here. The
typed values of this room are made from what passed; a test holds both to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

from continuon.errors import ContractError

__all__ = ["Many", "Maybe", "OneOf", "check_shape"]


class Many(NamedTuple):
    """A list of one kind."""

    kind: Any


class Maybe(NamedTuple):
    """One kind, or null."""

    kind: Any


class OneOf(NamedTuple):
    """One of some words."""

    words: tuple[str, ...]


_NAMES = {
    dict: "object",
    list: "array",
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    type(None): "null",
}


def check_shape(value: Any, shape: Mapping[str, Any], *, where: str) -> SimpleNamespace:
    """Return the object's values by attribute, defaults filled in.

    Raises:
        ContractError: E-BUNDLE-MAN-002 for an unknown key, -001 for a missing key or a
            value of the wrong type; the message holds the path.
    """
    _check_keys(value, shape, "$", where)
    return _object(value, shape, "$", where)


def _check_keys(value: Any, kind: Any, path: str, where: str) -> None:
    if isinstance(kind, Mapping):
        if not isinstance(value, dict):
            return
        unknown = sorted(set(value) - set(kind))
        if unknown:
            raise ContractError(
                "E-BUNDLE-MAN-002",
                "a key that this schema does not define",
                seen=", ".join(f"{path}.{name}" for name in unknown),
                allowed="the schema's keys; extensions start with x- at the top level",
                where=where,
            )
        for name, item in value.items():
            _check_keys(item, kind[name][0], f"{path}.{name}", where)
    elif isinstance(kind, Many) and isinstance(value, list):
        for index, item in enumerate(value):
            _check_keys(item, kind.kind, f"{path}[{index}]", where)
    elif isinstance(kind, Maybe):
        _check_keys(value, kind.kind, path, where)


def _object(
    value: Any, shape: Mapping[str, Any], path: str, where: str
) -> SimpleNamespace:
    if not isinstance(value, dict):
        raise _wrong("object", value, path, where)
    found = {}
    for name, (kind, *default) in shape.items():
        if name in value:
            found[name] = _read(value[name], kind, f"{path}.{name}", where)
        elif default:
            found[name] = default[0]
        else:
            raise _malformed(
                f"Object missing required field `{name}` - at `{path}`", where
            )
    return SimpleNamespace(**found)


def _read(value: Any, kind: Any, path: str, where: str) -> Any:
    if isinstance(kind, Mapping):
        return _object(value, kind, path, where)
    if isinstance(kind, Maybe):
        return None if value is None else _read(value, kind.kind, path, where)
    if isinstance(kind, Many):
        if not isinstance(value, list):
            raise _wrong("array", value, path, where)
        return tuple(
            _read(item, kind.kind, f"{path}[{index}]", where)
            for index, item in enumerate(value)
        )
    if isinstance(kind, OneOf):
        if value not in kind.words:
            raise _malformed(f"Invalid enum value {value!r} - at `{path}`", where)
        return value
    if kind is float and type(value) is int:
        return float(value)
    if kind is not object and type(value) is not kind:
        raise _wrong(_NAMES[kind], value, path, where)
    return value


def _wrong(expected: str, value: Any, path: str, where: str) -> ContractError:
    seen = _NAMES[type(value)]
    return _malformed(f"Expected `{expected}`, got `{seen}` - at `{path}`", where)


def _malformed(seen: str, where: str) -> ContractError:
    return ContractError(
        "E-BUNDLE-MAN-001",
        "a key is missing or holds the wrong type",
        seen=seen,
        where=where,
    )
