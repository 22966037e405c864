"""Pictures: every legal 16-bit grey PNG, whole JPEGs only, an exact box mean."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from continuon.errors import ContractError, DataError
from continuon.rlds.images import (
    decode_depth_png,
    decode_jpeg,
    encode_depth_png,
    encode_jpeg,
    jpeg_size,
    png_size,
    policy_image,
)

DATA = Path(__file__).parents[2] / "../shared/data"
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # fmt: skip


def chunk(kind, data=b""):
    return (
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
    )


def filtered(image, kinds):
    """Filter rows one sample at a time, as the specification words it."""
    rows = image.astype(">u2").view(np.uint8).reshape(image.shape[0], -1).astype(int)
    out = bytearray()
    for y, (row, kind) in enumerate(zip(rows, kinds, strict=True)):
        out.append(kind)
        up = rows[y - 1] if y else np.zeros_like(row)
        for x, value in enumerate(row):
            a = row[x - 2] if x > 1 else 0
            b, c = up[x], (up[x - 2] if x > 1 else 0)
            p = a + b - c
            near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            guess = (0, a, b, (a + b) // 2, near)[kind]
            out.append((value - guess) & 255)
    return bytes(out)


def png(image, kinds=None, *, interlace=False, parts=1, extra=b"", bits=16, colour=0):
    height, width = image.shape
    rng = np.random.default_rng(1)
    if interlace:
        passes = [image[r::rs, c::cs] for r, c, rs, cs in ADAM7]
        raw = b"".join(
            filtered(p, rng.integers(0, 5, len(p))) for p in passes if p.size
        )
    else:
        raw = filtered(image, kinds if kinds is not None else [0] * height)
    body = zlib.compress(raw)
    step = -(-len(body) // parts)
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlace))
    pieces = [chunk(b"IDAT", body[i : i + step]) for i in range(0, len(body), step)]
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + extra
        + b"".join(pieces)
        + chunk(b"IEND")
    )


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 1 << 16, (7, 11)).astype(np.uint16)


@pytest.mark.req("R-EPISODE-05")
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4])
def test_each_row_filter_decodes(image, kind):
    np.testing.assert_array_equal(decode_depth_png(png(image, [kind] * 7)), image)


@pytest.mark.req("R-EPISODE-05")
def test_mixed_filters_many_idats_and_foreign_chunks_decode(image):
    for seed in range(8):
        kinds = np.random.default_rng(seed).integers(0, 5, 7)
        data = png(image, kinds, parts=5, extra=chunk(b"tEXt", b"a\0b"))
        np.testing.assert_array_equal(decode_depth_png(data), image)


@pytest.mark.req("R-EPISODE-05")
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 11), (8, 8), (3, 2)])
def test_interlaced_images_decode(shape):
    image = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) * 257
    np.testing.assert_array_equal(decode_depth_png(png(image, interlace=True)), image)


@pytest.mark.req("R-EPISODE-05")
@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (lambda d, i: b"", "PNG-002"),
        (lambda d, i: b"\xff\xd8" + d, "PNG-002"),
        (lambda d, i: d[:-5], "PNG-006"),
        (lambda d, i: d[:40], "PNG-006"),
        (lambda d, i: d[:50] + bytes([d[50] ^ 1]) + d[51:], "PNG-007"),
        (lambda d, i: png(i, bits=8), "PNG-003"),
        (lambda d, i: png(i, colour=2), "PNG-003"),
        (lambda d, i: png(i[:5]).replace(chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 5, 16, 0, 0, 0, 0)), chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 6, 16, 0, 0, 0, 0))), "PNG-011"),
        (lambda d, i: png(i[:5]).replace(chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 5, 16, 0, 0, 0, 0)), chunk(b"IHDR", struct.pack(">IIBBBBB", 11, 4, 16, 0, 0, 0, 0))), "PNG-011"),
        (lambda d, i: png(i, extra=chunk(b"IHDR", bytes(13))), "PNG-008"),
        (lambda d, i: png(i, extra=chunk(b"CRIT", b"x")), "PNG-009"),
        (lambda d, i: d[:33] + chunk(b"IDAT", b"junk") + chunk(b"IEND"), "PNG-010"),
        (lambda d, i: d[:33] + chunk(b"IEND"), "PNG-008"),
        (lambda d, i: d[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 1 << 30, 1 << 30, 16, 0, 0, 0, 0)) + d[33:], "PNG-005"),
        (lambda d, i: d[:33] + chunk(b"IDAT", zlib.compress(bytes([9]) * (7 * 23))) + chunk(b"IEND"), "PNG-012"),
    ],
)  # fmt: skip
def test_damaged_and_other_pngs_are_refused_with_their_reason(image, break_it, code):
    with pytest.raises(DataError, match=code):
        decode_depth_png(break_it(png(image), image))


@pytest.mark.parametrize("engine", [None, pytest.param("isal.isal_zlib", id="isal")])
def test_our_own_writer_is_read_back_with_either_deflate(image, monkeypatch, engine):
    module = None if engine is None else pytest.importorskip(engine)
    monkeypatch.setattr("continuon.rlds.png_file._isal", lambda: module)
    data = encode_depth_png(image)
    np.testing.assert_array_equal(decode_depth_png(data), image)
    assert png_size(data) == (11, 7)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 2), np.uint8),
        np.zeros((2, 2, 1), np.uint16),
        np.zeros((0, 2), np.uint16),
    ],
)
def test_only_uint16_images_become_depth(wrong):
    with pytest.raises(ContractError, match="PNG-001"):
        encode_depth_png(wrong)


@pytest.mark.slow
def test_real_depth_images_decode_and_keep_their_holes():
    files = sorted(DATA.glob("rgbd-*/**/depth/*.png"))
    if not files:
        pytest.skip("the real recordings are not on this machine")
    for file in files[:6]:
        depth = decode_depth_png(file.read_bytes())
        assert depth.shape == (480, 640)
        assert 0 < np.median(depth[depth > 0]) < 40_000


def test_a_jpeg_comes_back_close_and_says_its_size():
    rgb = np.full((24, 32, 3), (200, 100, 50), np.uint8)
    data = encode_jpeg(rgb)
    assert jpeg_size(data) == (32, 24)
    assert np.abs(decode_jpeg(data).astype(int) - rgb).max() < 6


def test_a_torn_jpeg_is_refused_at_every_length():
    data = encode_jpeg(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))
    for size in range(len(data) - 1):
        with pytest.raises(DataError, match="E-RLDS-JPEG-00"):
            decode_jpeg(data[:size])


@pytest.mark.req("R-EPISODE-06")
def test_the_policy_image_is_the_mean_of_each_box_halves_up():
    rgb = np.zeros((2, 4, 3), np.uint8)
    rgb[0, :2] = 1
    rgb[1, 2:] = 255
    small = policy_image(rgb, height=1, width=2)
    assert small[0, :, 0].tolist() == [1, 128]


@pytest.mark.req("R-EPISODE-06")
@pytest.mark.parametrize("size", [(3, 5), (7, 11), (20, 30), (1, 1)])
def test_any_ratio_keeps_a_flat_image_flat_and_the_mean_of_any(size):
    height, width = size
    flat = np.full((7, 11, 3), 93, np.uint8)
    assert (policy_image(flat, height=height, width=width) == 93).all()
    rgb = np.random.default_rng(0).integers(0, 256, (7, 11, 3), np.uint8)
    small = policy_image(rgb, height=height, width=width)
    assert small.shape == (height, width, 3)
    assert abs(small.mean() - rgb.mean()) < 1


@pytest.mark.req("R-EPISODE-06")
def test_fractional_boxes_weigh_border_pixels_by_their_share():
    rgb = np.zeros((1, 3, 3), np.uint8)
    rgb[0, :, 0] = [30, 90, 210]
    assert policy_image(rgb, height=1, width=2)[0, :, 0].tolist() == [50, 170]


@pytest.mark.parametrize(
    ("image", "size", "code"),
    [
        (np.zeros((4, 4), np.uint8), (2, 2), "IMAGE-001"),
        (np.zeros((4, 4, 3), np.float32), (2, 2), "IMAGE-001"),
        (np.zeros((4, 4, 3), np.uint8), (0, 2), "IMAGE-002"),
    ],
)
def test_what_is_no_colour_image_is_refused(image, size, code):
    with pytest.raises(ContractError, match=code):
        policy_image(image, height=size[0], width=size[1])
