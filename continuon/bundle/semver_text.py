"""The grammar of SemVer 2.0.0, without a regular expression to compile at start.

Source: semver.org/spec/v2.0.0.html; a law holds it to the expression given there.
"""

from __future__ import annotations

from continuon.errors import ContractError

__all__ = ["split_version"]

_MAX_LENGTH = 128
_DIGITS = frozenset("0123456789")
_FIELD = _DIGITS | frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-")


def split_version(
    text: str, *, where: str = "version"
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the three numbers, the pre-release fields and the build fields.

    Raises:
        ContractError: E-BUNDLE-VER-001.
    """
    version, plus, build = text.partition("+")
    core, dash, prerelease = version.partition("-")
    numbers = tuple(core.split("."))
    before = tuple(prerelease.split(".")) if dash else ()
    after = tuple(build.split(".")) if plus else ()
    if not (
        len(text) <= _MAX_LENGTH
        and len(numbers) == 3
        and all(_is_number(number) for number in numbers)
        and all(_is_field(field) for field in (*before, *after))
        and all(_is_number(field) for field in before if _DIGITS.issuperset(field))
    ):
        raise ContractError(
            "E-BUNDLE-VER-001",
            "this is no SemVer 2 version",
            seen=repr(text),
            allowed="MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD], such as 1.4.0-rc.1",
            where=where,
        )
    return numbers, before, after


def _is_field(text: str) -> bool:
    return bool(text) and _FIELD.issuperset(text)


def _is_number(text: str) -> bool:
    """Whether `text` is decimal digits without a leading zero."""
    return bool(text) and _DIGITS.issuperset(text) and (text == "0" or text[:1] != "0")
