"""A data set in ArrayRecord files reads like the same one in TFRecord files."""

import sys

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.errors import DataError, MissingPackageError
from continuon.rlds.loader import Loader
from continuon.rlds.step_store import open_store
from continuon.rlds.steps import read_steps
from continuon.rlds.tfds_index import INDEX_FILE
from continuon.rlds.tfds_write import convert
from continuon.rlds.validate_tfds import validate_dataset
from continuon.rlds.windows import open_windows

MODULE = "array_record.python.array_record_module"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two episodes as TFRecord (`plain`) and ArrayRecord (`out`) data sets."""
    pytest.importorskip(MODULE, reason="needs continuon[arrayrecord]")
    from continuon.rlds.exporters.array_record import write_array_record

    folder = tmp_path_factory.mktemp("array-record")
    (folder / "in").mkdir()
    for name, steps in (("a", 4), ("b", 6)):
        metadata = legal_metadata(episode_id=name, start_wall_ns=ord(name))
        write_draft(attrs.evolve(legal_draft(steps), metadata=metadata), folder / "in")
    convert(folder / "in", folder / "plain")
    write_array_record(folder / "in", folder / "out")
    return folder


def shard_of(folder):
    (shard,) = folder.glob("continuon/1.0.0/*.array_record-*")
    return shard


def copy_of(data, target):
    folder = target / "continuon" / "1.0.0"
    folder.mkdir(parents=True)
    for file in (data / "out" / "continuon" / "1.0.0").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return target


@pytest.mark.req("R-EPISODE-87")
def test_steps_of_both_containers_are_equal(data):
    pairs = zip(read_steps(data / "plain"), read_steps(data / "out"), strict=True)
    for plain, other in pairs:
        assert plain.metadata == other.metadata
        assert list(plain.image) == list(other.image)
        assert list(plain.depth) == list(other.depth)
        np.testing.assert_array_equal(plain.action, other.action)
        np.testing.assert_array_equal(plain.stamp_ns, other.stamp_ns)


@pytest.mark.req("R-EPISODE-87")
@pytest.mark.parametrize("cached", [True, False])
def test_windows_and_batches_of_both_containers_are_equal(data, tmp_path, cached):
    folder = copy_of(data, tmp_path)
    index = shard_of(folder).with_name(INDEX_FILE)
    assert index.is_file()
    if not cached:
        index.unlink()
    plain = open_windows(data / "plain", length=2)
    other = open_windows(folder, length=2)
    assert plain.fingerprint() == other.fingerprint()
    assert open_store(folder).columns == plain.store.columns
    loaders = [Loader(s, batch_size=2, epochs=1, threads=2) for s in (plain, other)]
    for one, two in zip(*loaders, strict=True):
        assert one.keys() == two.keys()
        for name, values in one.items():
            np.testing.assert_array_equal(two[name], values)


@pytest.mark.req("R-EPISODE-87")
def test_it_is_judged_like_the_other(data):
    reports = [validate_dataset(data / kind) for kind in ("plain", "out")]
    assert reports[1].ok
    assert [e.figures for e in reports[0].episodes] == [
        e.figures for e in reports[1].episodes
    ]


@pytest.mark.req("R-EPISODE-87")
@pytest.mark.parametrize("harm", ["cut", "changed", "empty", "other"])
def test_damage_is_named_with_its_file(data, tmp_path, harm):
    folder = copy_of(data, tmp_path)
    shard = shard_of(folder)
    whole = bytearray(shard.read_bytes())
    if harm == "changed":
        whole[200] ^= 0xFF
    shard.write_bytes(
        {"cut": whole[:-90], "changed": whole, "empty": b"", "other": b"x" * 9000}[harm]
    )
    with pytest.raises(DataError, match=rf"ARRAYRECORD-001.*{shard.name}"):
        list(read_steps(folder))
    shard.with_name(INDEX_FILE).unlink()
    with pytest.raises(DataError, match="ARRAYRECORD-001"):
        open_store(folder)


@pytest.mark.req("R-EPISODE-87")
def test_without_the_package_the_install_line_is_said(data, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULE, None)
    for read in (lambda p: list(read_steps(p)), lambda p: open_windows(p, length=2)):
        with pytest.raises(MissingPackageError, match=r"continuon\[arrayrecord\]"):
            read(data / "out")
