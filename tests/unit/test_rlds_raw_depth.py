"""Bare depth holds the very counts of the PNG, whatever they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from continuon.errors import DataError
from continuon.rlds.images import decode_depth_png, encode_depth_png
from continuon.rlds.picture_columns import decode_depths, raw_depths
from continuon.rlds.raw_depth import (
    RawDepths,
    counts_of,
    is_raw_depth,
    raw_counts,
)

pictures = arrays.arrays(
    np.uint16,
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.integers(0, 65_535),
)


@pytest.mark.law
@pytest.mark.req("R-EPISODE-50")
@given(depth=pictures)
def test_counts_survive_both_forms(depth):
    blob = counts_of(encode_depth_png(depth))
    np.testing.assert_array_equal(raw_counts(blob, *depth.shape), depth)
    held = RawDepths([memoryview(blob)], depth.shape)
    np.testing.assert_array_equal(decode_depth_png(held[0]), depth)
    np.testing.assert_array_equal(held[:1].counts(0), depth)


@pytest.mark.law
@given(depth=pictures, height=st.integers(1, 12), width=st.integers(1, 12))
def test_a_small_picture_is_the_same_from_either_form(depth, height, width):
    png = encode_depth_png(depth)
    blob = memoryview(counts_of(png))
    np.testing.assert_array_equal(
        raw_depths([blob], shape=depth.shape, size=(height, width)),
        decode_depths([png], size=(height, width)),
    )


@pytest.mark.parametrize("count", [0, 11, 13])
def test_a_picture_of_another_size_is_named(count):
    with pytest.raises(DataError, match="E-RLDS-DEPTH-001"):
        raw_depths([memoryview(bytes(count))], shape=(2, 3))


@pytest.mark.parametrize(
    "tensor",
    [
        {},
        {"dtype": "uint16", "encoding": "none", "shape": {"dimensions": [2, 3, 1]}},
        {"dtype": "float32", "encoding": "bytes", "shape": {"dimensions": [2, 3, 1]}},
        {"dtype": "uint16", "encoding": "bytes", "shape": {"dimensions": [2, 3]}},
        {"dtype": "uint16", "encoding": "bytes", "shape": {"dimensions": [2, 3, 2]}},
    ],
)
def test_other_tensors_are_no_depth(tensor):
    assert not is_raw_depth(tensor)
