"""A simulated robot in real time that several processes can use at once.

`start_live_rig` starts one process that steps the world, draws the camera and
publishes both in shared memory. `attach` gives any process a rig on it. The servo
board's registers are shared memory too: whichever one process owns the servos writes
them through the real smbus2, and the world reads the pulses.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import attrs

from continuon.errors import HardwareError
from continuon.sim.chips import Pca9685Chip
from continuon.sim.live_rig import LiveRig
from continuon.sim.shared import SharedWorld
from continuon.sim.track import make_track

__all__ = ["LiveHandle", "attach", "start_live_rig"]

_NAME = re.compile(r"continuon-live-(\d+)-\d+$")
_WORLD = "continuon.sim.live_world"
BUS_FAULTS = {"none": 0, "nack": 1, "stall": 2, "reset": 3}


class LiveHandle:
    """A running world. Picklable; its path alone is enough for `attach`.

    Attributes:
        path: of the shared file.
        pid: of the world's process.
    """

    def __init__(
        self, path: str, pid: int, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self.path = path
        self.pid = pid
        self._process = process

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "pid": self.pid, "_process": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def alive(self) -> bool:
        """Whether the world still runs; exact in the process that started it."""
        if self._process is not None:
            return self._process.poll() is None
        return Path(self.path).exists()

    def unplug_camera(self, *, unplugged: bool = True) -> None:
        """Pull the camera's cable, or put it back."""
        self._change(unplugged=int(unplugged))

    def hang_camera(self, *, hangs: bool = True) -> None:
        """Let the camera give no frames without saying why, or go on."""
        self._change(camera_hangs=int(hangs))

    def hang_world(self, *, hangs: bool = True) -> None:
        """Freeze physics and all sensors, or go on."""
        self._change(world_hangs=int(hangs))

    def fail_bus(self, how: str = "nack") -> None:
        """Make I2C calls fail: "nack", "stall" (a second, then a time-out), "none".

        "reset" takes the servo board's settings once, as a sagging supply does.
        """
        self._change(bus_fault=BUS_FAULTS[how])

    def disturb(self, amplitude: float) -> None:
        """Set the largest push on the steering, in steering units."""
        self._change(disturbance=float(amplitude))

    def heat(self, celsius: float) -> None:
        """Set the SoC's temperature; NaN returns to the model's."""
        self._change(celsius=float(celsius))

    def drain_battery(self, volts: float) -> None:
        """Set the battery's voltage; NaN returns to the model's."""
        self._change(battery_v=float(volts))

    def reset(self, *, start: float = 0.0, lateral_m: float = 0.0) -> None:
        """Put the car at a share of the track's length, at rest."""
        shared = SharedWorld.open(self.path)
        try:
            control = shared.read_control()
            length = make_track(int(shared.config["track_seed"])).length_m
            changed = attrs.evolve(
                control,
                resets=control.resets + 1,
                reset_s_m=start * length,
                reset_lateral_m=lateral_m,
            )
            shared.write_control(changed)
        finally:
            shared.close()

    def close(self) -> None:
        """End the world's process and remove its file; may be called twice."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(3.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process is not None:
            Path(self.path).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _change(self, **changes: Any) -> None:
        shared = SharedWorld.open(self.path)
        try:
            control = attrs.evolve(shared.read_control(), **changes)
            shared.write_control(control)
        finally:
            shared.close()


def start_live_rig(
    seed: int = 0,
    *,
    width: int = 640,
    height: int = 480,
    rate_hz: float = 30.0,
    state_rate_hz: float = 100.0,
    track_seed: int | None = None,
    start: float | None = None,
    depth: bool = True,
    faults: Sequence[Mapping[str, Any]] = (),
    wait_s: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
    launch: Callable[[str, Sequence[str]], Any] | None = None,
) -> LiveHandle:
    """Start a world in a process of its own and wait for its first frame.

    The process ends with this one, by `close`, or with an error.

    Args:
        seed: of start, clocks and noise.
        width: of the camera in pixels.
        height: of the camera in pixels.
        rate_hz: of the camera.
        state_rate_hz: of the state sensor.
        track_seed: of track and looks; `seed` when None.
        start: share of the track's length; None draws a place at a bend.
        depth: whether frames carry depth.
        faults: script of {"at_s": seconds, "what": field of `Control`, "value": int}.
        wait_s: for the first frame.
        sleep: how to wait.
        launch: starts a module's `main` as a process; None: in its own interpreter.

    Raises:
        HardwareError: the world's process ended or gave no frame in time.
    """
    launch = launch or _launch
    folder = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")  # noqa: S108
    _sweep(folder)
    path = folder / f"continuon-live-{os.getpid()}-{time.monotonic_ns()}"
    config = {
        "seed": seed,
        "track_seed": seed if track_seed is None else track_seed,
        "width": width,
        "height": height,
        "rate_hz": rate_hz,
        "state_rate_hz": state_rate_hz,
        "start": start,
        "depth": depth,
        "faults": [dict(fault) for fault in faults],
    }
    shared = SharedWorld.create(path, config)
    try:
        Pca9685Chip(shared.chip)
        process = launch(_WORLD, [str(path), str(os.getpid())])
        handle = LiveHandle(str(path), process.pid, process)
        for _ in range(int(wait_s / 0.01)):
            if shared.read_clock("camera") is not None or process.poll() is not None:
                break
            sleep(0.01)
        if shared.read_clock("camera") is None:
            handle.close()
            raise HardwareError(
                "E-SIM-LIVE-003",
                "the live world gave no frame",
                seen=f"exit status {process.poll()} within {wait_s:g} s",
                hint="its own error stands above; a slow machine needs a larger wait_s",
            )
    finally:
        shared.close()
    return handle


def _launch(module: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def attach(handle: LiveHandle | str) -> LiveRig:
    """Return a rig on a running world, for this process.

    Any number of processes may look; only one may use the servos.

    Raises:
        DataError: no world runs behind the handle.
    """
    path = handle if isinstance(handle, str) else handle.path
    return LiveRig(SharedWorld.open(path))


def _sweep(folder: Path) -> None:
    """Remove what worlds left behind whose starter was killed with them."""
    for path in folder.glob("continuon-live-*"):
        match = _NAME.search(path.name)
        if match and not Path(f"/proc/{match[1]}").exists():
            path.unlink(missing_ok=True)
