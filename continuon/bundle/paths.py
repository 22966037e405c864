"""Names of files inside a bundle: one spelling each, on every filesystem."""

from __future__ import annotations

from collections.abc import Iterable

from continuon.errors import ContractError

__all__ = ["check_paths_distinct", "check_relative_path", "is_hex_digest"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SEGMENT = frozenset(_LETTERS + _LETTERS.upper() + "0123456789._@+-")
_MAX_SEGMENT = 120
_HEX = frozenset("0123456789abcdef")
_DIGEST_DIGITS = 64
_MAX_LENGTH = 240
_MAX_SEGMENTS = 6


def check_relative_path(path: str, *, where: str) -> str:
    """Return `path` if it is canonical: relative, POSIX, ASCII, no dot segments.

    Raises:
        ContractError: E-BUNDLE-MAN-004.
    """
    segments = path.split("/")
    ok = (
        len(path) <= _MAX_LENGTH
        and len(segments) <= _MAX_SEGMENTS
        and all(_is_segment(part) for part in segments)
        and not any(set(part) == {"."} for part in segments)
        and not any(part.endswith(".") for part in segments)
    )
    if not ok:
        raise ContractError(
            "E-BUNDLE-MAN-004",
            "a path in a bundle is not canonical",
            seen=repr(path),
            allowed=(
                f"relative, at most {_MAX_SEGMENTS} segments of letters, digits "
                "and . _ @ + -, never . or .."
            ),
            where=where,
        )
    return path


def check_paths_distinct(paths: Iterable[str], *, where: str) -> None:
    """Refuse two paths that a case-folding filesystem would take for one.

    A file that is also a directory of another (`a` and `a/b`) is refused too.

    Raises:
        ContractError: E-BUNDLE-MAN-005.
    """
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in paths:
        folded = _folded(path)
        parts = folded.split("/")
        parents = ["/".join(parts[:count]) for count in range(1, len(parts))]
        clash = seen.get(folded) or folders.get(folded)
        clash = clash or next((seen[name] for name in parents if name in seen), None)
        if clash is not None:
            raise ContractError(
                "E-BUNDLE-MAN-005",
                "two paths name the same file",
                seen=f"{clash!r} and {path!r}",
                allowed="paths that differ by more than case, none inside another",
                where=where,
            )
        seen[folded] = path
        folders.update(dict.fromkeys(parents, path))


def is_hex_digest(text: object) -> bool:
    """Return whether `text` is a SHA-256 as 64 lower-case hex digits."""
    return (
        isinstance(text, str) and len(text) == _DIGEST_DIGITS and _HEX.issuperset(text)
    )


def _is_segment(part: str) -> bool:
    return 0 < len(part) <= _MAX_SEGMENT and _SEGMENT.issuperset(part)


def _folded(path: str) -> str:
    if path.isascii():
        return path.lower()
    import unicodedata

    return unicodedata.normalize("NFC", path).casefold()
