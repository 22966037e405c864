"""Data sets of others: usable ones pass leniently, each fault gets its code."""

import json
from pathlib import Path

import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.errors import DataError, UsageError
from continuon.rlds import tfds_shards
from continuon.rlds.findings import Severity
from continuon.rlds.tfds_write import convert
from continuon.rlds.validate_tfds import DATASET_RULES, validate_dataset

DATA = Path(__file__).parents[2] / "../shared/data"


def dataset(tmp_path, monkeypatch, **changes):
    """Write a data set of four steps whose features are changed on their way out."""
    honest = tfds_shards.episode_features

    def changed(steps, **span):
        features = honest(steps, **span)
        for path, change in changes.items():
            features[path] = change(features.get(path))
            if features[path] is None:
                del features[path]
        return features

    (tmp_path / "in").mkdir()
    write_draft(legal_draft(4), tmp_path / "in")
    monkeypatch.setattr(tfds_shards, "episode_features", changed)
    monkeypatch.setattr("continuon.rlds.tfds_write.check_equal", lambda *_: None)
    convert(tmp_path / "in", tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.req("R-EPISODE-34")
def test_what_we_write_passes_strictly(tmp_path, monkeypatch):
    report = validate_dataset(dataset(tmp_path, monkeypatch), profile="strict")
    assert report.ok
    (episode,) = report.episodes
    assert (episode.errors, episode.warnings) == ((), ())
    assert (episode.origin, episode.figures["steps"]) == ("simulated", 4)
    assert episode.figures["rate_hz"] == pytest.approx(30, abs=0.1)
    assert json.loads(json.dumps(report.as_dict()))["ok"] is True


def nan_at_2(values):
    values = values.copy()
    values[2] = np.nan
    return values


FAULTS = {
    "no action": ("steps/action", lambda _: None, "003"),
    "one action short": ("steps/action", lambda v: v[:3], "004"),
    "no state": ("steps/observation/state", lambda _: None, "004"),
    "no flag": ("steps/is_first", lambda _: None, "005"),
    "starts late": ("steps/is_first", lambda v: np.roll(v, 1), "006"),
    "never ends": ("steps/is_last", lambda v: v * 0, "007"),
    "ends twice": ("steps/is_terminal", lambda v: v * 0 + 1, "008"),
    "not finite": ("steps/action", nan_at_2, "009"),
    "empty picture": ("steps/observation/image", lambda v: [b"", *v[1:]], "010"),
    "still camera": ("steps/observation/image", lambda v: [v[0]] * 4, "012"),
    "no origin": ("episode_metadata/origin", lambda _: None, "013"),
    "invented origin": ("episode_metadata/origin", lambda _: [b"moon"], "013"),
    "no stamps": ("steps/observation/stamp_ns", lambda _: None, "014"),
    "time stands": ("steps/observation/stamp_ns", lambda v: v * 0, "015"),
}


@pytest.mark.req("R-EPISODE-34")
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_gets_its_code_in_both_profiles(tmp_path, monkeypatch, name):
    path, change, number = FAULTS[name]
    code = f"E-EPISODE-RLDS-{number}"
    where = dataset(tmp_path, monkeypatch, **{path: change})
    for profile, severity in zip(
        ("strict", "lenient"), DATASET_RULES[code], strict=False
    ):
        (episode,) = validate_dataset(where, profile=profile).episodes
        is_error = severity is Severity.ERROR
        assert code in {f.code for f in (episode.warnings, episode.errors)[is_error]}


def test_a_picture_of_another_size_than_declared_is_found(tmp_path, monkeypatch):
    where = dataset(tmp_path, monkeypatch)
    table = where / "continuon" / "1.0.0" / "features.json"
    table.write_text(table.read_text().replace('"12"', '"13"'))
    (episode,) = validate_dataset(where).episodes
    assert {f.code for f in episode.warnings} == {"E-EPISODE-RLDS-011"}


@pytest.mark.req("R-EPISODE-34")
def test_damage_in_a_shard_is_an_error_of_the_whole(tmp_path, monkeypatch):
    where = dataset(tmp_path, monkeypatch)
    (shard,) = where.rglob("*.tfrecord-*")
    shard.write_bytes(shard.read_bytes()[:-1])
    report = validate_dataset(where)
    assert [f.code for f in report.errors] == ["E-EPISODE-RLDS-001"]
    assert not report.ok


def test_no_data_set_and_no_such_profile_are_refused(tmp_path):
    with pytest.raises(DataError, match="RLDS-016"):
        validate_dataset(tmp_path)
    with pytest.raises(UsageError, match="PROFILE-001"):
        validate_dataset(tmp_path, profile="loose")


@pytest.mark.req("R-EPISODE-34")
def test_real_episodes_by_others_pass_leniently_and_say_what_they_lack():
    path = DATA / "rlds-bridge"
    if not path.exists():
        pytest.skip("the real recordings are not on this machine")
    report = validate_dataset(path)
    assert report.ok
    assert [f.code for f in report.warnings] == ["E-EPISODE-RLDS-002"]
    assert len(report.episodes) == 25
    lacking = {f.code[-3:] for f in report.episodes[0].warnings}
    assert {"007", "013", "014"} <= lacking
    strict = validate_dataset(path, profile="strict")
    assert not any(episode.ok for episode in strict.episodes)
