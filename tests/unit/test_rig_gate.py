"""The Pi's own rig passes gate 1 with a depth camera, and misses it without one."""

from __future__ import annotations

import pytest

from continuon.clock import ManualClock
from continuon.health import Level, check_health
from continuon.pipeline.gates import Verdict, load_gates
from continuon.rig import camera_oak, firmware
from continuon.rig.calibration import CarCalibration
from continuon.rig.pi import PiRig
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip
from continuon.sim.clocks import DeviceClock
from continuon.sim.gauges import Ina219Chip
from continuon.sim.mailbox import SimMailbox
from continuon.sim.oak import SimOakStream
from continuon.sim.shutter import Shutter

START_NS = 10**10


def pi(tmp_path, monkeypatch, *, with_camera):
    clock = ManualClock(START_NS)
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("52000\n")
    if with_camera:
        place = tmp_path / "sys/bus/usb/devices/2-1"
        place.mkdir(parents=True)
        (place / "idVendor").write_text("03e7\n")
    stream = SimOakStream(
        clock=clock,
        width=640,
        height=480,
        colours=Shutter(start_ns=START_NS),
        depths=Shutter(start_ns=START_NS + 1_200_000, latency_ns=25_000_000),
        device=DeviceClock(name="oak", offset_ns=-(10**12), drift_ppm=8.0),
    )
    monkeypatch.setattr(camera_oak, "start_oak", lambda *asked: stream)
    node = tmp_path / "vcio"
    node.write_bytes(b"")
    mailbox = SimMailbox()
    monkeypatch.setattr(
        firmware.fcntl,
        "ioctl",
        lambda fd, request, m, mutate: mailbox.ioctl(request, m),
    )
    real_open = firmware.os.open
    monkeypatch.setattr(
        firmware.os,
        "open",
        lambda path, flags, *rest: real_open(
            node if str(path) == "/dev/vcio" else path, flags, *rest
        ),
    )
    gauge = Ina219Chip(volts=lambda: 8.0, amps=lambda: -0.6, address=0x43)
    bus = SimulatedBus("/dev/i2c-test-gate", [Pca9685Chip(), gauge])
    return PiRig(
        bus=bus.path,
        clock=clock,
        calibration=CarCalibration(oscillator_hz=25.1e6),
        sys=tmp_path / "sys",
        dev=tmp_path,
        connect=lambda _: connect(bus),
    )


def judged(report):
    phase = next(gate for gate in load_gates() if gate.name == "health")
    lines = (line.check(report.figures, origin="real") for line in phase.lines)
    return {check.figure: check.verdict for check in lines}


@pytest.mark.slow
@pytest.mark.req("R-RIG-23")
def test_the_pis_drivers_pass_gate_1_with_a_depth_camera(tmp_path, monkeypatch):
    with pi(tmp_path, monkeypatch, with_camera=True) as rig:
        report = check_health(rig, home=tmp_path)
    assert report.figures["camera_depth"] is True
    assert report.figures["skew_p99_ms"] == pytest.approx(1.2, abs=0.01)
    gates = judged(report)
    assert len(gates) == 5
    assert set(gates.values()) == {Verdict.PASSED}


@pytest.mark.req("R-RIG-23")
def test_without_a_camera_gate_1_is_missed_and_says_what_was_looked_for(
    tmp_path, monkeypatch
):
    with pi(tmp_path, monkeypatch, with_camera=False) as rig:
        report = check_health(rig, home=tmp_path)
    levels = {check.name: check for check in report.checks}
    assert levels["camera"].level is Level.UNKNOWN
    assert "no OAK camera on USB" in levels["camera"].text
    gates = judged(report)
    missed = {figure for figure, said in gates.items() if said is not Verdict.PASSED}
    assert missed == {"camera_detected", "skew_p99_ms"}
