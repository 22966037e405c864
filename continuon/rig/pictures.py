"""Pictures of USB cameras as red, green, blue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from continuon.errors import HardwareError, MissingPackageError
from continuon.rig.v4l2_abi import PixFormat

__all__ = ["rgb_of_jpeg", "rgb_of_yuyv"]


def rgb_of_jpeg(data: memoryview, _format: PixFormat) -> NDArray[np.uint8]:
    """Return uint8 [height, width, 3] of one motion-JPEG picture.

    Raises:
        MissingPackageError: simplejpeg is not installed.
        HardwareError: the picture is damaged.
    """
    try:
        import simplejpeg
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "simplejpeg", "pi", purpose="a USB camera that sends JPEG"
        ) from error
    try:
        picture: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGB")
    except ValueError as error:
        raise HardwareError(
            "E-RIG-CAM-006",
            "a camera picture is damaged",
            seen=error,
            hint="check the USB cable and hub; ask the camera for YUYV instead",
        ) from error
    return picture


def rgb_of_yuyv(data: memoryview, delivered: PixFormat) -> NDArray[np.uint8]:
    """Return uint8 [height, width, 3] of one YUYV picture (ITU-R BT.601, narrow range).

    Rows may be padded to `line_bytes`. Two pixels share a Cb and a Cr.

    Raises:
        HardwareError: the picture is short.
    """
    height, width = delivered.height, delivered.width
    line = delivered.line_bytes or 2 * width
    if len(data) < line * height:
        raise HardwareError(
            "E-RIG-CAM-006",
            "a camera picture is damaged",
            seen=f"{len(data)} bytes",
            allowed=line * height,
            hint="check the USB cable and hub",
        )
    rows = np.frombuffer(data, np.uint8, line * height).reshape(height, line)
    pairs = rows[:, : 2 * width].reshape(height, width // 2, 4).astype(np.int32)
    luma = (pairs[:, :, 0::2] - 16) * 298 + 128  # 255/219 in 1/256
    blue, red = pairs[:, :, 1:2] - 128, pairs[:, :, 3:4] - 128
    out = np.empty((height, width // 2, 2, 3), np.uint8)
    planes = (
        luma + 409 * red,
        luma - 100 * blue - 208 * red,
        luma + 516 * blue,
    )
    for channel, plane in enumerate(planes):
        out[..., channel] = np.clip(plane >> 8, 0, 255)
    return out.reshape(height, width, 3)
