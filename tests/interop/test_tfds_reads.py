"""Stock tensorflow-datasets and rlds read what we write, equal in every bit."""

import subprocess
import sys
from unittest import mock

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.rlds.episode import metadata_to_json
from continuon.rlds.exporters.array_record import write_array_record
from continuon.rlds.images import decode_depth_png
from continuon.rlds.steps import read_steps
from continuon.rlds.tfds_write import convert

tfds = pytest.importorskip("tensorflow_datasets", reason="needs tensorflow-datasets")


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    """Three episodes of different length and task, with stamps past 2**53 ns."""
    folder = tmp_path_factory.mktemp("in")
    for number, count in enumerate((8, 5, 12)):
        draft = legal_draft(count)
        shift = 1_700_000_000_000_000_001 + number * 10**12
        samples = {
            name: tuple((at + shift, value) for at, value in rows)
            for name, rows in draft.samples.items()
        }
        offsets = tuple(
            attrs.evolve(o, measured_at_ns=o.measured_at_ns + shift)
            for o in draft.offsets
        )
        metadata = attrs.evolve(
            draft.metadata, episode_id=f"e{number}", task=f"tâche {number}"
        )
        moved = attrs.evolve(draft, metadata=metadata, samples=samples, offsets=offsets)
        write_draft(moved, folder)
    return folder


@pytest.fixture(scope="module", params=["png", "raw"])
def directory(episodes, tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("tfds")
    return convert(episodes, folder, depth=request.param).directory


def columns(episode):
    """Return an episode's steps as columns; pictures stay encoded."""
    steps = list(episode["steps"])
    return {
        "image": [step["observation"]["image"].numpy() for step in steps],
        "depth": [step["observation"]["depth"].numpy() for step in steps],
        **{
            name: np.array([read(step).numpy() for step in steps])
            for name, read in {
                "stamp_ns": lambda s: s["observation"]["stamp_ns"],
                "state": lambda s: s["observation"]["state"],
                "action": lambda s: s["action"],
                "valid": lambda s: s["valid"],
                "reward": lambda s: s["reward"],
                "discount": lambda s: s["discount"],
                "is_first": lambda s: s["is_first"],
                "is_last": lambda s: s["is_last"],
                "is_terminal": lambda s: s["is_terminal"],
                "language_instruction": lambda s: s["language_instruction"],
            }.items()
        },
        "skew_ns": {
            name: np.array([step["skew_ns"][name].numpy() for step in steps])
            for name in steps[0]["skew_ns"]
        },
    }


def bits(array):
    return np.ascontiguousarray(array).tobytes()


def same_bits(ours, theirs, dtype):
    assert theirs.dtype == np.dtype(dtype)
    assert ours.shape == theirs.shape
    assert bits(ours.astype(dtype)) == bits(theirs)


@pytest.mark.req("R-EPISODE-50")
def test_builder_from_directory_reads_every_field_to_the_last_bit(episodes, directory):
    builder = tfds.builder_from_directory(str(directory))
    skip = tfds.decode.SkipDecoding()
    data = builder.as_dataset(
        split="train",
        decoders={"steps": {"observation": {"image": skip}}},
        shuffle_files=False,
    )
    wanted = {steps.metadata.episode_id: steps for steps in read_steps(episodes)}
    seen = 0
    for episode in data:
        facts = {k: v.numpy() for k, v in episode["episode_metadata"].items()}
        steps = wanted.pop(facts["episode_id"].decode())
        assert facts["metadata_json"] == metadata_to_json(steps.metadata)
        assert facts["origin"].decode() == steps.metadata.origin
        assert facts["end_reason"].decode() == steps.end_reason
        found = columns(episode)
        assert found["image"] == [bytes(blob) for blob in steps.image]
        for ours, theirs in zip(steps.depth, found["depth"], strict=True):
            same_bits(decode_depth_png(ours)[..., None], theirs, np.uint16)
        same_bits(steps.stamp_ns, found["stamp_ns"], np.int64)
        same_bits(steps.state, found["state"], np.float32)
        same_bits(steps.action, found["action"], np.float32)
        for name in ("valid", "is_first", "is_last", "is_terminal"):
            same_bits(getattr(steps, name), found[name], np.bool_)
        assert set(found["skew_ns"]) == set(steps.skew_ns)
        for name, values in steps.skew_ns.items():
            same_bits(values, found["skew_ns"][name], np.int64)
        texts = {text.decode() for text in found["language_instruction"]}
        assert texts == {steps.metadata.task}
        seen += len(steps)
    assert (wanted, seen) == ({}, 25)


@pytest.mark.req("R-EPISODE-50")
def test_pictures_decode_in_tensorflow_too(directory):
    builder = tfds.builder_from_directory(str(directory))
    for episode in builder.as_dataset(split="train"):
        for step in episode["steps"]:
            assert step["observation"]["image"].shape == (12, 16, 3)


@pytest.mark.req("R-EPISODE-50")
def test_rlds_transformations_accept_the_episodes(directory):
    # rlds imports dm-reverb for its replay buffers, which has no wheel for this
    # Python; none of its transformations of data sets uses it.
    sys.modules.setdefault("reverb", mock.MagicMock())
    rlds = pytest.importorskip("rlds", reason="needs rlds")
    builder = tfds.builder_from_directory(str(directory))
    data = builder.as_dataset(split="train", shuffle_files=False)
    lengths = [
        int(rlds.transformations.episode_length(episode[rlds.STEPS]))
        for episode in data
    ]
    assert sorted(lengths) == [5, 8, 12]
    for episode in data:
        windows = rlds.transformations.batch(
            episode[rlds.STEPS], size=3, shift=1, drop_remainder=True
        )
        first = next(iter(windows))
        assert first["action"].shape == (3, 2)
        assert first["observation"]["depth"].shape == (3, 12, 16, 1)
        ends = rlds.transformations.truncate_after_condition(
            episode[rlds.STEPS], lambda step: step["is_last"]
        )
        total = int(rlds.transformations.episode_length(ends))
        assert total == int(rlds.transformations.episode_length(episode[rlds.STEPS]))


@pytest.mark.req("R-EPISODE-50")
def test_array_record_is_a_data_source_without_tensorflow(episodes, tmp_path):
    write_array_record(episodes, tmp_path / "out")
    wanted = {
        s.metadata.episode_id: bits(s.stamp_ns).hex() for s in read_steps(episodes)
    }
    code = f"""
import sys
import numpy as np
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory({str(tmp_path / "out" / "continuon" / "1.0.0")!r})
source = builder.as_data_source(split="train")
for number in reversed(range(len(source))):
    episode = source[number]
    stamps = [step["observation"]["stamp_ns"] for step in episode["steps"]]
    name = episode["episode_metadata"]["episode_id"].decode()
    print(name, np.array(stamps, np.int64).tobytes().hex())
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert dict(line.split() for line in done.stdout.splitlines()) == wanted
