"""Every signal at every level that it can have, by the readers that ship."""

from __future__ import annotations

import types

import attrs
import pytest

from continuon.clock import ManualClock
from continuon.health import Level, check_health, host
from continuon.health.thresholds import SIGNALS, load_thresholds
from continuon.rig.calibration import CarCalibration
from continuon.rig.camera_oak import OakCamera
from continuon.rig.i2c import I2cBus
from continuon.rig.ina219 import Ina219
from continuon.rig.pca9685 import Pca9685Servos
from continuon.rig.thermal import SysfsThermal
from continuon.sim.bus import SimulatedBus, connect
from continuon.sim.chips import Pca9685Chip
from continuon.sim.clocks import DeviceClock
from continuon.sim.faults import Fault, FaultKind, FaultScript
from continuon.sim.gauges import Ina219Chip
from continuon.sim.mailbox import SimMailbox
from continuon.sim.oak import SimOakStream
from continuon.sim.shutter import Shutter

START_NS = 10**10
OK, WARN, CRITICAL = Level.OK, Level.WARN, Level.CRITICAL
STALE, UNKNOWN = Level.STALE, Level.UNKNOWN


@attrs.define
class Desk:
    """Everything around the readers that can be set."""

    volts: float = 8.0
    celsius: float = 50.0
    throttled: int = 0
    skew_ns: int = 1_000_000
    dropped: frozenset = frozenset()
    hangs_from: int | None = None
    unplugged: bool = False
    faults: tuple = ()
    chips: bool = True
    mode1: int | None = None
    prescale: int | None = None
    eye: bool = True
    heat: bool = True
    meminfo: str = "MemTotal: 8000 kB\nMemAvailable: 6000 kB\n"
    psi: str = "full avg10=0.00 total=1\n"
    free: float = 0.5
    late_ns: int = 0


@attrs.define(kw_only=True)
class DeskRig:
    """The drivers that ship, on the models of their chips."""

    clock: ManualClock
    camera: object
    servos: object
    battery: object
    thermal: object
    name: str = "desk"
    origin: str = "simulated"
    calibration: CarCalibration = attrs.field(factory=CarCalibration)
    state: object = None


class Late:
    """A sensor whose readings are old when they come."""

    def __init__(self, sensor, late_ns):
        self.sensor, self.late_ns = sensor, late_ns

    def read(self):
        reading = self.sensor.read()
        return attrs.evolve(reading, capture_ns=reading.capture_ns - self.late_ns)


def build(desk, tmp_path, monkeypatch):
    clock = ManualClock(START_NS)
    chip = Pca9685Chip()
    gauge = Ina219Chip(volts=lambda: desk.volts, amps=lambda: -0.5)
    script = FaultScript(
        desk.faults, sleep_s=lambda s: clock.advance_ns(round(s * 1e9))
    )
    bus = SimulatedBus("/dev/i2c-test-truth", [chip, gauge] if desk.chips else [])
    i2c = I2cBus(bus.path, connect=lambda _: connect(bus), now_ns=clock.monotonic_ns)
    servos = Pca9685Servos(i2c, limits_us={0: (900.0, 2100.0)}, sleep_s=lambda _: None)
    if desk.prescale is not None:
        servos.set_pulses_us({0: 1500.0})
        chip.memory[0xFE] = desk.prescale
        chip.stop()
    bus.transfers, bus.faults = 0, script
    stream = SimOakStream(
        clock=clock,
        width=32,
        height=24,
        colours=Shutter(start_ns=START_NS, dropped=desk.dropped),
        depths=Shutter(start_ns=START_NS + desk.skew_ns, hangs_from=desk.hangs_from),
        device=DeviceClock(name="oak", offset_ns=7, drift_ppm=1.0),
        sync_error_ns=0.0,
    )
    eye = OakCamera(clock=clock, width=32, height=24, start=lambda *_: stream)
    if desk.unplugged:
        eye.open()
        stream.unplugged = True
    sys = tmp_path / "sys/class/thermal/thermal_zone0"
    sys.mkdir(parents=True)
    (sys / "temp").write_text(f"{round(desk.celsius * 1000)}\n")
    node = tmp_path / "vcio"
    node.write_bytes(b"")
    from continuon.rig import firmware

    mailbox = SimMailbox(throttled=desk.throttled)
    monkeypatch.setattr(
        firmware.fcntl,
        "ioctl",
        lambda fd, request, m, mutate: mailbox.ioctl(request, m),
    )
    heat = SysfsThermal(
        clock=clock,
        sys=tmp_path / "sys",
        flags=lambda: firmware.read_throttle_flags(node),
    )
    proc = tmp_path / "proc/pressure"
    proc.mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(desk.meminfo)
    (proc / "memory").write_text(desk.psi)
    blocks = 10**9
    usage = types.SimpleNamespace(
        f_bavail=int(desk.free * blocks), f_blocks=blocks, f_frsize=4096, f_flag=0
    )
    monkeypatch.setattr(host.os, "statvfs", lambda place: usage)
    gauge_driver = Ina219(i2c, clock=clock)
    return DeskRig(
        clock=clock,
        camera=eye if desk.eye else None,
        servos=servos if desk.chips else None,
        battery=Late(gauge_driver, desk.late_ns) if desk.chips else None,
        thermal=Late(heat, desk.late_ns) if desk.heat else None,
    )


EVERY_THIRD = frozenset(range(2, 99, 3))
MOST = frozenset(n for n in range(1, 99) if n % 3)
TRUTH = [
    ("camera", OK, {}),
    ("camera", WARN, {"dropped": EVERY_THIRD}),
    ("camera", CRITICAL, {"dropped": MOST}),
    ("camera", CRITICAL, {"unplugged": True}),
    ("camera", STALE, {"hangs_from": 3}),
    ("camera", UNKNOWN, {"eye": False}),
    ("skew", OK, {}),
    ("skew", WARN, {"skew_ns": 4_000_000}),
    ("skew", CRITICAL, {"skew_ns": 9_000_000}),
    ("skew", UNKNOWN, {"hangs_from": 3}),
    ("servos", OK, {}),
    ("servos", CRITICAL, {"prescale": 90}),
    ("servos", UNKNOWN, {"chips": False}),
    ("bus", OK, {}),
    ("bus", WARN, {"faults": [Fault(at=100, kind=FaultKind.NACK)]}),
    ("bus", CRITICAL, {"faults": [Fault(at=100, kind=FaultKind.STALL)]}),
    ("bus", UNKNOWN, {"chips": False}),
    ("battery", OK, {}),
    ("battery", WARN, {"volts": 7.0}),
    ("battery", CRITICAL, {"volts": 6.4}),
    ("battery", STALE, {"late_ns": 3 * 10**9}),
    ("battery", UNKNOWN, {"volts": 0.1}),
    ("battery", UNKNOWN, {"chips": False}),
    ("thermal", OK, {}),
    ("thermal", WARN, {"celsius": 76.0}),
    ("thermal", CRITICAL, {"celsius": 83.0}),
    ("thermal", CRITICAL, {"throttled": 0x2}),
    ("thermal", STALE, {"late_ns": 3 * 10**9}),
    ("thermal", UNKNOWN, {"heat": False}),
    ("supply", OK, {}),
    ("supply", WARN, {"throttled": 0x10000}),
    ("supply", CRITICAL, {"throttled": 0x1}),
    ("supply", STALE, {"late_ns": 3 * 10**9}),
    ("supply", UNKNOWN, {"heat": False}),
    ("disk", OK, {}),
    ("disk", WARN, {"free": 0.1}),
    ("disk", CRITICAL, {"free": 0.01}),
    ("memory", OK, {}),
    ("memory", WARN, {"meminfo": "MemTotal: 100 kB\nMemAvailable: 10 kB\n"}),
    ("memory", CRITICAL, {"meminfo": "MemTotal: 100 kB\nMemAvailable: 2 kB\n"}),
    ("memory", UNKNOWN, {"meminfo": ""}),
    ("pressure", OK, {}),
    ("pressure", WARN, {"psi": "full avg10=5.00 total=1\n"}),
    ("pressure", CRITICAL, {"psi": "full avg10=30.00 total=1\n"}),
    ("pressure", UNKNOWN, {"psi": "some avg10=0.00\n"}),
]


@pytest.mark.req("R-HEALTH-12")
@pytest.mark.req("R-HEALTH-13")
@pytest.mark.parametrize(
    ("name", "level", "state"), TRUTH, ids=lambda part: str(part)[:40]
)
def test_a_signal_reaches_its_level(name, level, state, tmp_path, monkeypatch):
    rig = build(Desk(**state), tmp_path, monkeypatch)
    report = check_health(rig, home=tmp_path, proc=tmp_path / "proc")
    seen = {check.name: check.level for check in report.checks}
    assert seen[name] is level, [c.text for c in report.checks if c.name == name]
    if not state:
        assert set(seen.values()) == {OK}


@pytest.mark.req("R-HEALTH-13")
def test_the_table_of_truth_has_every_signal_well_bad_and_worst():
    for signal in SIGNALS - {"freshness", "hold"}:
        levels = {level for name, level, _ in TRUTH if name == signal}
        assert {OK, CRITICAL} <= levels, signal
        assert signal in ("servos", "disk") or UNKNOWN in levels or STALE in levels
        assert "required" in load_thresholds()[signal]
