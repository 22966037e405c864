"""Exporting to Rerun and ArrayRecord: whole, verified by the target's own tools."""

import subprocess
import sys

import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.errors import DataError
from continuon.rlds.tfds_read import open_tfds
from continuon.rlds.tfds_write import convert
from continuon.rlds.tfrecord import read_records


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    write_draft(legal_draft(6), tmp_path / "in")
    return tmp_path / "in"


def rerun_tool(*argv):
    done = subprocess.run(
        [sys.executable, "-m", "rerun", "rrd", *map(str, argv)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "RERUN": "on"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-54")
def test_a_rerun_recording_verifies_and_has_every_sample(tmp_path, source):
    pytest.importorskip("rerun", reason="needs continuon[viz]")
    from continuon.rlds.exporters.rerun import write_rerun

    report = write_rerun(source, tmp_path / "out")
    (file,) = (tmp_path / "out").iterdir()
    assert file.name == "episode-1.rrd"
    assert (report.exit_code, report.episodes) == (0, 1)
    samples = sum(len(rows) for rows in legal_draft(6).samples.values())
    assert report.steps == samples
    assert "verified without error" in rerun_tool("verify", file)
    stats = rerun_tool("stats", file)
    rows = int(stats.split("num_rows = ")[1].split()[0].replace(",", ""))
    assert rows >= samples
    with pytest.raises(DataError, match="E-RLDS-FORMAT-001"):
        write_rerun(source, tmp_path / "out")


@pytest.mark.req("R-EPISODE-54")
def test_an_array_record_holds_the_records_of_the_tfds_directory(tmp_path, source):
    module = pytest.importorskip(
        "array_record.python.array_record_module", reason="needs array-record"
    )
    from continuon.rlds.exporters.array_record import write_array_record

    report = write_array_record(source, tmp_path / "out")
    assert (report.episodes, report.steps, report.exit_code) == (1, 6, 0)
    folder = tmp_path / "out" / "continuon" / "1.0.0"
    reader = module.ArrayRecordReader(
        str(folder / "continuon-train.array_record-00000-of-00001")
    )
    plain = open_tfds(convert(source, tmp_path / "plain").directory)
    wanted = [bytes(record) for record in read_records(plain.shards[0][0])]
    assert reader.read_all() == wanted
    reader.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "plain"]
