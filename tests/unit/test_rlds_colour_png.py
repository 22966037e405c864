"""Colour without loss: every 8-bit PNG that a camera tool writes, and our own."""

import struct
import zlib

import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.errors import ContractError, DataError
from continuon.rlds.images import colour_size, decode_colour, encode_jpeg
from continuon.rlds.png8 import decode_colour_png, encode_colour_png
from continuon.rlds.png_file import png_chunk
from continuon.rlds.steps import read_steps
from continuon.rlds.tfds_read import open_tfds
from continuon.rlds.tfds_write import convert
from continuon.rlds.validate import validate_recording

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # fmt: skip


def filtered(pixels, kinds):
    """Filter rows one sample at a time, as the specification words it."""
    height, width, step = pixels.shape
    rows = pixels.reshape(height, width * step).astype(int)
    out = bytearray()
    for y, (row, kind) in enumerate(zip(rows, kinds, strict=True)):
        out.append(kind)
        up = rows[y - 1] if y else np.zeros_like(row)
        for x, value in enumerate(row):
            a = row[x - step] if x >= step else 0
            b, c = up[x], (up[x - step] if x >= step else 0)
            p = a + b - c
            near = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            out.append((value - (0, a, b, (a + b) // 2, near)[kind]) & 255)
    return bytes(out)


def png(pixels, colour, kinds, *, bits=8, palette=b"", interlace=False):
    height, width, _ = pixels.shape
    parts = [pixels[r::rs, c::cs] for r, c, rs, cs in ADAM7] if interlace else [pixels]
    raw = b"".join(filtered(p, kinds[: len(p)]) for p in parts if p.size)
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlace))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + (png_chunk(b"PLTE", palette) if palette else b"")
        + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND")
    )


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.req("R-EPISODE-07")
@pytest.mark.parametrize("interlace", [False, True])
@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_grey_and_colour_decode_with_any_filter_and_alpha_is_left_out(
    rng, colour, interlace
):
    step = CHANNELS[colour]
    pixels = rng.integers(0, 256, (9, 11, step)).astype(np.uint8)
    data = png(pixels, colour, [0, 1, 2, 3, 4, 4, 3, 2, 1], interlace=interlace)
    wanted = pixels[..., :3] if step > 2 else pixels[..., [0, 0, 0]]
    np.testing.assert_array_equal(decode_colour(data), wanted)
    assert colour_size(data) == (11, 9)


@pytest.mark.req("R-EPISODE-07")
def test_a_palette_is_looked_up_and_a_pixel_past_it_is_damage(rng):
    palette = rng.integers(0, 256, (5, 3)).astype(np.uint8)
    pixels = rng.integers(0, 5, (4, 6, 1)).astype(np.uint8)
    data = png(pixels, 3, [0] * 4, palette=palette.tobytes())
    np.testing.assert_array_equal(decode_colour_png(data), palette[pixels[..., 0]])
    pixels[2, 3] = 5
    for broken in (palette.tobytes(), palette.tobytes()[:-1], b""):
        with pytest.raises(DataError, match="PNG-014"):
            decode_colour_png(png(pixels, 3, [0] * 4, palette=broken))


@pytest.mark.req("R-EPISODE-07")
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (7, 11)])
def test_our_own_writer_loses_nothing(rng, shape):
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decode_colour(encode_colour_png(image)), image)


def test_sixteen_bits_are_refused_as_colour_and_other_arrays_as_pictures(rng):
    data = png(rng.integers(0, 256, (2, 2, 2)).astype(np.uint8), 0, [0, 0])
    deep = data.replace(
        png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)),
        png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 0, 0, 0, 0)),
    )
    with pytest.raises(DataError, match="PNG-003"):
        decode_colour_png(deep)
    with pytest.raises(ContractError, match="PNG-013"):
        encode_colour_png(np.zeros((2, 2), np.uint8))


@pytest.mark.req("R-EPISODE-07")
def test_an_episode_of_png_colour_validates_converts_and_reads_back(tmp_path, rng):
    import attrs

    draft = legal_draft()
    images = [rng.integers(0, 256, (12, 16, 3)).astype(np.uint8) for _ in range(8)]
    stamps = [at for at, _ in draft.samples["rgb"]]
    blobs = tuple(
        (at, encode_colour_png(image)) for at, image in zip(stamps, images, strict=True)
    )
    streams = (attrs.evolve(draft.streams[0], codec="png"), *draft.streams[1:])
    samples = dict(draft.samples) | {"rgb": blobs}
    (tmp_path / "in").mkdir()
    path = write_draft(
        attrs.evolve(draft, streams=streams, samples=samples), tmp_path / "in"
    )
    assert validate_recording(path).errors == ()
    report = convert(tmp_path / "in", tmp_path / "out")
    kinds = open_tfds(report.directory).kinds
    assert kinds["steps/observation/image"]["image"]["encodingFormat"] == "png"
    (steps,) = read_steps(tmp_path / "out")
    for blob, image in zip(steps.image, images, strict=True):
        np.testing.assert_array_equal(decode_colour(blob), image)


@pytest.mark.req("R-EPISODE-33")
def test_a_jpeg_in_a_png_stream_is_found(tmp_path):
    import attrs

    draft = legal_draft()
    streams = (attrs.evolve(draft.streams[0], codec="png"), *draft.streams[1:])
    wrong = tuple((at, encode_jpeg(np.zeros((12, 16, 3), np.uint8))) for at, _ in draft.samples["rgb"])  # fmt: skip
    path = write_draft(
        attrs.evolve(
            draft, streams=streams, samples=dict(draft.samples) | {"rgb": wrong}
        ),
        tmp_path,
    )
    codes = {finding.code for finding in validate_recording(path).errors}
    assert "E-EPISODE-IMAGE-002" in codes
