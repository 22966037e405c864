"""From JSON objects to attrs values and back, refusing keys nobody defined."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs
import msgspec

from continuon.errors import ContractError

__all__ = ["structure", "unstructure"]

_T = TypeVar("_T")
_PLAIN = (str, int, float, bool)


def structure(value: Any, kind: type[_T], *, where: str) -> _T:
    """Return `value` as an instance of the attrs class `kind`.

    Raises:
        ContractError: E-BUNDLE-MAN-002 for an unknown key, -001 for a missing key or a
            value of the wrong type; the message holds the path.
    """
    _check_keys(value, kind, "$", where)
    try:
        return msgspec.convert(value, type=kind, strict=True)
    except msgspec.ValidationError as error:
        raise ContractError(
            "E-BUNDLE-MAN-001",
            "a key is missing or holds the wrong type",
            seen=str(error),
            where=where,
        ) from error


def unstructure(value: Any) -> Any:
    """Return plain dicts and lists; keys whose value is None are kept."""
    return msgspec.to_builtins(value)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in attrs.fields(kind)}


def _check_keys(value: Any, kind: Any, path: str, where: str) -> None:
    if attrs.has(kind):
        if not isinstance(value, Mapping):
            return
        hints = _hints(kind)
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise ContractError(
                "E-BUNDLE-MAN-002",
                "a key that this schema does not define",
                seen=", ".join(f"{path}.{name}" for name in unknown),
                allowed="the schema's keys; extensions start with x- at the top level",
                where=where,
            )
        for name in value:
            if hints[name] not in _PLAIN:
                _check_keys(value[name], hints[name], f"{path}.{name}", where)
        return
    inner = typing.get_args(kind)
    origin = typing.get_origin(kind)
    if origin is tuple and isinstance(value, list):
        for index, item in enumerate(value):
            _check_keys(item, inner[0], f"{path}[{index}]", where)
    elif origin in (types.UnionType, typing.Union):
        for option in inner:
            _check_keys(value, option, path, where)
