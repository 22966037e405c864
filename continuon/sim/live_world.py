"""The process that steps a world in real time: `python -m continuon.sim.live_world`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import attrs

from continuon.clock import SystemClock
from continuon.sim.board import draw_oscillator
from continuon.sim.chips import latched_pulses_us
from continuon.sim.devices import SimCamera, SimState
from continuon.sim.disturbance import Disturbance
from continuon.sim.observe import step_observed
from continuon.sim.raycast import CameraModel, Renderer
from continuon.sim.shared import Control, SharedWorld, Truth
from continuon.sim.track import make_track
from continuon.sim.world import STEP_NS, Start, World, draw_start

__all__ = ["main"]

# After a pause (a stopped process, a hang) the world does not race to catch up.
MAX_BEHIND_NS = 250_000_000
CAMERA_LATENCY_NS = 10_000_000


class _Live:
    def __init__(self, shared: SharedWorld) -> None:
        config: dict[str, Any] = shared.config
        self.shared = shared
        self.clock = SystemClock()
        seed = int(config["seed"])
        track = make_track(int(config["track_seed"]))
        oscillator_hz, _ = draw_oscillator(seed)
        self.start = draw_start(track, seed)
        if config["start"] is not None:
            self.start = Start(s_m=float(config["start"]) * track.length_m)
        model = CameraModel(width=shared.width, height=shared.height)
        renderer = Renderer(int(config["track_seed"]), model, seed=seed)
        renderer.prepare()
        self.track, self.seed = track, seed
        self.pulses_us = lambda: latched_pulses_us(
            shared.chip, oscillator_hz=oscillator_hz
        )
        now = self.clock.monotonic_ns()
        self.started_ns = now
        self.world = self._new_world(self.start, now)
        self.camera = SimCamera(
            renderer,
            clock=self.clock,
            seed=seed,
            start_ns=now,
            rate_hz=float(config["rate_hz"]),
            latency_ns=CAMERA_LATENCY_NS,
            depth=bool(config["depth"]),
        )
        self.state = SimState(
            clock=self.clock,
            seed=seed,
            start_ns=now,
            rate_hz=float(config["state_rate_hz"]),
        )
        self.script: list[dict[str, Any]] = list(config["faults"])
        self.frames = self.readings = self.resets = 0

    def _new_world(self, start: Start, now_ns: int) -> World:
        return World(
            self.track,
            start,
            pulses_us=self.pulses_us,
            time_ns=now_ns,
            disturbance=Disturbance(self.seed),
        )

    def turn(self) -> bool:
        """Do one turn; returns False when it is time to end."""
        control = self._scripted(self.shared.read_control())
        if control.stop:
            return False
        if control.world_hangs:
            return True
        now = self.clock.monotonic_ns()
        if control.resets != self.resets:
            self.resets = control.resets
            self.world = self._new_world(
                Start(s_m=control.reset_s_m, lateral_m=control.reset_lateral_m), now
            )
        self.world.disturbance.amplitude = control.disturbance
        if now - self.world.time_ns > MAX_BEHIND_NS:
            self.world.time_ns = now - MAX_BEHIND_NS
            self.camera.skip_to(self.world.time_ns)
            self.state.skip_to(self.world.time_ns)
        step_observed(self.world, self.camera, self.state, now)
        self._publish(control)
        return True

    def _scripted(self, control: Control) -> Control:
        """Return the control with the scripted faults that are due, told to all."""
        elapsed_s = (self.clock.monotonic_ns() - self.started_ns) / 1e9
        due = [fault for fault in self.script if elapsed_s >= float(fault["at_s"])]
        if not due:
            return control
        self.script = [fault for fault in self.script if fault not in due]
        changes = {str(fault["what"]): fault.get("value", 1) for fault in due}
        control = attrs.evolve(control, **changes)
        self.shared.write_control(control)
        return control

    def _publish(self, control: Control) -> None:
        shared, world = self.shared, self.world
        for sample in self.state.drain():
            stamps = (sample.capture_ns, sample.device_ns, sample.sequence)
            shared.write_state(self.readings, (*stamps, *sample.values.tolist()))
            self.readings += 1
        offset = self.state.clock_offset()
        measured = (offset.offset_ns, offset.uncertainty_ns, offset.measured_at_ns)
        shared.write_clock("state", (self.readings, *measured))
        shared.write_truth(
            Truth(
                time_ns=float(world.time_ns),
                x_m=world.car.x_m,
                y_m=world.car.y_m,
                heading_rad=world.car.heading_rad,
                speed_mps=world.speed_mps,
                steering_position=world.steering_position,
                motor=world.car.motor,
                yaw_rate_rad_s=world.yaw_rate_rad_s,
                s_m=world.position.s_m,
                lateral_error_m=world.lateral_error_m,
                track_heading_rad=world.position.heading_rad,
                curvature_per_m=world.position.curvature_per_m,
                progress_m=world.progress_m,
                distance_m=world.distance_m,
            )
        )
        if control.unplugged or control.camera_hangs:
            self.camera.close()
            return
        frame = self.camera.poll()
        if frame is None:
            return
        stamps4 = (
            frame.capture_ns,
            frame.device_ns,
            frame.depth_capture_ns or 0,
            frame.sequence,
        )
        shared.write_frame(self.frames, stamps4, (frame.rgb, frame.depth))
        self.frames += 1
        offset = self.camera.clock_offset()
        measured = (offset.offset_ns, offset.uncertainty_ns, offset.measured_at_ns)
        shared.write_clock("camera", (self.frames, *measured))


def main(argv: list[str] | None = None) -> int:
    """Run the world of a shared file until told to stop or the parent is gone.

    Arguments: the file's path, and the parent's process id.
    """
    path, parent = (sys.argv[1:] if argv is None else argv)[:2]
    if os.getsid(0) != os.getpid():
        # What a person types at the robot's terminal is not for the world.
        os.setsid()
    shared = SharedWorld.open(path)

    def ask_stop(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, ask_stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        live = _Live(shared)
        deadline = time.monotonic_ns()
        while os.getppid() == int(parent) and live.turn():
            deadline = max(deadline + STEP_NS, time.monotonic_ns() - STEP_NS)
            live.clock.sleep_until_ns(deadline)
    finally:
        # The one who sees the end first removes the name; mappings stay valid.
        Path(path).unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
