"""A policy with depth and instruction from its compilation to the moving robot.

Compiled, bundled, signed, staged, swapped in under the live loop on the simulated rig;
what it wants there is what `continuon.edge` computes of the same frames elsewhere.
"""

import attrs
import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("litert_converter")

import continuon
from continuon import hope
from continuon._specs.edge.examples import CONFIG
from continuon._specs.hope.examples import parameters
from continuon.bundle import build_bundle, generate_key, sign_bundle
from continuon.clock import SystemClock
from continuon.edge import load_policy
from continuon.errors import ContinuonError, ContractError
from continuon.export import compile_checkpoint
from continuon.instruction import embed_instruction
from continuon.ota import Device, Updater
from continuon.rlds.depth_picture import policy_depth
from continuon.rlds.images import policy_image
from continuon.robot.control import ControlHandle
from continuon.robot.control_config import ControlConfig
from continuon.robot.envelope import car_limits
from continuon.robot.factory import Factory
from continuon.robot.feed import Feed
from continuon.robot.guard_handle import GuardHandle
from continuon.sim.live import start_live_rig

pytestmark = pytest.mark.slow
LEFT, RIGHT = "turn left at the box", "go on straight"
SENSING = attrs.evolve(
    CONFIG, proprio=(), depth_height=6, depth_width=8, instruction_size=16
)
FRAMES = 20
DRIVES = 4
"""On a busy machine a step may come too late and be lost; then the drive is repeated."""


@pytest.fixture(scope="module")
def robot(tmp_path_factory, request):
    """A guard and a loop without a policy, on a small simulated camera."""
    depth = getattr(request, "param", True)
    with start_live_rig(5, width=64, height=48, depth=depth) as world:
        body = Factory(
            target="continuon.sim.live:attach", kwargs={"handle": world.path}
        )
        config = ControlConfig(
            rig=body,
            limits=car_limits(state_names=("speed_mps",)),
            fifo_priority=0,
            lock_memory=False,
        )
        with GuardHandle(body) as guard, ControlHandle(config, guard) as control:
            yield control


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """Return a compiled network of chance weights whose actions are not at their ends.

    At the ends what it sees would not show.
    """
    folder, params = tmp_path_factory.mktemp("made"), parameters(SENSING)
    params["heads"] = {name: 0.05 * head for name, head in params["heads"].items()}
    hope.save_checkpoint(folder / "policy.hope", SENSING, params, metadata={})
    report = compile_checkpoint(
        folder / "policy.hope", folder / "policy", control_rate_hz=30.0
    )
    return report.artifacts[0].path.parent


@pytest.fixture
def staging(tmp_path, artifacts):
    """Return (bundle, updater): signed, and not staged yet."""
    key, source = generate_key(), tmp_path / "bundle"
    build_bundle(
        source,
        artifacts_dir=artifacts,
        model_name="sensing",
        version="0.1.0",
        release_counter=1,
        source="test",
        created_at_unix_ms=1,
        origins=["synthetic"],
    )
    sign_bundle(source, [key])
    return source, Updater(tmp_path / "model", [key.public])


def stage(staging, control):
    """Stage it for the robot that this loop found itself on."""
    source, updater = staging
    senses = tuple(control.status()["senses"])
    updater.device = Device(library_version=continuon.__version__, senses=senses)
    return updater.stage(source).directory


def drive(control, told):
    """Return the frames since a START that was told this, and the actions wanted."""
    clock = SystemClock()
    control.instruct(told)
    feed = Feed.open(control.feed_path)
    try:
        at_frame, at_command = feed.frame_count, feed.command_count
        control.start_executing()
        first = at_frame
        frames, wanted = [], []
        until_ns = clock.monotonic_ns() + 20_000_000_000
        while len(frames) < FRAMES and clock.monotonic_ns() < until_ns:
            while at_frame < feed.frame_count:
                frame = feed.read_frame(at_frame)
                assert frame is not None, "this machine is too slow for the ring"
                frames.append(frame)
                at_frame += 1
            while at_command < feed.command_count:
                row = feed.read_command(at_command)
                at_command += 1
                if row.source is not None:
                    wanted.append(row.intended)
            clock.sleep_until_ns(clock.monotonic_ns() + 5_000_000)
        assert at_frame - first >= FRAMES
    finally:
        control.stop_executing()
        feed.close()
    held = [a for i, a in enumerate(wanted) if i == 0 or (a != wanted[i - 1]).any()]
    return frames, np.stack(held)


def elsewhere(artifacts, frames, told, *, depth=True):
    """Return what edge computes of these frames from the first one on."""
    policy, spec = load_policy(artifacts, backend="numpy"), SENSING
    hashed = embed_instruction(told, spec.instruction_size)
    actions = []
    for frame in frames:
        far = policy_depth(
            frame.depth, height=spec.depth_height, width=spec.depth_width, unit_m=0.001
        )
        output = policy.step(
            policy_image(frame.rgb, height=spec.image_height, width=spec.image_width),
            depth=far if depth else np.zeros_like(far),
            instruction=hashed,
        )
        actions.append(output.action)
    return np.stack(actions)


def apart(artifacts, frames, wanted, told, **more):
    """Return the largest difference, at the frame with which the drive began.

    The first frames may have come before the tick of the START.
    """
    found = []
    for skip in range(4):
        made = elsewhere(artifacts, frames[skip:], told, **more)
        count = min(len(made), len(wanted))
        assert count > FRAMES // 2
        found.append(float(np.abs(made[:count] - wanted[:count]).max()))
    return min(found)


@pytest.mark.req("R-SENSE-02", "R-SENSE-03")
def test_what_the_robot_wants_is_what_edge_computes_of_its_depth_and_words(
    robot, staging, artifacts
):
    with pytest.raises(ContinuonError, match="E-ROBOT-CONTROL-002"):
        robot.start_executing()
    folder = stage(staging, robot)
    robot.swap(folder, "numpy")
    with pytest.raises(ContinuonError, match="E-ROBOT-POLICY-006"):
        robot.start_executing()
    for told, other in ((LEFT, RIGHT), (RIGHT, LEFT)):
        for _ in range(DRIVES):
            frames, wanted = drive(robot, told)
            if apart(artifacts, frames, wanted, told) < 1e-6:
                break
        assert apart(artifacts, frames, wanted, told) < 1e-6
        assert np.abs(wanted).max() < 0.99
        assert apart(artifacts, frames, wanted, other) > 1e-4
        assert apart(artifacts, frames, wanted, told, depth=False) > 1e-4


@pytest.mark.req("R-SENSE-04")
@pytest.mark.parametrize("robot", [False], indirect=True)
def test_a_robot_without_depth_refuses_the_bundle_and_the_policy(
    robot, staging, artifacts
):
    with pytest.raises(ContractError, match="E-OTA-COMPAT-006"):
        stage(staging, robot)
    with pytest.raises(ContinuonError, match="E-ROBOT-POLICY-004"):
        robot.swap(artifacts, "numpy")
    assert robot.status()["active"] is None
