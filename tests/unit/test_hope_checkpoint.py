"""Checkpoints come back bit for bit, or not at all."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon import hope
from continuon._specs.hope.examples import TINY, parameters
from continuon.errors import ContractError, DataError
from continuon.hope.checkpoint import flatten
from continuon.tensorfile import read_tensors, write_tensors

SMALL = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "t": np.int32(7)}


@pytest.mark.req("R-HOPE-32")
def test_a_checkpoint_is_read_back_bit_for_bit(tmp_path):
    params = parameters(TINY)
    path = tmp_path / "deep" / "policy.hope"
    sha256 = hope.save_checkpoint(path, TINY, params, metadata={"steps": 3})
    loaded = hope.load_checkpoint(path)
    assert (loaded.config, loaded.metadata) == (TINY, {"steps": 3})
    assert loaded.sha256 == sha256
    before, after = flatten(params), flatten(loaded.params)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert value.dtype == after[name].dtype
        assert value.tobytes() == after[name].tobytes()
    assert not list(path.parent.glob(".*"))


@pytest.mark.req("R-HOPE-32")
def test_saving_the_same_twice_gives_the_same_file(tmp_path):
    paths = [tmp_path / name for name in ("a.hope", "b.hope")]
    sums = {hope.save_checkpoint(p, TINY, parameters(TINY), metadata={}) for p in paths}
    assert len(sums) == 1
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("tensors") / "small.weights"
    write_tensors(path, SMALL, {"kind": "test"})
    return path


@pytest.mark.req("R-HOPE-32")
@given(st.data())
def test_any_altered_byte_is_refused(small, data):
    whole = bytearray(small.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    altered = small.with_name("altered.weights")
    altered.write_bytes(whole)
    with pytest.raises(DataError) as caught:
        read_tensors(altered)
    assert caught.value.code.startswith("E-TENSOR-")


@pytest.mark.req("R-HOPE-32")
@given(st.data())
def test_a_file_cut_short_or_grown_is_refused(small, data):
    whole = small.read_bytes()
    size = data.draw(st.integers(0, len(whole) - 1))
    altered = small.with_name("cut.weights")
    for bad in (whole[:size], whole + b"\0" * (size + 1)):
        altered.write_bytes(bad)
        with pytest.raises(DataError):
            read_tensors(altered)


@pytest.mark.req("R-HOPE-32")
def test_an_absent_or_foreign_file_is_refused_with_its_own_code(tmp_path):
    with pytest.raises(DataError) as absent:
        hope.load_checkpoint(tmp_path / "none.hope")
    assert absent.value.code == "E-TENSOR-FILE-001"
    foreign = tmp_path / "foreign.hope"
    foreign.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(DataError) as other:
        hope.load_checkpoint(foreign)
    assert other.value.code == "E-TENSOR-HEAD-002"
    write_tensors(foreign, SMALL, {"kind": "something else", "version": 1})
    with pytest.raises(DataError) as kind:
        hope.load_checkpoint(foreign)
    assert kind.value.code == "E-HOPE-CKPT-001"


@pytest.mark.req("R-HOPE-33")
def test_the_file_is_laid_out_as_safetensors(small):
    data = small.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    assert size % 8 == 0
    assert all(isinstance(v, str) for v in header.pop("__metadata__").values())
    assert header["a/b"] == {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    assert header["t"] == {"dtype": "I32", "shape": [], "data_offsets": [24, 28]}
    assert data[8 + size :] == SMALL["a/b"].tobytes() + SMALL["t"].tobytes()


@pytest.mark.req("R-HOPE-33")
def test_a_failed_write_leaves_the_old_file_and_no_scrap(small):
    before = small.read_bytes()
    with pytest.raises(ContractError) as caught:
        write_tensors(small, {"bad": np.array(["text"])}, {})
    assert caught.value.code == "E-TENSOR-DTYPE-001"
    assert small.read_bytes() == before
    assert not list(small.parent.glob(".*"))


@pytest.mark.req("R-HOPE-33")
@given(
    st.dictionaries(
        st.text("abc/_0", min_size=1, max_size=8),
        st.lists(st.floats(width=32), max_size=6),
        max_size=4,
    )
)
def test_any_tensors_survive_a_round_trip(small, values):
    tensors = {name: np.array(value, np.float32) for name, value in values.items()}
    path = small.with_name("any.weights")
    write_tensors(path, tensors, {"n": len(tensors)})
    file = read_tensors(path)
    assert file.document == {"n": len(tensors)}
    assert {n: t.tobytes() for n, t in file.tensors.items()} == {
        n: t.tobytes() for n, t in tensors.items()
    }


def test_the_digest_of_parameters_is_of_names_kinds_shapes_and_bytes():
    ones = np.zeros((2, 4), np.float32)
    trees = (
        {"a": {"b": ones}},
        {"a": {"c": ones}},
        {"a": {"b": ones.reshape(4, 2)}},
        {"a": {"b": ones.view(np.int32)}},
        {"a": {"b": ones + 1}},
    )
    told = [hope.params_digest(tree) for tree in trees]
    assert len(set(told)) == len(trees)
    assert hope.params_digest({"a": {"b": ones.copy()}}) == told[0]
