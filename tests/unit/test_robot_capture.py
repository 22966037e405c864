import errno
from functools import partial
from pathlib import Path

import attrs
import numpy as np
import pytest

from continuon._specs.robot.fakes import (
    FakePolicy,
    FakeRig,
    NaNPilot,
    Spec,
    SteadyPilot,
)
from continuon.cli.episode_show import show
from continuon.errors import BudgetError, ContinuonError, DataError, HardwareError
from continuon.rig.calibration import CarCalibration, car_pulses_us
from continuon.rlds.episode import EndReason
from continuon.rlds.file_sink import FileSink
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.recording import open_recording, opening_of
from continuon.rlds.setup import opening_differences
from continuon.robot.capture import Job, _work, capture_episodes, wanted_opening
from continuon.robot.capture_episode import EpisodeNotes, record_episode
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.pilots import PolicyPilot

FAKES = "continuon._specs.robot.fakes"
PULSES = partial(car_pulses_us, calibration=CarCalibration())


def record(rig, pilot, folder, *, seconds=1.0, **more):
    return record_episode(
        rig,
        pilot,
        folder,
        episode_id="one",
        duration_s=seconds,
        limits=car_limits(),
        pulses=PULSES,
        **more,
    )


@pytest.mark.req("R-CAPTURE-01")
def test_an_episode_keeps_capture_times_and_reports_measured_rates(tmp_path):
    rig = FakeRig()
    capture = record(rig, SteadyPilot(), tmp_path)
    assert capture.end_reason is EndReason.TIME_LIMIT
    assert capture.rates_hz["rgb"] == pytest.approx(30.0, rel=0.01)
    assert capture.rates_hz["depth"] == pytest.approx(30.0, rel=0.01)
    assert capture.rates_hz["state"] == pytest.approx(100.0, rel=0.01)
    assert capture.rates_hz["action"] == pytest.approx(50.0, rel=0.01)
    with open_recording(capture.path) as recording:
        assert recording.metadata.origin == "simulated"
        rgb, depth = recording.streams["rgb"], recording.streams["depth"]
        assert set(depth.capture_ns - rgb.capture_ns) == {2_000_000}
        assert recording.clock_offsets
        assert recording.streams["state"].spec.names == rig.state.names


@pytest.mark.req("R-EPISODE-19")
def test_the_wanted_setup_is_the_one_that_is_recorded(tmp_path):
    factory = Factory(target=f"{FAKES}:FakeRig")
    wanted = wanted_opening(factory, index=1)
    report = capture_episodes(
        factory,
        Factory(target=f"{FAKES}:SteadyPilot"),
        tmp_path,
        count=2,
        indexes=[1],
        duration_s=0.2,
    )
    made = opening_of(report.episodes[0].path)
    assert opening_differences(made, wanted) == []
    assert wanted.metadata.episode_id == made.metadata.episode_id


def test_outputs_are_off_when_the_episode_is_over(tmp_path):
    rig = FakeRig()
    record(rig, SteadyPilot(), tmp_path)
    assert any(isinstance(call, dict) for call in rig.servos.calls)
    assert not any(rig.servos.outputs.values())


@pytest.mark.req("R-CAPTURE-03")
def test_what_was_intended_is_the_action_and_what_was_sent_stands_beside_it(tmp_path):
    pilot = SteadyPilot(action=(0.0, 0.2), applied=(0.3, 0.2))
    capture = record(FakeRig(), pilot, tmp_path)
    with open_recording(capture.path) as recording:
        intended = recording.streams["action"].vectors
        applied = recording.streams["applied"].vectors
    assert np.allclose(intended, [0.0, 0.2])
    assert np.allclose(applied[-1], [0.3, 0.2])


def test_an_action_that_is_no_number_is_recorded_as_the_one_that_held(tmp_path):
    capture = record(FakeRig(), NaNPilot(), tmp_path)
    assert capture.end_reason is EndReason.FAULT
    assert capture.refused_actions > 0
    with open_recording(capture.path) as recording:
        assert np.isfinite(recording.streams["action"].vectors).all()


@pytest.mark.req("R-CAPTURE-02")
@pytest.mark.parametrize("how", [{"dies_after_s": 0.5}, {"freezes_after_s": 0.5}])
def test_a_camera_that_stops_ends_the_episode_with_its_reason(tmp_path, how):
    capture = record(FakeRig(**how), SteadyPilot(), tmp_path, seconds=3.0)
    assert capture.end_reason is EndReason.CAMERA_LOST
    with open_recording(capture.path) as recording:
        assert recording.end_reason is EndReason.CAMERA_LOST
        assert len(recording.streams["rgb"].capture_ns) == 15


class FullDisk(FileSink):
    """Has room for the head of a recording, then for its closing records only."""

    room = 60_000

    def append(self, buffers):
        self.room -= sum(len(buffer) for buffer in buffers)
        if self.room < 0:
            self.room = 1 << 30
            raise OSError(errno.ENOSPC, "no space left on device")
        super().append(buffers)


@pytest.mark.req("R-CAPTURE-02")
def test_a_full_disk_ends_the_episode_with_its_reason(tmp_path):
    capture = record(
        FakeRig(),
        SteadyPilot(),
        tmp_path,
        seconds=20.0,
        open_recorder=partial(EpisodeRecorder, open_sink=FullDisk),
    )
    assert capture.end_reason is EndReason.DISK_FULL
    assert capture.duration_s < 20.0
    with open_recording(capture.path) as recording:
        assert len(recording.streams["action"].capture_ns) > 10


def test_a_camera_that_never_gives_a_frame_is_named(tmp_path):
    rig = FakeRig()
    rig.camera._seen = 10**9
    with pytest.raises(HardwareError, match="E-ROBOT-CAPTURE-002"):
        record(rig, SteadyPilot(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_camera_there_is_nothing_to_record(tmp_path):
    rig = FakeRig()
    rig.camera = None
    with pytest.raises(HardwareError, match="E-ROBOT-CAPTURE-001"):
        record(rig, SteadyPilot(), tmp_path)


def test_a_policys_run_is_recorded_as_the_policys(tmp_path):
    notes = EpisodeNotes.of_policy("sha256:abc", task="drive")
    capture = record(FakeRig(depth=False), SteadyPilot(), tmp_path, notes=notes)
    with open_recording(capture.path) as recording:
        assert recording.metadata.action_source == "vla_policy"
        assert recording.metadata.control_role == "human_supervisor"
        assert recording.metadata.provenance == {"bundle_id": "sha256:abc"}
        assert "depth" not in recording.streams


class Surprised(FakePolicy):
    """Is more surprised at each step; at the fifth it says what is no number."""

    def __init__(self):
        super().__init__(spec=Named())

    def step(self, image, proprio):
        told = super().step(image, proprio)
        surprise = float("nan") if self.steps == 5 else 0.1 * self.steps
        return attrs.evolve(told, surprise=surprise)


@attrs.frozen(kw_only=True)
class Named(Spec):
    config_digest: str = "c0ffee"


@pytest.mark.req("R-CAPTURE-04")
def test_a_policys_surprise_is_recorded_once_a_step_with_what_it_is_about(
    tmp_path,
):
    rig = FakeRig(depth=False)
    pilot = PolicyPilot(Surprised(), rig.clock.monotonic_ns)
    notes = EpisodeNotes.of_policy("sha256:abc")
    made = record(rig, pilot, tmp_path, notes=notes)
    with open_recording(made.path) as recording:
        about = recording.metadata.provenance["surprise_target"]
        assert about == "hope-frozen-target:c0ffee"
        stream, frames = recording.streams["surprise"], recording.streams["rgb"]
        steps = np.delete(np.arange(len(frames)), 4)
        np.testing.assert_array_equal(stream.capture_ns, frames.capture_ns[steps])
        np.testing.assert_allclose(stream.vectors[:, 0], 0.1 * (steps + 1), rtol=1e-6)
        assert made.drops["surprise"] == 1
    shown = show(made.path)
    assert shown.data["surprise"]["samples"] == len(steps)
    assert shown.data["surprise"]["most"] == pytest.approx(0.1 * len(frames))
    assert "hope-frozen-target:c0ffee" in shown.text


@pytest.mark.req("R-CAPTURE-04")
def test_an_episode_without_a_policy_has_no_surprise(tmp_path):
    made = record(FakeRig(), SteadyPilot(), tmp_path)
    with open_recording(made.path) as recording:
        assert "surprise" not in recording.streams
        assert "surprise_target" not in recording.metadata.provenance
    assert "surprise" not in show(made.path).data


def capture(folder, *, count=2, workers=1, pilot="ExpertPilot", **more):
    home = "continuon.robot.pilots" if pilot == "ExpertPilot" else FAKES
    return capture_episodes(
        Factory(target=f"{FAKES}:FakeRig"),
        Factory(target=f"{home}:{pilot}"),
        folder,
        count=count,
        duration_s=0.4,
        workers=workers,
        **more,
    )


def test_several_episodes_are_recorded_one_after_another(tmp_path):
    seen = []
    report = capture(tmp_path, progress=lambda *facts: seen.append(facts))
    assert [e.episode_id for e in report.episodes] == ["episode-0000", "episode-0001"]
    assert seen == [(1, 2, "episode-0000"), (2, 2, "episode-0001")]
    assert report.complete
    assert report.as_dict()["episodes"][0]["end_reason"] == "time_limit"


def test_nothing_recorded_is_overwritten(tmp_path):
    capture(tmp_path, count=1)
    with pytest.raises(DataError, match="E-RLDS-RECORD-001"):
        capture(tmp_path, count=1)


@pytest.mark.slow
def test_workers_record_what_one_process_would(tmp_path):
    alone = capture(tmp_path / "a", count=3)
    spread = capture(tmp_path / "b", count=3, workers=2)
    assert [e.episode_id for e in spread.episodes] == [
        e.episode_id for e in alone.episodes
    ]
    assert [e.counts for e in spread.episodes] == [e.counts for e in alone.episodes]
    assert all(Path(e.path).exists() for e in spread.episodes)


def one_job(folder, rig):
    return Job(
        rig=rig,
        pilot=Factory(target=f"{FAKES}:SteadyPilot"),
        directory=str(folder),
        episode_id="one",
        duration_s=0.2,
        rate_hz=50.0,
        notes=EpisodeNotes(),
        lossless=True,
        limits=car_limits(),
    )


@pytest.mark.slow
def test_a_workers_error_reaches_the_caller_with_its_code(tmp_path):
    record(FakeRig(), SteadyPilot(), tmp_path, seconds=0.2)
    job = one_job(tmp_path, Factory(target=f"{FAKES}:FakeRig"))
    with pytest.raises(ContinuonError) as caught:
        _work([job], print)
    assert caught.value.code == "E-RLDS-RECORD-001"


@pytest.mark.slow
def test_a_worker_that_dies_is_no_result(tmp_path):
    job = one_job(tmp_path, Factory(target="os:_exit", kwargs={"status": 3}))
    with pytest.raises(BudgetError, match="E-ROBOT-CAPTURE-003"):
        _work([job], print)
