"""Recording sessions: what is whole stays, what is not is set aside and made again."""

from __future__ import annotations

from types import SimpleNamespace

import attrs
import pytest

pytest.importorskip("simplejpeg")
from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.errors import DataError
from continuon.pipeline import recording
from continuon.pipeline.context import Context
from continuon.pipeline.gates import Verdict, load_gates
from continuon.pipeline.phases import capture
from continuon.rlds.episode import EndReason
from continuon.rlds.layout import Opening

SESSION = {"rig": "sim", "seed": 0, "duration_s": 0.3, "workers": 1}
NAME = "sim-s0-0p3s-{:04d}"


def write(folder, index, reason=EndReason.TIME_LIMIT):
    folder.mkdir(parents=True, exist_ok=True)
    metadata = legal_metadata(episode_id=NAME.format(index))
    return write_draft(
        attrs.evolve(legal_draft(4), metadata=metadata, end_reason=reason), folder
    )


@pytest.fixture
def recorder(monkeypatch):
    """A capture that writes drafts at once, ended as `reasons` says, in order."""
    draft = legal_draft(4)
    wanted = Opening(draft.metadata, draft.streams)
    told = SimpleNamespace(asked=[], reasons=[], wanted=wanted)

    def capture(_rigs, _pilot, folder, *, indexes, **_more):
        told.asked.append(list(indexes))
        made = []
        for index in indexes:
            reason = told.reasons.pop(0) if told.reasons else EndReason.TIME_LIMIT
            path = write(folder, index, reason)
            made.append(
                SimpleNamespace(
                    path=path,
                    episode_id=path.stem,
                    end_reason=reason,
                    drops={},
                )
            )
        return SimpleNamespace(episodes=tuple(made), wall_s=0.1)

    monkeypatch.setattr(recording, "capture_episodes", capture)
    monkeypatch.setattr(recording, "wanted_opening", lambda *_, **__: told.wanted)
    return told


@pytest.mark.req("R-RECORD-01")
def test_only_what_is_missing_is_recorded(tmp_path, recorder):
    write(tmp_path / "e", 1)
    report = recording.record_episodes(tmp_path / "e", count=3, **SESSION)
    assert recorder.asked == [[0, 2]]
    assert (report.recorded, report.kept, report.archived) == (2, 1, None)
    assert len(list((tmp_path / "e").glob("*.mcap"))) == 3


@pytest.mark.req("R-RECORD-01")
@pytest.mark.parametrize(
    "reason", [r for r in EndReason if r not in recording.PLANNED], ids=str
)
def test_a_recording_that_was_cut_off_is_set_aside_and_made_again(
    tmp_path, recorder, reason
):
    write(tmp_path / "e", 0, reason)
    report = recording.record_episodes(tmp_path / "e", count=1, **SESSION)
    assert recorder.asked == [[0]]
    assert (report.recorded, report.kept, report.ended_early) == (1, 0, ())
    assert report.archived is not None
    assert [path.stem for path in report.archived.iterdir()] == [NAME.format(0)]


@pytest.mark.req("R-RECORD-01")
def test_a_file_that_is_no_recording_is_set_aside_not_counted(tmp_path, recorder):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / f"{NAME.format(0)}.mcap").write_bytes(b"junk")
    report = recording.record_episodes(tmp_path / "e", count=1, **SESSION)
    assert (report.recorded, report.kept) == (1, 0)
    assert report.archived is not None


@pytest.mark.req("R-RECORD-02")
def test_a_cut_off_recording_is_never_called_there_by_the_next_run(tmp_path, recorder):
    recorder.reasons += [EndReason.DISK_FULL, EndReason.DISK_FULL]
    for _ in range(2):
        report = recording.record_episodes(tmp_path / "e", count=1, **SESSION)
        assert (report.recorded, report.kept) == (1, 0)
        assert report.ended_early == (f"{NAME.format(0)}: disk_full",)


@pytest.mark.req("R-RECORD-01")
def test_what_a_killed_session_had_finished_is_kept_and_its_torn_file_set_aside(
    tmp_path, recorder
):
    fresh = tmp_path / "e.part"
    whole = write(fresh, 0)
    torn = fresh / f"{NAME.format(1)}.mcap.part"
    torn.write_bytes(whole.read_bytes()[:500])
    report = recording.record_episodes(tmp_path / "e", count=2, **SESSION)
    assert recorder.asked == [[1]]
    assert (report.recorded, report.kept) == (1, 1)
    assert (report.archived / torn.name).read_bytes() == whole_bytes(tmp_path)[:500]


@pytest.mark.req("R-EPISODE-19")
@pytest.mark.parametrize("folder", ["e", "e.part"])
def test_another_setup_is_refused_before_anything_is_recorded_or_moved(
    tmp_path, recorder, folder
):
    write(tmp_path / folder, 0)
    write(tmp_path / "e", 2, EndReason.CAMERA_LOST)
    metadata = attrs.evolve(recorder.wanted.metadata, robot_id="car-2")
    recorder.wanted = Opening(metadata, recorder.wanted.streams)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"SETUP-001.*robot_id"):
        recording.record_episodes(tmp_path / "e", count=3, **SESSION)
    assert recorder.asked == []
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.req("R-EPISODE-19")
def test_a_session_that_is_complete_asks_no_rig(tmp_path, recorder):
    write(tmp_path / "e", 0)
    recorder.wanted = None
    report = recording.record_episodes(tmp_path / "e", count=1, **SESSION)
    assert (report.recorded, report.kept) == (0, 1)


def whole_bytes(root):
    return (root / "e" / f"{NAME.format(0)}.mcap").read_bytes()


@pytest.mark.req("R-RECORD-03")
def test_recordings_of_another_session_stay_beside_this_one(tmp_path, recorder):
    other = write_draft(legal_draft(4), tmp_path)
    report = recording.record_episodes(tmp_path, count=1, **SESSION)
    assert other.exists()
    assert (report.recorded, report.others, report.archived) == (1, 1, None)


@pytest.mark.req("R-RECORD-03")
def test_a_pipeline_sets_recordings_of_another_session_aside(tmp_path, recorder):
    folder = tmp_path / "e"
    folder.mkdir()
    other = write_draft(legal_draft(4), folder)
    report = recording.record_episodes(folder, count=1, alone=True, **SESSION)
    assert not other.exists()
    assert (report.archived / other.name).exists()


@pytest.mark.req("R-RECORD-03")
def test_a_pipeline_that_asks_for_fewer_keeps_only_those(tmp_path, recorder):
    for index in range(3):
        write(tmp_path / "e", index)
    report = recording.record_episodes(tmp_path / "e", count=2, alone=True, **SESSION)
    assert recorder.asked == []
    assert len(list((tmp_path / "e").glob("*.mcap"))) == 2
    assert len(list(report.archived.iterdir())) == 1


@pytest.mark.req("R-RECORD-04")
@pytest.mark.parametrize("count", [0, 2])
def test_on_a_real_robot_phase_3_judges_what_a_person_recorded(tmp_path, count):
    context = Context(root=tmp_path, rig="pi")
    for index in range(count):
        context.home.episodes.mkdir(parents=True, exist_ok=True)
        metadata = legal_metadata(episode_id=f"e{index}", origin="real")
        draft = attrs.evolve(legal_draft(8), metadata=metadata)
        write_draft(draft, context.home.episodes)
    capture.inputs(context)
    outcome = capture.run(context, lambda *_: None)
    gate = next(gate for gate in load_gates() if gate.name == "capture")
    verdict, checks = gate.check(outcome.figures, origin=outcome.origin)
    assert outcome.origin == "real"
    assert outcome.figures["episodes"] == count
    assert verdict is not Verdict.PASSED
    assert not checks[0].ok
    assert "--rig pi" in checks[0].hint
