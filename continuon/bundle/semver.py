"""Semantic Versioning 2.0.0, strictly: three numbers, nothing guessed.

Source: semver.org/spec/v2.0.0.html, items 2, 9, 10 and 11.
"""

from __future__ import annotations

import functools
import re

import attrs

from continuon.errors import ContractError

__all__ = ["SemVer", "parse_version"]

_PATTERN = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)
_MAX_LENGTH = 128


@functools.total_ordering
@attrs.frozen(eq=False)
class SemVer:
    """One version. Order and equality are precedence: build metadata is ignored."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()
    build: tuple[str, ...] = ()

    @property
    def precedence(self) -> tuple[object, ...]:
        """Return a key whose order is the order of item 11."""
        release = not self.prerelease
        fields = tuple(
            (0, int(field), "") if field.isdigit() else (1, 0, field)
            for field in self.prerelease
        )
        return (self.major, self.minor, self.patch, release, fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SemVer):
            return NotImplemented
        return self.precedence == other.precedence

    def __lt__(self, other: SemVer) -> bool:
        return self.precedence < other.precedence

    def __hash__(self) -> int:
        return hash(self.precedence)

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        text += f"-{'.'.join(self.prerelease)}" if self.prerelease else ""
        return text + (f"+{'.'.join(self.build)}" if self.build else "")


def parse_version(text: str, *, where: str = "version") -> SemVer:
    """Return the version that `text` spells.

    Raises:
        ContractError: E-BUNDLE-VER-001, for anything that the grammar refuses
            (`v2.0.0`, `1.0`, `01.0.0`, `1.0.0 `).
    """
    match = _PATTERN.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        raise ContractError(
            "E-BUNDLE-VER-001",
            "this is no SemVer 2 version",
            seen=repr(text),
            allowed="MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD], such as 1.4.0-rc.1",
            where=where,
        )
    major, minor, patch, prerelease, build = match.groups()
    return SemVer(
        int(major),
        int(minor),
        int(patch),
        tuple(prerelease.split(".")) if prerelease else (),
        tuple(build.split(".")) if build else (),
    )
