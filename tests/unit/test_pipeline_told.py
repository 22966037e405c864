"""Phases 9 and 10 give a policy what it asks for: depth, and the words it learnt from."""

import numpy as np
import pytest

from continuon._specs.robot.fakes import FakeRig, SensingPolicy
from continuon.instruction import embed_instruction
from continuon.pipeline import told as room
from continuon.pipeline.drive import THROTTLE_FLOOR, _Driver
from continuon.pipeline.told import Asked, asked_by
from continuon.rig.calibration import CarCalibration, car_pulses_us
from continuon.robot.capture_episode import EpisodeNotes, record_episode
from continuon.robot.envelope import car_limits
from continuon.robot.pilots import PolicyPilot

LEFT = "turn left"


@pytest.mark.req("R-SENSE-02")
def test_the_drive_on_held_out_tracks_feeds_depth_and_words():
    rig, policy = FakeRig(), SensingPolicy()
    driver = _Driver(policy, rig.state.names, LEFT)
    frame = rig.camera.poll()
    action = driver(frame, rig.state.poll())
    depth, told = policy.seen[-1]
    assert depth[0, 0] == np.float32(frame.depth[0, 0]) * np.float32(0.001)
    assert np.array_equal(told, embed_instruction(LEFT, 8))
    assert action[0] == pytest.approx(depth.mean() / 20)
    assert action[1] >= THROTTLE_FLOOR
    assert np.array_equal(driver(None, None), action)


@pytest.mark.req("R-SENSE-06")
def test_the_policys_own_episode_says_what_the_policy_was_told(tmp_path):
    rig, policy = FakeRig(), SensingPolicy()
    record_episode(
        rig,
        PolicyPilot(policy, rig.clock.monotonic_ns),
        tmp_path,
        episode_id="one",
        duration_s=0.3,
        limits=car_limits(),
        pulses=lambda a: car_pulses_us(a, calibration=CarCalibration()),
        notes=EpisodeNotes.of_policy("b", task=LEFT),
    )
    assert policy.steps > 5
    assert np.array_equal(policy.seen[-1][1], embed_instruction(LEFT, 8))


def test_what_is_asked_for_is_what_any_of_the_policies_needs(tmp_path, monkeypatch):
    class Spec:
        def __init__(self, depth, words):
            self.depth_height, self.instruction_size = depth, words

    class Steps:
        class metadata:  # noqa: N801
            task = LEFT

    class Context:
        class home:  # noqa: N801
            episodes = tmp_path

    specs = {"plain": Spec(0, 0), "deep": Spec(3, 0), "told": Spec(0, 8)}
    for name in specs:
        (tmp_path / name).mkdir()
        (tmp_path / name / "spec.json").write_text("{}")
    monkeypatch.setattr(room, "read_spec", lambda place: specs[place.name])
    monkeypatch.setattr(room, "read_steps", lambda _: iter([Steps]))

    def asked(*names):
        return asked_by(Context, [*(tmp_path / name for name in names), None])

    assert asked("plain", "absent") == Asked(depth=False, told="")
    assert asked("plain", "deep") == Asked(depth=True, told="")
    assert asked("told", "deep") == Asked(depth=True, told=LEFT)
