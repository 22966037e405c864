"""The programs as they are shipped, on a simulated Pi's device nodes (umockdev).

What a process did is judged by the bus's journal: which bytes, when, and what the chip's
outputs did after them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import attrs
import pytest

from continuon.testing.umockdev import SKIPPED, unavailable

pytestmark = pytest.mark.slow
OFF_WRITE = [0x40, "fd10"]
RESTS_NS = 1_200_000_000  # the next loop comes later
PI = '{"target": "continuon.rig.pi:PiRig"}'


@attrs.frozen
class Run:
    """What a command said, and what the bus saw."""

    status: int
    out: str
    err: str
    journal: list

    @property
    def writes(self):
        return [
            message
            for line in self.journal
            for message in line["messages"]
            if isinstance(message[1], str) and len(message[1]) > 2
        ]

    @property
    def driven(self):
        return self.journal[-1]["driven"]


@pytest.fixture(scope="module", autouse=True)
def _available(request):
    if request.config.getoption("--rig") not in ("sim", "umockdev"):
        pytest.skip(
            "device nodes are simulated here; the real ones have their own tests"
        )
    if "UMOCKDEV_DIR" in os.environ:
        pytest.skip("already below umockdev; these start it themselves")
    why = unavailable()
    if why is not None:
        pytest.skip(why)


@pytest.fixture
def on_pi(tmp_path):
    """Run a command on the simulated Pi."""

    def run(*argv, options=()):
        journal = tmp_path / "journal"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "continuon.testing.umockdev"),
                *("--journal", journal, *options, "--", *argv),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"CONTINUON_HOME": str(tmp_path / "home")},
        )
        assert done.returncode != SKIPPED, done.stderr
        lines = journal.read_text().splitlines()
        return Run(
            done.returncode, done.stdout, done.stderr, [json.loads(x) for x in lines]
        )

    return run


def command(*words):
    return [sys.executable, "-c", "from continuon.cli import main; main()", *words]


def script(text):
    return [sys.executable, "-c", textwrap.dedent(text)]


def test_the_whole_suite_of_drivers_passes_on_the_pis_own_rig(on_pi):
    suite = Path(__file__).with_name("test_rig_drivers.py")
    seen = on_pi(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs"),
        *("-p", "no:randomly", suite),
        *("--rig", "umockdev"),
    )
    assert seen.status == 0, seen.out
    assert "passed" in seen.out
    assert "has no camera" in seen.out
    assert seen.driven == {}


def test_a_scan_names_the_devices_writes_nothing_and_is_labelled(on_pi):
    seen = on_pi(*command("rig", "scan", "--json"), options=("--throttled", "0x50005"))
    report = json.loads(seen.out)
    there = {found["kind"] for found in report["found"] if found["present"]}
    assert {"i2c", "pca9685", "ina219", "max17048", "thermal", "firmware"} <= there
    hints = [found["hint"] or "" for found in report["found"]]
    assert any("under-voltage now" in hint for hint in hints)
    assert (report["origin"], report["missing"]) == ("simulated", ["camera"])
    assert seen.status == 4
    assert seen.writes == []


@pytest.mark.parametrize(
    ("options", "signal_", "level"),
    [
        ((), "thermal", "OK"),
        (("--celsius", "77"), "thermal", "WARN"),
        (("--celsius", "83"), "thermal", "CRITICAL"),
        (("--throttled", "0x4"), "thermal", "CRITICAL"),
        (("--throttled", "0x10000"), "supply", "WARN"),
        (("--throttled", "0x1"), "supply", "CRITICAL"),
        (("--volts", "7.0"), "battery", "WARN"),
        (("--volts", "6.4"), "battery", "CRITICAL"),
        (("--absent",), "servos", "UNKNOWN"),
    ],
)
def test_health_grades_what_the_real_readers_read(on_pi, options, signal_, level):
    argv = ["health", "--rig", "pi", "--quick", "--json"]
    seen = on_pi(*command(*argv), options=options)
    report = json.loads(seen.out)
    levels = {check["name"]: check["level"] for check in report["checks"]}
    assert levels[signal_] == level
    assert levels["camera"] == "UNKNOWN"
    assert report["origin"] == "simulated"
    assert seen.status in (3, 4)
    assert seen.writes == []


def test_validation_moves_nothing_and_stops_provably(on_pi, tmp_path):
    log = tmp_path / "log.json"
    argv = ["rig", "validate", "--rig", "pi", "--log-json", str(log), "--quiet"]
    seen = on_pi(*command(*argv), options=("--driven",))
    assert seen.writes == [OFF_WRITE]
    assert (seen.driven, seen.journal[0]["driven"] != {}) == ({}, True)
    assert json.loads(log.read_text())["moved"] is False


def test_without_a_person_at_a_terminal_nothing_moves(on_pi, tmp_path):
    log = tmp_path / "log.json"
    argv = ["rig", "validate", "--rig", "pi", "--move", "--log-json", str(log)]
    seen = on_pi(*command(*argv))
    assert seen.status == 5
    assert "E-RIG-CONSENT-001" in seen.err
    assert seen.journal == []


def test_the_stop_of_the_unit_turns_off_what_a_reboot_left_driven(on_pi):
    argv = (sys.executable, "-m", "continuon.robot.guard", "--rig", PI, "--stop")
    seen = on_pi(*argv, options=("--driven",))
    assert seen.status == 0
    assert seen.writes == [OFF_WRITE]
    assert seen.driven == {}


def test_a_killed_process_leaves_the_outputs_driven_until_another_stops_them(on_pi):
    seen = on_pi(
        *script(
            f"""
            import subprocess, sys
            drive = '''
            import os, signal
            from continuon.rig.pi import PiRig
            PiRig().servos.set_pulses_us({{0: 1600.0, 1: 1400.0}})
            os.kill(os.getpid(), signal.SIGKILL)
            '''
            import textwrap
            killed = subprocess.run([sys.executable, "-c", textwrap.dedent(drive)])
            guard = [sys.executable, "-m", "continuon.robot.guard", "--stop"]
            stopped = subprocess.run([*guard, "--rig", {PI!r}])
            print(killed.returncode, stopped.returncode)
            """
        )
    )
    assert seen.out.split() == [str(-signal.SIGKILL), "0"]
    driven = [line["driven"] for line in seen.journal if line["driven"]]
    assert set(driven[-1]) == {"0", "1"}
    assert driven[-1]["0"] == pytest.approx(1600 * 25.0 / 25.4, abs=6)
    assert seen.driven == {}


# A loop that drives the outputs for a seeded while, and then fails in one way. Who
# started it says when, and how late its own wishes to sleep for 2 ms ended meanwhile: the
# simulated bus is a process, and waits for a processor as this one does.
LOOP = """
import os, random, signal, sys, time
from continuon.robot.board import CHANNELS, Command
from continuon.robot.factory import Factory
from continuon.robot.guard_handle import GuardHandle

how, runs = getattr(signal, sys.argv[1]), int(sys.argv[2])
pulses = (1500.0, 1600.0, *[0.0] * (CHANNELS - 2))

def drive(seed):
    handle = GuardHandle(Factory(target="continuon.rig.pi:PiRig")).start()
    epoch = handle.permit()
    end = time.monotonic() + random.Random(seed).uniform(0.1, 0.3)
    tick = 0
    while time.monotonic() < end:
        handle._board.write_command(Command(heartbeat_ns=time.monotonic_ns(),
            epoch=epoch, tick=tick, enabled=True, pulses_us=pulses))
        tick += 1
        time.sleep(0.02)
    print(time.monotonic_ns(), flush=True)
    os.kill(os.getpid(), how)

for seed in range(runs):
    child = os.fork()
    if child == 0:
        drive(seed)
        os._exit(1)
    os.waitpid(child, os.WUNTRACED)
    begun, starved = time.monotonic(), 0.0
    while (before := time.monotonic()) < begun + 1.0:
        time.sleep(0.002)
        starved = max(starved, time.monotonic() - before - 0.002)
    print("starved", round(1e3 * starved, 1), flush=True)
    if how == signal.SIGSTOP:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    time.sleep(0.3)
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "SIGSTOP"])
def test_the_guard_stops_the_outputs_by_itself_by_bus_bytes(
    on_pi, how, request, record_property
):
    """The loop dies, crashes or freezes with its supervisor; the guard is a process."""
    runs = request.config.getoption("--runs")
    seen = on_pi(sys.executable, "-c", LOOP, how, str(runs))
    words = [line.split() for line in seen.out.splitlines()]
    falls = [int(word[0]) for word in words if word[0].isdigit()]
    starved_ms = [float(word[1]) for word in words if word[0] == "starved"]
    assert len(falls) == len(starved_ms) == runs, seen.err
    delays_ms = []
    for fall_ns, next_ns in zip(falls, [*falls[1:], 1 << 62], strict=True):
        until_ns = min(next_ns, fall_ns + RESTS_NS)
        after = [line for line in seen.journal if fall_ns < line["t_ns"] < until_ns]
        # A first update that was under way ends, and it sets the board up with a stop.
        still = [i for i, line in enumerate(after) if line["driven"]]
        ended = after[still[-1] + 1 :] if still else after
        assert ended, "driven to the end"
        off = next(line for line in ended if OFF_WRITE in line["messages"])
        assert off["driven"] == {}
        delays_ms.append((off["t_ns"] - fall_ns) / 1e6)
    # Two waits for a processor may come on top: of the loop that shall die, of the bus.
    late = [
        (delay, waited)
        for delay, waited in zip(delays_ms, starved_ms, strict=True)
        if delay > 500 + 2 * waited
    ]
    worst, middle = max(delays_ms), sorted(delays_ms)[runs // 2]
    figures = (
        f"{how}: {runs} runs, p50 {middle:.1f} ms, max {worst:.1f} ms, {len(late)} late, "
        f"starved for {max(starved_ms):.1f} ms"
    )
    record_property("figures", figures)
    print(figures)
    assert late == []
    assert seen.driven == {}


def test_a_brown_out_of_the_board_is_an_error_and_the_next_update_drives_again(on_pi):
    faults = json.dumps([{"at": 30, "kind": "chips lose their supply for a moment"}])
    seen = on_pi(
        *script(
            """
            from continuon.errors import HardwareError
            from continuon.rig.pi import PiRig
            rig = PiRig()
            codes = []
            for turn in range(40):
                try:
                    rig.servos.set_pulses_us({0: 1500.0, 1: 1500.0})
                except HardwareError as error:
                    codes.append(error.code)
            print(*codes)
            rig.close()
            """
        ),
        options=("--faults", faults),
    )
    assert seen.out.split() == ["E-RIG-PCA-006"]
    assert seen.driven == {}


def test_a_bus_that_hangs_costs_a_second_and_is_named(on_pi):
    faults = json.dumps([{"at": 1, "kind": "stalls a second, then times out"}])
    seen = on_pi(*command("rig", "scan", "--json"), options=("--faults", faults))
    bus = next(f for f in json.loads(seen.out)["found"] if f["kind"] == "i2c")
    assert "E-RIG-I2C-006" in bus["detail"]
    assert len(seen.journal) == 1
