"""The laws of the rig's protocols, for fake, simulator and bench hardware alike.

Each law takes a device and its rig's clock, and raises ContractError with the law's
name and what was seen. `specs/rig/README.md` lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from continuon.clock import Clock
from continuon.errors import ContractError
from continuon.rig.calibration import CarCalibration
from continuon.rig.protocols import Camera, Frame, Servos, StateSensor
from continuon.rig.skew import skew_stats
from continuon.testing.watching import watch

__all__ = ["CAMERA_LAWS", "SERVO_LAWS", "STATE_LAWS"]

WATCH_S = 1.2
MAX_AGE_NS = 500_000_000
MAX_SKEW_MS = 5.0
# Two measurements of one clock may each be off by their uncertainty.
DRIFT_NS = 200_000
# One tick of a PCA9685 at 50 Hz is 4.9 us.
TICK_US = 6.0


def _require(*, true: bool, law: str, seen: object) -> None:
    if not true:
        raise ContractError(
            "E-TEST-LAW-001", f"a device breaks a law: {law}", seen=seen
        )


def _frames(camera: Camera, clock: Clock) -> list[tuple[int, Frame]]:
    camera.open()
    return watch(camera.poll, clock, seconds=WATCH_S)


def _opens_and_closes_twice(camera: Camera, clock: Clock) -> None:
    camera.open()
    frames = _frames(camera, clock)
    camera.close()
    camera.close()
    _require(true=bool(frames), law="opened twice it gives frames", seen=len(frames))


def _delivers_its_format(camera: Camera, clock: Clock) -> None:
    size = (camera.height, camera.width)
    frames = _frames(camera, clock)
    _require(true=bool(frames), law="an open camera gives frames", seen=len(frames))
    for _, frame in frames:
        fits = frame.rgb.shape == (*size, 3) and frame.rgb.dtype == np.uint8
        if frame.depth is not None:
            fits &= frame.depth.shape == size and frame.depth.dtype == np.uint16
        shapes = (frame.rgb.shape, frame.rgb.dtype)
        _require(true=fits, law="frames have the camera's size", seen=shapes)
    with_depth = {frame.depth is not None for _, frame in frames}
    told = {camera.has_depth}
    _require(true=with_depth == told, law="has_depth is what comes", seen=with_depth)


def _gives_each_frame_once(camera: Camera, clock: Clock) -> None:
    frames = [frame for _, frame in _frames(camera, clock)]
    for name in ("sequence", "capture_ns", "device_ns"):
        steps = np.diff([getattr(frame, name) for frame in frames])
        _require(
            true=bool((steps > 0).all()), law=f"{name} ascends", seen=steps.tolist()
        )


def _keeps_its_rate(camera: Camera, clock: Clock) -> None:
    frames = [frame for _, frame in _frames(camera, clock)]
    gaps = np.diff([frame.capture_ns for frame in frames])
    steps = np.diff([frame.sequence for frame in frames])
    rate_hz = 1e9 / float(np.median(gaps / steps)) if len(gaps) else 0.0
    _require(
        true=abs(rate_hz / camera.rate_hz - 1.0) < 0.05,
        law=f"frames come at {camera.rate_hz:g} Hz by their own stamps",
        seen=rate_hz,
    )


def _stamps_the_past(camera: Camera, clock: Clock) -> None:
    for now, frame in _frames(camera, clock):
        age = now - frame.capture_ns
        slack = camera.clock_offset().uncertainty_ns
        law = "a frame was captured before it came, and not long before"
        _require(true=-slack <= age < MAX_AGE_NS, law=law, seen=f"{age / 1e6:.2f} ms")


def _knows_its_clock(camera: Camera, clock: Clock) -> None:
    frames = [frame for _, frame in _frames(camera, clock)]
    offset = camera.clock_offset()
    period_ns = 1e9 / camera.rate_hz
    _require(
        true=0 <= offset.uncertainty_ns <= 1.1 * period_ns,
        law="the clock's map is known to a period or better",
        seen=offset,
    )
    for frame in frames:
        apart = abs(offset.to_host_ns(frame.device_ns) - frame.capture_ns)
        law = "capture_ns is device_ns by the measured map"
        limit = 2 * offset.uncertainty_ns + DRIFT_NS
        _require(true=apart <= limit, law=law, seen=f"{apart / 1e6:.3f} ms")


def _frames_are_not_overwritten(camera: Camera, clock: Clock) -> None:
    frames = [frame for _, frame in _frames(camera, clock)]
    first, others = frames[0], frames[1:]
    shared = any(np.shares_memory(first.rgb, other.rgb) for other in others)
    if first.depth is not None:
        shared |= any(
            np.shares_memory(first.depth, other.depth)
            for other in others
            if other.depth is not None
        )
    _require(true=not shared, law="a kept frame is not overwritten", seen=len(frames))


def _exposes_depth_with_colour(camera: Camera, clock: Clock) -> None:
    frames = [frame for _, frame in _frames(camera, clock)]
    apart = [
        frame.depth_capture_ns - frame.capture_ns
        for frame in frames
        if frame.depth_capture_ns is not None
    ]
    with_depth = sum(frame.depth is not None for frame in frames)
    _require(true=len(apart) == with_depth, law="depth has its own stamp", seen=apart)
    worst = skew_stats(np.array(apart, np.int64)).p99_ms
    _require(
        true=worst is None or worst <= MAX_SKEW_MS,
        law=f"colour and depth are within {MAX_SKEW_MS:g} ms",
        seen=worst,
    )


CAMERA_LAWS: Mapping[str, Callable[[Camera, Clock], None]] = {
    "opens-and-closes-twice": _opens_and_closes_twice,
    "delivers-its-format": _delivers_its_format,
    "gives-each-frame-once": _gives_each_frame_once,
    "keeps-its-rate": _keeps_its_rate,
    "stamps-the-past": _stamps_the_past,
    "knows-its-clock": _knows_its_clock,
    "frames-are-not-overwritten": _frames_are_not_overwritten,
    "exposes-depth-with-colour": _exposes_depth_with_colour,
}


def _readings_fit_their_names(state: StateSensor, clock: Clock) -> None:
    samples = [sample for _, sample in watch(state.poll, clock, seconds=0.6)]
    _require(true=len(samples) > 10, law="readings come", seen=len(samples))
    for sample in samples:
        fits = sample.values.shape == (len(state.names),)
        fits &= sample.values.dtype == np.float32 and bool(
            np.isfinite(sample.values).all()
        )
        law = "a reading is finite, one value a name"
        _require(true=fits, law=law, seen=sample.values)


def _readings_ascend(state: StateSensor, clock: Clock) -> None:
    samples = [sample for _, sample in watch(state.poll, clock, seconds=0.6)]
    steps = np.diff([sample.sequence for sample in samples])
    law = "a reading is given once"
    _require(true=bool((steps > 0).all()), law=law, seen=steps.tolist())


STATE_LAWS: Mapping[str, Callable[[StateSensor, Clock], None]] = {
    "readings-fit-their-names": _readings_fit_their_names,
    "readings-ascend": _readings_ascend,
}


def _stops_provably(servos: Servos, _: CarCalibration) -> None:
    servos.full_off()
    pulses = servos.read_pulses_us()
    off = bool(pulses) and set(pulses.values()) == {0.0}
    _require(true=off, law="a stop reads back as off on every channel", seen=pulses)


def _pulses_read_back(servos: Servos, calibration: CarCalibration) -> None:
    steering = calibration.steering
    for position in (-0.1, 0.1, 0.0):
        wanted = steering.pulse_us(position)
        servos.set_pulses_us({steering.channel: wanted})
        seen = servos.read_pulses_us()[steering.channel]
        law = f"{wanted:.1f} us reads back to within a tick"
        _require(true=abs(seen - wanted) <= TICK_US, law=law, seen=seen)
    servos.full_off()


def _limits_hold(servos: Servos, calibration: CarCalibration) -> None:
    steering = calibration.steering
    servos.full_off()
    for bad in (steering.limits_us[1] + 50.0, steering.limits_us[0] - 50.0, np.nan):
        try:
            servos.set_pulses_us({steering.channel: float(bad)})
        except ContractError:
            continue
        _require(true=False, law="a pulse beyond its limits is refused", seen=bad)
    driven = {c: us for c, us in servos.read_pulses_us().items() if us}
    _require(true=not driven, law="a refused pulse drives nothing", seen=driven)


SERVO_LAWS: Mapping[str, Callable[[Servos, CarCalibration], None]] = {
    "stops-provably": _stops_provably,
    "limits-hold": _limits_hold,
    "pulses-read-back": _pulses_read_back,
}
