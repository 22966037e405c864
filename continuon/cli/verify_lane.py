"""`continuon bundle verify DIRECTORY --key PATH`, without the rest of the program.

It is the command that scripts run before anything else, and finding commands, layering
configuration and making typed values cost more than its own work (decision 0207).
Whatever is not this plain form goes to the whole program; a law holds both to the same
output and exit code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from continuon.cli.entry import guarded, say_error

if TYPE_CHECKING:
    from continuon.bundle.manifest import Manifest

__all__ = ["verified_text", "verify_now"]

_MAX_DIGITS = 15
_VARIABLES = "CONTINUON_BUNDLE_VERIFY_"
_CONFIG_VARIABLE, _CONFIG_NAME = "CONTINUON_CONFIG", "continuon.toml"


class _Asked(NamedTuple):
    directory: str
    keys: list[str]
    threshold: int


def verified_text(manifest: Manifest, bundle_id: str) -> str:
    """Return what a person reads once a bundle is verified."""
    return (
        f"verified {manifest.model_name} {manifest.version} "
        f"(release {manifest.release_counter}): {bundle_id}"
    )


def verify_now(tokens: Sequence[str], environ: Mapping[str, str]) -> int | None:
    """Verify and return the exit code, or None where the whole program must look."""
    asked = _read(tokens)
    if asked is None or _configured(environ):
        return None
    return guarded(lambda: _verify(asked), say_error, debug=False)


def _verify(asked: _Asked) -> int:
    from continuon.bundle.proof import prove_bundle
    from continuon.bundle.public_key_io import load_public_key

    keys = [load_public_key(path) for path in asked.keys]
    proof = prove_bundle(asked.directory, keys, threshold=asked.threshold)
    print(verified_text(proof.manifest.values, proof.statement.bundle_id))
    return 0


def _configured(environ: Mapping[str, str]) -> bool:
    return (
        _CONFIG_VARIABLE in environ
        or any(name.startswith(_VARIABLES) for name in environ)
        or os.path.lexists(_CONFIG_NAME)
    )


def _read(tokens: Sequence[str]) -> _Asked | None:
    directories: list[str] = []
    keys: list[str] = []
    thresholds: list[str] = []
    queue = list(tokens)
    while queue:
        token = queue.pop(0)
        name, equals, value = token.partition("=")
        if token[:1] != "-":
            directories.append(token)
            continue
        if not equals:
            value = queue.pop(0) if queue else ""
        if name == "--key":
            keys.append(value)
        elif name == "--threshold":
            thresholds.append(value)
        else:
            return None
    count = thresholds[0] if thresholds else "1"
    plain = count.isascii() and count.isdigit() and len(count) <= _MAX_DIGITS
    if not (plain and keys and len(directories) == 1 and len(thresholds) <= 1):
        return None
    paths = [_path(text) for text in (*directories, *keys)]
    if "" in paths:
        return None
    return _Asked(paths[0], paths[1:], int(count))


def _path(text: str) -> str:
    """Return the spelling that the whole program would show, or nothing if odd."""
    if text[:1] == "-" or text[:2] == "//":
        return ""
    steps = [step for step in text.split("/") if step not in ("", ".")]
    return ("/" if text[:1] == "/" else "") + "/".join(steps)
