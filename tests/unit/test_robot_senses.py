"""Depth and instruction in the running loop: fed, missing, changed, refused."""

import attrs
import msgspec
import numpy as np
import pytest

from continuon._specs.robot.bench import Bench, config
from continuon._specs.robot.fakes import FakeRig, SensingPolicy, Spec
from continuon.errors import ContractError
from continuon.instruction import embed_instruction
from continuon.robot.kernel import Reason
from continuon.robot.observing import Lack, RobotSenses, Senses, check_senses
from continuon.robot.pilots import PolicyPilot
from continuon.robot.remote_policy import RemoteSpec
from continuon.robot.shadow import ShadowRule

BOTH = RobotSenses(has_depth=True, state_names=("speed_mps",))
WARM = 5  # steps before it may drive
LEFT, RIGHT = "turn left", "go right"
SPEED = {text: abs(float(embed_instruction(text, 8)[0])) / 2 for text in (LEFT, RIGHT)}


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path, FakeRig(), config())
    bench.process.begin_with("sensing", "litert")
    yield bench
    bench.close()


def fed(bench):
    return bench.process.swapper.active.policy.seen


@pytest.mark.req("R-SENSE-02")
def test_the_policy_gets_the_depth_of_its_frame_in_metres_and_what_it_was_told(bench):
    bench.ask("instruct", text=f"  {LEFT} ")
    assert "tick" in bench.ask("start", motion="policy", epoch=1, ticks=10)
    depth, told = fed(bench)[-1]
    newest = bench.feed.read_frame(bench.feed.frame_count - 1)
    assert depth.shape == (3, 4)
    assert depth[0, 0] == np.float32(newest.depth[0, 0]) * np.float32(0.001)
    assert np.array_equal(told, embed_instruction(LEFT, 8))
    status = bench.ask("status")["status"]
    assert status["instruction"] == LEFT
    assert status["needs_instruction"]
    assert status["policy_lacks"] is None


@pytest.mark.req("R-SENSE-03")
def test_a_policy_that_nobody_told_anything_stays_idle_and_says_why(bench):
    refused = bench.ask("start", motion="policy", epoch=1, ticks=5)
    assert refused["error"]["code"] == "E-ROBOT-POLICY-006"
    assert "instruct" in refused["error"]["hint"]
    assert not bench.board.read_command().enabled
    assert len(fed(bench)) == WARM
    assert bench.ask("status")["status"]["policy_lacks"] == Lack.INSTRUCTION


@pytest.mark.req("R-SENSE-03")
def test_another_instruction_counts_from_the_tick_that_answers(bench):
    bench.ask("instruct", text=LEFT)
    bench.ask("start", motion="policy", epoch=1, ticks=30)
    assert bench.process._loop.last_command[1] == pytest.approx(SPEED[LEFT])
    steps = len(fed(bench))
    tick = bench.ask("instruct", text=RIGHT, ticks=30)["tick"]
    assert bench.log.count - tick == 30
    after = [told for _, told in fed(bench)[steps:]]
    assert len(after) > 10
    assert all(np.array_equal(told, embed_instruction(RIGHT, 8)) for told in after)
    assert bench.process._loop.last_command[1] == pytest.approx(SPEED[RIGHT])


@pytest.mark.req("R-SENSE-03")
def test_an_instruction_that_is_taken_back_stops_the_robot_at_once(bench):
    bench.ask("instruct", text=LEFT)
    bench.ask("start", motion="policy", epoch=1, ticks=10)
    bench.mine.send({"do": "instruct", "text": ""})
    bench.ticks(1)
    assert bench.mine.poll()["reasons"] == ["no_instruction"]
    assert not bench.board.read_command().enabled


@pytest.mark.req("R-SENSE-05")
def test_what_is_no_instruction_changes_nothing(bench):
    bench.ask("instruct", text=LEFT)
    answer = bench.ask("instruct", text="left\x00")
    assert answer["error"]["code"] == "E-TEXT-002"
    assert bench.ask("status")["status"]["instruction"] == LEFT


@pytest.mark.req("R-SENSE-04")
def test_a_policy_that_sees_depth_never_begins_on_a_robot_without(tmp_path):
    bench = Bench(tmp_path, FakeRig(depth=False), config())
    with pytest.raises(ContractError, match="E-ROBOT-POLICY-004"):
        bench.process.begin_with("sensing", "litert")
    assert bench.process.swapper.active is None
    bench.process.begin_with("gain-0.01", "litert")
    bench.ask("start", motion="policy", epoch=1, ticks=5)
    assert bench.swap("sensing")["error"]["code"] == "E-ROBOT-POLICY-004"
    bench.ticks(5)
    assert set(bench.log.rows()["policy"]) == {2}
    assert bench.board.read_command().enabled
    bench.close()


@pytest.mark.req("R-SENSE-04")
@pytest.mark.parametrize(
    ("spec", "body", "code"),
    [
        ({"depth_height": 2, "depth_width": 2}, {"has_depth": False}, "004"),
        ({"proprio": ("altitude_m",)}, {}, "001"),
    ],
)
def test_a_sense_that_is_not_there_is_one_clear_error(spec, body, code):
    check_senses(Spec(), BOTH)
    with pytest.raises(ContractError, match=f"E-ROBOT-POLICY-{code}") as caught:
        check_senses(Spec(**spec), attrs.evolve(BOTH, **body))
    assert caught.value.hint


@pytest.mark.req("R-SENSE-02")
@pytest.mark.parametrize("how", ["missing", "of another time"])
def test_a_frame_without_its_depth_is_no_frame(how):
    rig = FakeRig()
    policy = SensingPolicy()
    pilot = PolicyPilot(policy, lambda: 0)

    def senses(frame, now_ns=0):
        reading = rig.state.poll() or state
        return Senses(
            now_ns=now_ns,
            frame=frame,
            state=reading,
            state_names=rig.state.names,
            instruction=LEFT,
        )

    state = rig.state.poll()
    whole = rig.camera.poll()
    torn = {
        "missing": {"depth": None, "depth_capture_ns": None},
        "of another time": {"depth_capture_ns": whole.capture_ns - 10**9},
    }[how]
    assert pilot(senses(attrs.evolve(whole, **torn))) is None
    first = pilot(senses(whole))
    assert first.observed_ns == whole.capture_ns
    held = pilot(senses(attrs.evolve(whole, **torn)))
    assert (held.observed_ns, held.policy_ns) == (whole.capture_ns, 0)
    assert pilot.lacks is Lack.DEPTH
    assert policy.steps == 1


@pytest.mark.req("R-SENSE-02", "R-SENSE-03")
def test_an_action_is_as_old_as_its_older_picture_and_ends_with_its_words():
    rig = FakeRig()
    pilot = PolicyPilot(SensingPolicy(), lambda: 0)
    whole, state = rig.camera.poll(), rig.state.poll()
    depth_ns = whole.capture_ns - 10**8
    older = attrs.evolve(whole, depth_capture_ns=depth_ns)
    known = Senses(
        now_ns=0,
        frame=older,
        state=state,
        state_names=rig.state.names,
        instruction=LEFT,
    )
    assert pilot(known).observed_ns == depth_ns
    assert pilot(attrs.evolve(known, frame=None)).observed_ns == depth_ns
    assert pilot(attrs.evolve(known, frame=None, instruction="")) is None
    assert pilot.lacks is Lack.INSTRUCTION
    assert pilot(attrs.evolve(known, frame=None)) is None, "nothing held comes back"


@pytest.mark.req("R-SENSE-02")
def test_depth_that_stays_away_stops_the_robot_as_a_dark_camera_does(bench):
    bench.ask("instruct", text=LEFT)
    bench.ask("start", motion="policy", epoch=1, ticks=10)
    camera = bench.rig.camera
    poll = camera.poll

    def colour_only():
        frame = poll()
        return frame and attrs.evolve(frame, depth=None, depth_capture_ns=None)

    camera.poll = colour_only
    bench.ticks(60)
    stopped = bench.mine.poll()
    assert stopped["reasons"] == [Reason.STALE_OBSERVATION, Reason.HELD_TOO_LONG]
    assert not bench.board.read_command().enabled
    assert bench.ask("status")["status"]["policy_lacks"] == Lack.DEPTH


@pytest.mark.req("R-SENSE-02", "R-SWAP-04")
def test_a_candidate_in_its_own_process_is_given_the_same(bench):
    bench.ask("instruct", text=LEFT)
    bench.ask("start", motion="policy", epoch=1, ticks=10)
    rule = msgspec.to_builtins(ShadowRule(frames=10))
    shadow = bench.swap("sensing", shadow=rule)["swap"]["shadow"]
    assert (shadow["answered"], shadow["max_divergence"]) == (10, 0.0)
    bench.ticks(30)
    assert bench.process._loop.last_command[1] == pytest.approx(SPEED[LEFT])


@pytest.mark.req("R-SENSE-03")
def test_a_candidate_that_must_be_told_is_refused_while_nothing_is(tmp_path):
    bench = Bench(tmp_path, FakeRig(), config())
    bench.process.begin_with("gain-0.01", "litert")
    bench.ticks(5)
    rule = msgspec.to_builtins(ShadowRule(frames=10))
    answer = bench.swap("sensing", shadow=rule)
    assert answer["error"]["code"] == "E-ROBOT-POLICY-006"
    # on the way back it takes over, and stays idle until it is told
    assert bench.swap("sensing")["swap"]["model"]["serial"] == 2
    refused = bench.ask("start", motion="policy", epoch=1)
    assert refused["error"]["code"] == "E-ROBOT-POLICY-006"
    bench.close()


@pytest.mark.req("R-SENSE-02")
def test_what_is_handed_over_is_what_the_policy_takes():
    spec = RemoteSpec.of(SensingPolicy().spec)
    given = {
        "image": np.arange(144, dtype=np.uint8).reshape(6, 8, 3),
        "proprio": np.array([0.5], np.float32),
        "depth": np.arange(12, dtype=np.float32).reshape(3, 4),
        "instruction": embed_instruction(LEFT, 8),
    }
    data = spec.pack(given)
    assert len(data) == spec.question_bytes == 144 + 4 + 48 + 32
    back = spec.unpack(b"head" + data, 4)
    assert set(back) == set(given)
    for name, value in given.items():
        assert np.array_equal(back[name], value)
    for name, bad in (("depth", None), ("instruction", np.zeros(7, np.float32))):
        with pytest.raises(ContractError, match="E-ROBOT-POLICY-005") as caught:
            spec.pack(given | {name: bad})
        assert caught.value.where == name


def test_a_robot_that_was_told_before_its_start_keeps_it(tmp_path):
    bench = Bench(tmp_path, FakeRig(), config(instruction=LEFT))
    bench.process.begin_with("sensing", "litert")
    assert "tick" in bench.ask("start", motion="policy", epoch=1, ticks=3)
    bench.close()
