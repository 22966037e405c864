"""What goes wrong with any camera, said the same way by every driver."""

from __future__ import annotations

from continuon.errors import HardwareError

__all__ = ["SILENT_NS", "camera_gone", "camera_silent", "wrong_format"]

SILENT_NS = 2_000_000_000


def camera_gone(name: str, seen: object = None) -> HardwareError:
    """Return the error of an unplugged camera."""
    return HardwareError(
        "E-RIG-CAM-001",
        "the camera does not answer any more",
        where=name,
        seen=seen,
        hint="check its ribbon or USB cable, then restart",
    )


def camera_silent(name: str, silent_ns: int, *, hint: str) -> HardwareError:
    """Return the error of a camera that is there and gives no frames."""
    return HardwareError(
        "E-RIG-CAM-003",
        "the camera gives no frames any more",
        where=name,
        seen=f"silent for {silent_ns / 1e9:.1f} s",
        allowed=f"{SILENT_NS / 1e9:g} s",
        hint=hint,
    )


def wrong_format(name: str, *, seen: object, allowed: object) -> HardwareError:
    """Return the error of a camera that delivers something else than asked."""
    return HardwareError(
        "E-RIG-CAM-004",
        "the camera delivers another format than asked",
        where=name,
        seen=seen,
        allowed=allowed,
        hint="choose a size and rate that this camera can make",
    )
