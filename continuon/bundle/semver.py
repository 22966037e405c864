"""Semantic Versioning 2.0.0, strictly: three numbers, nothing guessed.

Source: semver.org/spec/v2.0.0.html, items 2, 9, 10 and 11.
"""

from __future__ import annotations

import functools

import attrs

from continuon.bundle.semver_text import split_version

__all__ = ["SemVer", "parse_version"]


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
    (major, minor, patch), prerelease, build = split_version(text, where=where)
    return SemVer(int(major), int(minor), int(patch), prerelease, build)
