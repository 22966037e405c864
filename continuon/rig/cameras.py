"""Which camera a rig has: the depth camera first, then the Pi's own, then USB."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs

from continuon.clock import Clock
from continuon.errors import HardwareError, MissingPackageError
from continuon.rig.camera_oak import OakCamera
from continuon.rig.camera_picamera2 import Picamera2Camera, list_picameras
from continuon.rig.camera_v4l2 import V4l2Camera
from continuon.rig.protocols import Camera
from continuon.rig.usb import OAK_VENDOR, list_usb

__all__ = ["CameraKind", "CameraWish", "find_camera", "video_nodes"]

CameraKind = Literal["auto", "oak", "picamera2", "v4l2"]


@attrs.frozen(kw_only=True)
class CameraWish:
    """What is asked of a camera.

    Attributes:
        kind: which driver; "auto" takes the best that is there.
        width, height: pixels.
        rate_hz: frame rate.
    """

    kind: CameraKind = "auto"
    width: int = 640
    height: int = 480
    rate_hz: float = 30.0


def find_camera(
    wish: CameraWish,
    clock: Clock,
    *,
    sys: Path = Path("/sys"),
    dev: Path = Path("/dev"),
) -> Camera:
    """Return the camera, not opened.

    Raises:
        HardwareError: none is there; each place that was looked at stands in it.
    """
    reasons = []
    asked: dict[str, Any] = attrs.asdict(wish)
    del asked["kind"]
    if wish.kind in ("auto", "oak"):
        if any(device.vendor == OAK_VENDOR for device in list_usb(sys)):
            return OakCamera(clock=clock, **asked)
        reasons.append("no OAK camera on USB")
    if wish.kind in ("auto", "picamera2"):
        try:
            if list_picameras():
                return Picamera2Camera(clock=clock, **asked)
            reasons.append("libcamera sees no camera")
        except MissingPackageError as error:
            reasons.append(f"no picamera2 ({error.hint})")
    if wish.kind in ("auto", "v4l2"):
        for node, _ in video_nodes(sys):
            return V4l2Camera(clock=clock, path=str(dev / node), **asked)
        reasons.append("no USB camera has a video node")
    raise HardwareError(
        "E-RIG-CAM-007",
        "there is no camera",
        seen="; ".join(reasons),
        hint="plug the depth camera into a USB 3 port, then `continuon rig scan`",
    )


def video_nodes(sys: Path = Path("/sys")) -> tuple[tuple[str, str], ...]:
    """Return (node, name) of each camera's first video node.

    A USB camera's further nodes carry metadata; a Pi has nodes of its codec and ISP,
    which are no cameras.
    """
    found = []
    for place in sorted(sys.glob("class/video4linux/video*")):
        index, name = place / "index", place / "name"
        if index.is_file() and index.read_text("ascii").strip() != "0":
            continue
        words = name.read_text("utf-8", "replace").strip() if name.is_file() else ""
        if words.startswith(_NOT_CAMERAS):
            continue
        found.append((place.name, words))
    return tuple(found)


# The Pi's codec, ISP and receiver (bcm2835-codec, pispbe, rp1-cfe and their kin), as
# the kernel names their nodes.
_NOT_CAMERAS = ("bcm2835", "pispbe", "rp1-cfe", "rpi-hevc", "rpivid", "unicam")
