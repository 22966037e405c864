"""Patches between files: small where weights hardly move, never trusted by themselves.

Two codecs, chosen by measurement (research: nothing made for programs helps here):
`zstd-prefix` finds unchanged stretches and suits int8 weights and merged adapters;
`xor-shuffle-zstd` lines up the unchanged high bytes of float weights. The publisher
tries both and lists the smaller one if it saves enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from continuon.bundle.manifest import Delta
from continuon.errors import MissingPackageError, TrustError, UsageError

__all__ = [
    "WORTH_FRACTION",
    "Patch",
    "apply_patch",
    "best_patch",
    "fits_memory",
    "make_deltas",
]

WORTH_FRACTION = 0.70
_LEVEL = 3
_MIN_WINDOW_LOG = 10
_MAX_WINDOW_LOG = 29
MAX_PATCHED_BYTES = (1 << _MAX_WINDOW_LOG) - 1
"""Old and new file together. Both are held in memory, beside what the robot runs."""
_WIDTHS = (4, 2, 1)


@attrs.frozen
class Patch:
    """A patch and the codec that reads it."""

    codec: str
    data: bytes


def fits_memory(base_bytes: int, new_bytes: int) -> bool:
    """Return whether a patch between files of these sizes may be made and applied."""
    return base_bytes + new_bytes <= MAX_PATCHED_BYTES


def best_patch(base: bytes, new: bytes) -> Patch | None:
    """Return the smaller patch from `base` to `new`, or None if it saves too little."""
    found = [Patch("zstd-prefix", _prefix_encode(base, new))]
    if len(base) == len(new):
        found += [Patch("xor-shuffle-zstd", _xor_encode(base, new, w)) for w in _WIDTHS]
    best = min(found, key=lambda patch: len(patch.data))
    return best if len(best.data) < WORTH_FRACTION * len(new) else None


def apply_patch(
    codec: str, base: bytes, patch: bytes, *, size_bytes: int, sha256: str
) -> bytes:
    """Return the new file; it is the signed one or an error.

    Raises:
        TrustError: E-OTA-DELTA-001, the patch does not give the signed bytes.
        UsageError: E-OTA-DELTA-002, an unknown codec.
    """
    zstd = _zstd()
    try:
        if codec == "zstd-prefix":
            new = _prefix_decode(base, patch, size_bytes)
        elif codec == "xor-shuffle-zstd":
            new = _xor_decode(base, patch, size_bytes)
        else:
            raise UsageError(
                "E-OTA-DELTA-002",
                "this version does not read that kind of patch",
                seen=codec,
                allowed="zstd-prefix, xor-shuffle-zstd",
            )
    except (zstd.ZstdError, ValueError, EOFError) as error:
        if isinstance(error, UsageError):
            raise
        raise _bad(codec, str(error)) from error
    if hashlib.sha256(new).hexdigest() != sha256:
        raise _bad(codec, f"{len(new)} other bytes")
    return new


def make_deltas(
    artifacts_dir: Path, bases: Sequence[Path], output_dir: Path
) -> tuple[Delta, ...]:
    """Write patches from older bundles' files to new ones of the same path.

    Each patch is named by its own SHA-256 in `output_dir`; `publish` takes that
    directory along. What saves too little, or is too large for the memory of a robot,
    is left out.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    found: dict[tuple[str, str], Delta] = {}
    for path in sorted(item for item in artifacts_dir.rglob("*") if item.is_file()):
        name = path.relative_to(artifacts_dir).as_posix()
        for base_dir in bases:
            base_path = base_dir / name
            if not base_path.is_file() or not fits_memory(
                base_path.stat().st_size, path.stat().st_size
            ):
                continue
            base, new = base_path.read_bytes(), path.read_bytes()
            patch = None if base == new or not new else best_patch(base, new)
            if patch is None:
                continue
            digest = hashlib.sha256(patch.data).hexdigest()
            (output_dir / digest).write_bytes(patch.data)
            from_sha256 = hashlib.sha256(base).hexdigest()
            found[name, from_sha256] = Delta(
                path=name,
                from_sha256=from_sha256,
                codec=patch.codec,
                bytes=len(patch.data),
                sha256=digest,
            )
    return tuple(found.values())


def _prefix_encode(base: bytes, new: bytes) -> bytes:
    zstd = _zstd()
    window = (len(base) + len(new)).bit_length()
    options = {
        zstd.CompressionParameter.compression_level: _LEVEL,
        zstd.CompressionParameter.window_log: min(
            max(window, _MIN_WINDOW_LOG), _MAX_WINDOW_LOG
        ),
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    data: bytes = zstd.compress(new, options=options, zstd_dict=_prefix(base))
    return data


def _prefix_decode(base: bytes, patch: bytes, size_bytes: int) -> bytes:
    return _bounded(patch, size_bytes, _prefix(base))


def _prefix(base: bytes) -> Any:
    """Return `base` as a raw prefix; one byte more keeps tiny files legal."""
    padded = base if len(base) >= 8 else base + bytes(8 - len(base))
    return _zstd().ZstdDict(padded, is_raw=True).as_prefix


def _xor_encode(base: bytes, new: bytes, width: int) -> bytes:
    mixed = np.frombuffer(base, np.uint8) ^ np.frombuffer(new, np.uint8)
    whole = len(mixed) - len(mixed) % width
    shuffled = mixed[:whole].reshape(-1, width).T.tobytes() + mixed[whole:].tobytes()
    packed: bytes = _zstd().compress(shuffled, level=_LEVEL)
    return bytes([width]) + packed


def _xor_decode(base: bytes, patch: bytes, size_bytes: int) -> bytes:
    width = patch[0] if patch else 0
    if width not in _WIDTHS or len(base) != size_bytes:
        msg = "the patch was made for another file"
        raise ValueError(msg)
    shuffled = np.frombuffer(_bounded(patch[1:], size_bytes, None), np.uint8)
    whole = size_bytes - size_bytes % width
    mixed = np.empty(size_bytes, np.uint8)
    mixed[:whole] = shuffled[:whole].reshape(width, -1).T.reshape(-1)
    mixed[whole:] = shuffled[whole:]
    return (mixed ^ np.frombuffer(base, np.uint8)).tobytes()


def _bounded(patch: bytes, size_bytes: int, prefix: Any) -> bytes:
    """Decompress exactly `size_bytes`; a bomb stops one byte after."""
    zstd = _zstd()
    options = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
    reader = zstd.ZstdDecompressor(zstd_dict=prefix, options=options)
    data: bytes = reader.decompress(patch, max_length=size_bytes + 1)
    while not reader.eof and len(data) <= size_bytes and not reader.needs_input:
        data += reader.decompress(b"", max_length=size_bytes + 1 - len(data))
    if len(data) != size_bytes or not reader.eof or reader.unused_data:
        msg = f"{len(data)} bytes came out, {size_bytes} were signed"
        raise ValueError(msg)
    return data


def _bad(codec: str, seen: str) -> TrustError:
    return TrustError(
        "E-OTA-DELTA-001",
        "a patch does not give the signed file",
        seen=f"{codec}: {seen}",
        hint="fetch the whole file instead",
    )


def _zstd() -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found]
    except ImportError:
        try:
            from backports import zstd
        except ImportError as error:
            raise MissingPackageError.for_extra(
                "backports.zstd", "ota", purpose="reading and making patches"
            ) from error
    return zstd
