"""JSON that two readers cannot understand differently: strict in, canonical out.

Reading refuses what JSON libraries disagree on: duplicate keys, non-finite numbers,
integers beyond 2^53, invalid UTF-8, lone surrogates, too much depth or size. Writing
follows RFC 8785 (JSON Canonicalization Scheme): keys in UTF-16 order, numbers as
ECMAScript prints them, no white space.
"""

from __future__ import annotations

import json
import math
from typing import Any

from continuon.errors import ContractError

__all__ = ["MAX_SAFE_INTEGER", "canonical_json", "parse_strict"]

MAX_SAFE_INTEGER = 2**53 - 1
MAX_JSON_BYTES = 1 << 20
MAX_JSON_DEPTH = 16


def parse_strict(
    data: bytes,
    *,
    where: str,
    max_bytes: int = MAX_JSON_BYTES,
    max_depth: int = MAX_JSON_DEPTH,
) -> Any:
    """Return the value of one JSON document.

    Raises:
        ContractError: E-BUNDLE-JSON-001 size, -002 depth, -003 not UTF-8 JSON,
            -004 a key twice in one object, -005 a number that readers disagree on.
    """
    if len(data) > max_bytes:
        raise ContractError(
            "E-BUNDLE-JSON-001",
            "the document is larger than its cap",
            seen=f"{len(data)} bytes",
            allowed=f"at most {max_bytes} bytes",
            where=where,
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_json(where, str(error)) from error
    _check_depth(text, max_depth, where)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(items)
        if len(value) != len(items):
            names = [name for name, _ in items]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise ContractError(
                "E-BUNDLE-JSON-004",
                "a key stands twice in one object",
                seen=", ".join(twice),
                allowed="each key once",
                where=where,
            )
        return value

    def integer(digits: str) -> int:
        if len(digits) > 17 or abs(int(digits)) > MAX_SAFE_INTEGER:
            raise _bad_number(where, digits)
        return int(digits)

    def real(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise _bad_number(where, digits)
        return value

    def constant(name: str) -> float:
        raise _bad_number(where, name)

    try:
        value = json.loads(
            text,
            object_pairs_hook=pairs,
            parse_int=integer,
            parse_float=real,
            parse_constant=constant,
        )
    except json.JSONDecodeError as error:
        raise _not_json(where, str(error)) from error
    if "\\u" in text:
        _check_surrogates(value, where)
    return value


def canonical_json(value: Any) -> bytes:
    """Return RFC 8785 bytes of a value made of dict, list, str, numbers, bool, None.

    Raises:
        ContractError: E-BUNDLE-JSON-005 for a number outside the scheme, -003 for
            another type or a lone surrogate.
    """
    parts: list[str] = []
    _write(value, parts)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise _not_json("value to write", str(error)) from error


def _write(value: Any, parts: list[str]) -> None:
    if value is None or isinstance(value, bool):
        parts.append({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, str):
        parts.append(json.dumps(value, ensure_ascii=False))
    elif isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise _bad_number("value to write", str(value))
        parts.append(str(value))
    elif isinstance(value, float):
        parts.append(_number(value))
    elif isinstance(value, list | tuple):
        parts.append("[")
        for index, item in enumerate(value):
            parts.append("," if index else "")
            _write(item, parts)
        parts.append("]")
    elif isinstance(value, dict):
        parts.append("{")
        try:
            keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        except (AttributeError, UnicodeEncodeError) as error:
            raise _not_json("value to write", str(error)) from error
        for index, key in enumerate(keys):
            parts.append("," if index else "")
            parts.append(json.dumps(key, ensure_ascii=False) + ":")
            _write(value[key], parts)
        parts.append("}")
    else:
        raise _not_json("value to write", f"{type(value).__name__} is no JSON type")


def _number(value: float) -> str:
    """Return ECMAScript's Number::toString of a finite double (ECMA-262, 6.1.6.1.20).

    Both languages print the shortest digits that read back equal; only the layout of
    the exponent differs.
    """
    if not math.isfinite(value):
        raise _bad_number("value to write", repr(value))
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def _check_depth(text: str, max_depth: int, where: str) -> None:
    if text.count("[") + text.count("{") <= max_depth:
        return
    depth = 0
    inside = escaped = False
    for char in text:
        if inside:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                inside = False
        elif char == '"':
            inside = True
        elif char in "[{":
            depth += 1
            if depth > max_depth:
                raise ContractError(
                    "E-BUNDLE-JSON-002",
                    "the document is nested too deeply",
                    seen=f"more than {max_depth} levels",
                    allowed=f"at most {max_depth} levels",
                    where=where,
                )
        elif char in "]}":
            depth -= 1


def _check_surrogates(value: Any, where: str) -> None:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise _not_json(where, str(error)) from error
    elif isinstance(value, list):
        for item in value:
            _check_surrogates(item, where)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_surrogates(key, where)
            _check_surrogates(item, where)


def _not_json(where: str, seen: str) -> ContractError:
    return ContractError(
        "E-BUNDLE-JSON-003", "this is not UTF-8 JSON", seen=seen, where=where
    )


def _bad_number(where: str, seen: str) -> ContractError:
    return ContractError(
        "E-BUNDLE-JSON-005",
        "a number that JSON readers disagree on",
        seen=seen,
        allowed="finite, integers within 2^53",
        where=where,
    )
