"""The depthai pipeline of an OAK-D Lite: colour, and depth in the colour's picture.

Only this module names depthai, so that everything else is tested without it.
"""

from __future__ import annotations

from typing import Any

from continuon.errors import HardwareError, MissingPackageError

__all__ = ["DepthaiStream", "start_oak"]

# The two outer cameras see 640x480; stereo is matched at 640x400 (Luxonis, OAK-D Lite).
STEREO_SIZE = (640, 400)
BYTES_A_PIXEL = 5
# USB 2 carries 53 MB/s in bulk transfers at the very most (USB 2.0, section 5.8.4: 13
# packets of 512 bytes in each 125 us); three quarters of it is what hosts reach.
USB2_BYTES_S = 40_000_000


class DepthaiStream:
    """Queues of one running pipeline."""

    def __init__(self, pipeline: Any, device: Any, queues: tuple[Any, Any]) -> None:
        self._pipeline, self._device = pipeline, device
        self._colour, self._depth = queues

    def colour(self) -> Any:
        """Return the next ImgFrame of the colour camera, or None."""
        return self._colour.tryGet()

    def depth(self) -> Any:
        """Return the next ImgFrame of depth, or None."""
        return self._depth.tryGet()

    def close(self) -> None:
        """Stop the pipeline and release the device, also one that is gone."""
        try:
            self._pipeline.stop()
        finally:
            self._device.close()


def start_oak(width: int, height: int, rate_hz: float) -> DepthaiStream:
    """Boot the camera (a few seconds) and start both streams.

    Raises:
        MissingPackageError: depthai is not installed.
        HardwareError: no camera, one that is held by another process, or a cable that
            cannot carry the asked pictures.
    """
    try:
        import depthai as dai
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "depthai", "oak", purpose="the OAK-D depth camera"
        ) from error
    try:
        device = dai.Device()
    except RuntimeError as error:
        raise HardwareError(
            "E-RIG-OAK-001",
            "no OAK camera can be opened",
            seen=error,
            hint="plug it into a USB 3 port and end other processes that hold it; "
            "`continuon rig scan` says whether USB sees it and may be used",
        ) from error
    try:
        _check_speed(dai, device, width * height * BYTES_A_PIXEL * rate_hz)
        pipeline = dai.Pipeline(device)
        queues = _build(dai, pipeline, (width, height), rate_hz)
        pipeline.start()
    except BaseException:
        device.close()
        raise
    return DepthaiStream(pipeline, device, queues)


def _check_speed(dai: Any, device: Any, needed_bytes_s: float) -> None:
    slow = (dai.UsbSpeed.LOW, dai.UsbSpeed.FULL, dai.UsbSpeed.HIGH)
    speed = device.getUsbSpeed()
    if speed in slow and needed_bytes_s > USB2_BYTES_S:
        raise HardwareError(
            "E-RIG-OAK-002",
            "the OAK camera's USB connection is too slow for these pictures",
            seen=f"{speed.name}, {needed_bytes_s / 1e6:.0f} MB/s asked",
            allowed=f"{USB2_BYTES_S / 1e6:.0f} MB/s on USB 2",
            hint="use a blue USB 3 port and a USB 3 cable, or a smaller picture",
        )


def _build(
    dai: Any, pipeline: Any, size: tuple[int, int], rate_hz: float
) -> tuple[Any, Any]:
    socket, kind = dai.CameraBoardSocket, dai.ImgFrame.Type
    colour = pipeline.create(dai.node.Camera).build(socket.CAM_A)
    rgb = colour.requestOutput(
        size, type=kind.RGB888i, fps=rate_hz, enableUndistortion=True
    )
    stereo = pipeline.create(dai.node.StereoDepth)
    for side, sink in ((socket.CAM_B, stereo.left), (socket.CAM_C, stereo.right)):
        camera = pipeline.create(dai.node.Camera).build(side)
        camera.requestOutput(STEREO_SIZE, fps=rate_hz).link(sink)
    stereo.setLeftRightCheck(enable=True)
    # Depth is computed in the undistorted colour picture, pixel for pixel.
    rgb.link(stereo.inputAlignTo)
    return (
        rgb.createOutputQueue(maxSize=4, blocking=False),
        stereo.depth.createOutputQueue(maxSize=4, blocking=False),
    )
