"""The USB camera's driver against a node that packs the kernel's own structures."""

from __future__ import annotations

import errno

import attrs
import numpy as np
import pytest

from continuon.clock import ManualClock
from continuon.errors import HardwareError, MissingPackageError
from continuon.rig import v4l2_abi as abi
from continuon.rig.camera_v4l2 import V4l2Camera
from continuon.rig.pictures import rgb_of_jpeg, rgb_of_yuyv
from continuon.rig.v4l2_abi import PixFormat
from continuon.sim.shutter import Shutter, moving_gradient
from continuon.sim.v4l2 import SimVideoNode, yuyv_of

START_NS = 10**10
PERIOD_NS = 33_333_334


def bench(*, shutter=None, pixel_format="YUYV", **more):
    clock = ManualClock(START_NS)
    node = SimVideoNode(
        clock=clock, shutter=shutter or Shutter(start_ns=START_NS), **more
    )
    eye = V4l2Camera(
        clock=clock, width=64, height=48, pixel_format=pixel_format, kernel=node
    )
    return eye, node, clock


@pytest.mark.req("R-RIG-10")
def test_a_picture_has_the_kernels_stamp_in_the_hosts_time():
    eye, _, clock = bench()
    eye.open()
    eye.open()
    assert eye.clock_offset().uncertainty_ns > 33_000_000
    clock.advance_ns(PERIOD_NS)
    frame = eye.poll()
    assert (frame.capture_ns, frame.device_ns, frame.sequence) == (
        START_NS,
        START_NS,
        0,
    )
    assert frame.depth is None
    assert eye.clock_offset().uncertainty_ns == 1000
    grey = frame.rgb.astype(float)
    wanted = moving_gradient(64, 48, 0) @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey - wanted[..., None]).max() < 2.5
    assert eye.poll() is None


def test_the_newest_picture_wins_and_the_others_go_back_to_the_driver():
    eye, _, clock = bench()
    eye.open()
    for _ in range(20):
        clock.advance_ns(3 * PERIOD_NS)
        last = eye.poll()
    assert last.sequence > 50
    assert eye.poll() is None


@pytest.mark.req("R-RIG-09")
@pytest.mark.parametrize(
    ("lie", "seen"),
    [
        ({"deliver": lambda wish: attrs.evolve(wish, width=80)}, "80"),
        (
            {
                "deliver": lambda wish: attrs.evolve(
                    wish, pixel_format=abi.fourcc("NV12")
                )
            },
            "NV12",
        ),
        ({"rate_hz": 15.0}, "15"),
        ({"capabilities": abi.CAP_STREAMING}, "0x04000000"),
    ],
)
def test_another_format_size_or_rate_than_asked_is_refused_at_opening(lie, seen):
    eye, node, _ = bench(**lie)
    with pytest.raises(HardwareError) as caught:
        eye.open()
    assert caught.value.code == "E-RIG-CAM-004"
    assert seen in caught.value.seen
    assert (node.opened, node.streaming) == (0, False)


@pytest.mark.req("R-RIG-16")
def test_a_damaged_picture_is_a_drop():
    eye, _, clock = bench(damaged=frozenset({1}), truncated=frozenset({2}))
    eye.open()
    sequences = []
    for _ in range(6):
        clock.advance_ns(PERIOD_NS)
        frame = eye.poll()
        sequences += [] if frame is None else [frame.sequence]
    assert sequences == [0, 3, 4, 5]


@pytest.mark.req("R-RIG-09")
def test_nothing_but_damaged_pictures_is_an_error_after_two_seconds():
    eye, _, clock = bench(truncated=frozenset(range(1000)))
    eye.open()
    for _ in range(59):
        clock.advance_ns(PERIOD_NS)
        assert eye.poll() is None
    clock.advance_ns(2 * PERIOD_NS)
    with pytest.raises(HardwareError) as caught:
        eye.poll()
    assert caught.value.code == "E-RIG-CAM-003"
    assert caught.value.__cause__.code == "E-RIG-CAM-006"


@pytest.mark.req("R-RIG-10")
def test_stamps_of_an_unknown_clock_are_refused():
    eye, _, clock = bench(stamps=0)
    eye.open()
    clock.advance_ns(PERIOD_NS)
    with pytest.raises(HardwareError) as caught:
        eye.poll()
    assert caught.value.code == "E-RIG-CLOCK-002"


@pytest.mark.req("R-RIG-10")
def test_stamps_at_the_end_of_a_frame_are_uncertain_by_a_period():
    eye, _, clock = bench(stamps=abi.TIMESTAMP_MONOTONIC)
    eye.open()
    clock.advance_ns(PERIOD_NS)
    frame = eye.poll()
    offset = eye.clock_offset()
    assert offset.uncertainty_ns > 33_000_000
    assert frame.capture_ns == frame.device_ns + offset.offset_ns
    assert offset.offset_ns < 0


def test_an_unplugged_camera_says_so_and_can_be_closed():
    eye, node, clock = bench()
    eye.open()
    node.unplugged = True
    clock.advance_ns(PERIOD_NS)
    with pytest.raises(HardwareError) as caught:
        eye.poll()
    assert caught.value.code == "E-RIG-CAM-001"
    eye.close()
    eye.close()
    assert eye.poll() is None
    assert node.opened == 0


def test_unplugging_between_taking_and_giving_back_a_buffer_says_so():
    eye, node, clock = bench()
    eye.open()
    node.fails[abi.QBUF] = errno.ENODEV
    clock.advance_ns(PERIOD_NS)
    with pytest.raises(HardwareError) as caught:
        eye.poll()
    assert caught.value.code == "E-RIG-CAM-001"


def test_a_missing_node_names_cable_group_and_holder():
    clock = ManualClock()
    node = SimVideoNode(clock=clock, shutter=Shutter(start_ns=0), path="/dev/video9")
    with pytest.raises(HardwareError) as caught:
        V4l2Camera(clock=clock, kernel=node).open()
    assert caught.value.code == "E-RIG-CAM-002"
    assert "group video" in caught.value.hint


@pytest.mark.parametrize(
    ("request_", "call"), [(abi.REQBUFS, "open"), (abi.DQBUF, "poll")]
)
def test_a_refused_call_is_an_error(request_, call):
    eye, node, _ = bench(fails={request_: errno.EBUSY})
    if call == "poll":
        eye.open()
    with pytest.raises(HardwareError) as caught:
        getattr(eye, call)()
    assert caught.value.code == "E-RIG-CAM-005"
    eye.close()
    assert node.opened == 0


def test_a_stream_that_cannot_be_stopped_is_closed_and_said():
    eye, node, _ = bench(fails={abi.STREAMOFF: errno.EBUSY})
    eye.open()
    with pytest.raises(OSError, match="busy"):
        eye.close()
    assert node.opened == 0


def test_the_machines_own_kernel_refuses_what_is_no_camera(tmp_path):
    plain = tmp_path / "video0"
    plain.write_bytes(bytes(4096))
    with pytest.raises(HardwareError) as caught:
        V4l2Camera(clock=ManualClock(), path=str(plain)).open()
    assert caught.value.code == "E-RIG-CAM-005"
    kernel = abi.SystemKernel()
    descriptor = kernel.open(str(plain))
    mapped = kernel.mmap(descriptor, 4096, 0)
    assert bytes(mapped[:4]) == bytes(4)
    kernel.close(descriptor)


def test_yuyv_colours_are_those_of_the_standard():
    # BT.601 narrow range: red is (81, 90, 240), white (235, 128, 128).
    data = memoryview(bytes([81, 90, 81, 240, 235, 128, 235, 128]))
    delivered = PixFormat(width=4, height=1, pixel_format=abi.fourcc("YUYV"))
    picture = rgb_of_yuyv(data, delivered)
    assert np.abs(picture[0, 0].astype(int) - [255, 0, 0]).max() <= 2
    assert np.abs(picture[0, 3].astype(int) - 255).max() <= 1


def test_padded_rows_are_cut():
    rgb = moving_gradient(8, 4, 0)
    tight = np.frombuffer(yuyv_of(rgb), np.uint8).reshape(4, 16)
    padded = np.pad(tight, ((0, 0), (0, 6))).tobytes()
    delivered = PixFormat(width=8, height=4, pixel_format=0, line_bytes=22)
    plain = PixFormat(width=8, height=4, pixel_format=0)
    assert np.array_equal(
        rgb_of_yuyv(memoryview(padded), delivered),
        rgb_of_yuyv(memoryview(tight.tobytes()), plain),
    )


def test_motion_jpeg_is_decoded_and_a_broken_one_is_a_drop():
    simplejpeg = pytest.importorskip("simplejpeg", reason="simplejpeg is not installed")

    def encode(rgb):
        return simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality=95)

    eye, _, clock = bench(pixel_format="MJPG", encode=encode, truncated=frozenset({0}))
    eye.open()
    clock.advance_ns(PERIOD_NS)
    assert eye.poll() is None
    clock.advance_ns(PERIOD_NS)
    apart = eye.poll().rgb.astype(int) - moving_gradient(64, 48, 1)
    assert np.abs(apart).mean() < 12


def test_a_jpeg_of_another_size_than_promised_is_refused():
    simplejpeg = pytest.importorskip("simplejpeg", reason="simplejpeg is not installed")
    small = simplejpeg.encode_jpeg(moving_gradient(32, 24, 0))
    eye, _, clock = bench(pixel_format="MJPG", encode=lambda rgb: small)
    eye.open()
    clock.advance_ns(PERIOD_NS)
    with pytest.raises(HardwareError) as caught:
        eye.poll()
    assert caught.value.code == "E-RIG-CAM-004"


def test_without_simplejpeg_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "simplejpeg", None)
    with pytest.raises(MissingPackageError):
        rgb_of_jpeg(memoryview(b""), PixFormat(width=1, height=1, pixel_format=0))
