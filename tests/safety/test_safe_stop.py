"""Each failure many times at seeded moments: how soon every output reads back as off.

The limit is half a second where software can keep it. Where only hardware could, the
figure is measured and stands in the table with its own limit.
"""

from __future__ import annotations

import collections
import contextlib
import importlib.util
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect


def beside(name):
    """Import a module of this folder."""
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


under_test = beside("under_test")
memory_group = beside("memory_group")
template = beside("template")
pytestmark = pytest.mark.slow

LIMIT_MS = 500.0
STALL_LIMIT_MS = 700.0
GUARD_LIMIT_MS = 3_000.0


@pytest.fixture(scope="module")
def body(request):
    body = under_test.Body(request.config.getoption("--seed") + 7)
    yield body
    body.close()


@pytest.fixture(scope="module")
def loops(body):
    loops = under_test.Loops(body)
    yield loops
    loops.close()


@pytest.fixture(scope="module")
def service(body, tmp_path_factory):
    service = under_test.Service(
        body, tmp_path_factory.mktemp("home"), template.Template()
    )
    yield service
    service.close()


@contextlib.contextmanager
def unhindered():
    """Let what measures not wait for a processor, where that may be asked for."""
    wish = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, wish, os.sched_param(70))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture
def count(request, ledger, body):
    """Hurt a driving robot many times, and measure each stop from outside."""
    runs = request.config.getoption("--runs")
    seed = request.config.getoption("--seed")
    chance = random.Random(f"{seed} {request.node.name}")

    def measure(name, drive, hurt, mend=lambda: None, *, limit_ms=LIMIT_MS, after=None):
        over = []
        for _ in range(runs):
            for _ in range(10):
                drive()
                time.sleep(chance.uniform(0.05, 0.3))
                # On a busy machine a hand may fall silent, and the robot has stopped.
                if body.outputs.driven:
                    break
            assert body.outputs.driven
            with unhindered():
                began = time.monotonic()
                # Some failures take a while to happen, and say when they did.
                began = hurt() or began
                assert body.outputs.wait(False, 30.0), f"{name}: never off"
                took_ms = max(0.0, time.monotonic() - began) * 1e3
            ledger.add(name, took_ms, limit_ms, seed)
            # Off is off: nothing comes back by itself.
            assert not body.outputs.wait(True, 0.05)
            if after is not None:
                after()
            mend()
            body.mend()
            if took_ms > limit_ms:
                over.append(took_ms)
        assert not over, name

    return measure


@pytest.mark.parametrize(
    ("name", "number"),
    [("loop killed", signal.SIGKILL), ("loop segfault", signal.SIGSEGV)],
)
def test_a_loop_that_dies(count, loops, name, number):
    count(
        name,
        loops.drive,
        lambda: os.kill(loops.control.pid, number),
        loops.end_loop,
    )


def test_a_loop_that_freezes(count, loops):
    """It is thawed and goes on with the same process: nothing moves by that."""
    count(
        "loop frozen (SIGSTOP)",
        loops.drive,
        lambda: os.kill(loops.control.pid, signal.SIGSTOP),
        loops.thaw,
    )


@pytest.fixture
def group():
    try:
        group = memory_group.MemoryGroup(f"continuon-safety-{os.getpid()}")
    except memory_group.NoMemoryGroupError as error:
        pytest.skip(str(error))
    yield group
    group.close()


def test_a_loop_that_the_kernel_kills_out_of_memory(count, loops, group):
    count(
        "loop out of memory",
        loops.drive,
        lambda: group.kill_out_of_memory(loops.control.pid),
        loops.end_loop,
    )


def test_a_camera_that_hangs_under_a_persons_hand(count, loops, body):
    count(
        "camera hangs, by hand",
        loops.drive_by_hand,
        body.world.hang_camera,
        loops.let_go,
    )


def test_a_camera_that_is_unplugged_under_a_persons_hand(count, loops, body):
    count(
        "camera unplugged, by hand",
        loops.drive_by_hand,
        body.world.unplug_camera,
        loops.let_go,
    )


def test_a_camera_that_hangs_under_a_policy(count, loops, body):
    count("camera hangs", loops.drive, body.world.hang_camera)


def test_a_camera_that_is_unplugged_under_a_policy(count, loops, body):
    count("camera unplugged", loops.drive, body.world.unplug_camera)


def test_a_bus_that_refuses_and_then_answers_again(count, loops, body):
    def hurt():
        body.world.fail_bus("nack")
        time.sleep(0.15)
        body.world.fail_bus("none")

    count("bus refuses 150 ms", loops.drive, hurt)


def test_a_bus_call_that_stalls_while_the_loop_dies(count, loops, body):
    """A hung call holds the guard until the kernel gives it up, after 0.1 s."""

    def hurt():
        body.world.fail_bus("stall")
        time.sleep(0.03)
        os.kill(loops.control.pid, signal.SIGKILL)
        body.world.fail_bus("none")

    count("bus call stalls, loop dies", loops.drive, hurt, loops.end_loop)


def test_the_call_that_stops_stalls_itself(count, loops, body):
    """The worst moment for one hung call; only the OE pin is sooner than its end."""

    def hurt():
        os.kill(loops.control.pid, signal.SIGSTOP)
        began = time.monotonic()
        time.sleep(0.385)
        body.world.fail_bus("stall")
        time.sleep(0.06)
        body.world.fail_bus("none")
        return began

    count(
        "the stop itself stalls once",
        loops.drive,
        hurt,
        loops.thaw,
        limit_ms=STALL_LIMIT_MS,
    )


@pytest.mark.parametrize(
    ("name", "number", "limit_ms"),
    [
        ("guard killed", signal.SIGKILL, LIMIT_MS),
        ("guard hung", signal.SIGSTOP, GUARD_LIMIT_MS),
    ],
)
def test_a_guard_that_is_killed_or_hangs(count, loops, name, number, limit_ms):
    """Its second takes over; a hung one it gives a second and a half."""
    count(
        name,
        loops.drive,
        lambda: os.kill(loops.guard.pid, number),
        loops.renew_guard,
        limit_ms=limit_ms,
    )


@pytest.mark.parametrize("driver", ["a hand", "a policy"])
@pytest.mark.parametrize("name", ["service killed", "service hung"])
def test_a_service_that_dies_or_hangs(count, service, name, driver):
    """One that hung is thawed and goes on: what it had permitted stays over."""
    killed = name == "service killed"
    number = signal.SIGKILL if killed else signal.SIGSTOP
    count(
        f"{name}, {driver}",
        service.drive if driver == "a hand" else service.drive_by_policy,
        lambda: service.process.send_signal(number),
        service.kill if killed else service.thaw,
    )


def test_a_service_that_its_watchdog_kills(count, service):
    """As systemd does with WatchdogSec: it waits, aborts, kills, and runs ExecStopPost."""
    count(
        "service hung, WatchdogSec kills it",
        service.drive_by_policy,
        lambda: service.process.send_signal(signal.SIGSTOP),
        after=service.end_as_systemd_does,
    )


def test_a_service_that_the_kernel_kills_out_of_memory(count, service, group):
    count(
        "service out of memory",
        service.drive_by_policy,
        lambda: group.kill_out_of_memory(service.process.pid),
        service.kill,
    )


def test_an_emergency_stop_through_a_flooded_api(count, service):
    off, button = threading.Event(), under_test.StopButton(service)
    sent = [0]

    def flood():
        while not off.is_set():
            for path in ("/status", "/metrics", "/nothing", "/readyz"):
                # A refusal or a text that is no JSON is an answer, too.
                with contextlib.suppress(OSError, ValueError):
                    service.ask(path, timeout=5)
                sent[0] += 1

    def babble():
        with connect(f"ws://127.0.0.1:{service.port}/teleop") as socket:
            while not off.is_set():
                socket.send("x" * 1000)
                socket.recv(timeout=10)
                sent[0] += 1

    service.drive()
    threads = [threading.Thread(target=flood) for _ in range(4)]
    threads += [threading.Thread(target=babble) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        count(
            "emergency stop, API flooded",
            service.drive,
            button.press,
            button.hear,
        )
        timing = service.ask("/status")["timing"]
    finally:
        off.set()
        for thread in threads:
            thread.join()
    assert sent[0] > 50
    assert timing["ticks"] > 50


def test_an_emergency_stop_beside_slow_clients(count, service):
    """More half-sent requests than the service has room for, opened again and again."""
    off, button = threading.Event(), under_test.StopButton(service)
    opened = [0]

    def drip(links=300):
        held = collections.deque()
        while not off.wait(0.005):
            with contextlib.suppress(OSError):
                link = socket.create_connection(("127.0.0.1", service.port), 5)
                link.sendall(b"GET /status HTTP/1.1\r\nhost: localhost\r\n")
                held.append(link)
                opened[0] += 1
            if len(held) > links:
                held.popleft().close()
        for link in held:
            link.close()

    service.drive()
    dripping = threading.Thread(target=drip)
    dripping.start()
    while opened[0] < 200:
        time.sleep(0.01)
    try:
        count("emergency stop, slow clients", service.drive, button.press, button.hear)
    finally:
        off.set()
        dripping.join()


def be_driven(service):
    service.drive("TRAINING")


def be_recorded(service):
    service.drive("TRAINING")
    service.ask("/episodes", {"task": "to be cut short"})
    time.sleep(0.5)


def be_stopped(service):
    service.drive()
    service.ask("/estop", {"reason": "before the end"})


IN_EACH_MODE = {
    "disarmed": lambda service: service.enter("DISARM"),
    "manual, idle": lambda service: service.enter("MANUAL"),
    "manual, driven": lambda service: service.drive(),
    "training, driven": be_driven,
    "training, recorded": be_recorded,
    "autonomous, idle": lambda service: service.enter("AUTONOMOUS"),
    "autonomous, driving": lambda service: service.drive_by_policy(),
    "sleep learning": lambda service: service.enter("SLEEP"),
    "emergency stop": be_stopped,
}


@pytest.mark.parametrize("state", IN_EACH_MODE)
def test_told_to_end_in_any_mode_it_ends_in_order(service, body, ledger, state):
    IN_EACH_MODE[state](service)
    began = time.monotonic()
    service.process.terminate()
    assert body.outputs.wait(False, 5.0)
    took_ms = (time.monotonic() - began) * 1e3
    if "driv" in state or "recorded" in state:
        ledger.add("told to end (SIGTERM)", took_ms, LIMIT_MS, 0)
    assert took_ms <= LIMIT_MS
    service.let_go()
    assert service.process.wait(20) == 0
    assert not body.outputs.driven
    state_folder = service.home / "state"
    assert not (state_folder / "service.json").exists()
    latched = b'"latched":true' in (state_folder / "estop.json").read_bytes()
    assert latched == (state == "emergency stop")
    assert not list(service.home.rglob("*.part*"))
    if state == "training, recorded":
        (episode,) = service.home.rglob("*.mcap")
        assert episode.stat().st_size > 10_000
