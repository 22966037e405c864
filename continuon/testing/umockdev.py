"""Unmodified processes on a simulated Pi: `python -m continuon.testing.umockdev CMD`.

umockdev (from apt) redirects device nodes and sysfs of a process and its children. Here
a real `/dev/i2c-1` with a servo board and gauges, `/dev/vcio` and a thermal zone are
answered by the same models that the other tests use. Needs neither root nor a kernel
module. Every transfer goes into a journal, so that a stop is proven by bus bytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import attrs
import msgspec

from continuon.sim import bus as sim_bus
from continuon.sim.chips import Pca9685Chip
from continuon.sim.faults import Fault, FaultScript
from continuon.sim.gauges import Ina219Chip, Max17048Chip
from continuon.sim.mailbox import SimMailbox

__all__ = ["SKIPPED", "main", "unavailable"]

SKIPPED = 77  # the exit status by which test runners know a skip
_SYSTEM_PACKAGES = "/usr/lib/python3/dist-packages"
_PRELOAD = "libumockdev-preload"
_NODES = """P: /devices/platform/i2c-1/i2c-dev/i2c-1
N: i2c-1
E: SUBSYSTEM=i2c-dev
E: DEVNAME=/dev/i2c-1
E: MAJOR=89
E: MINOR=1

P: /devices/virtual/bcm2708_vcio/vcio
N: vcio
E: SUBSYSTEM=bcm2708_vcio
E: DEVNAME=/dev/vcio

P: /devices/virtual/thermal/thermal_zone0
E: SUBSYSTEM=thermal
A: type=cpu-thermal\\n
A: temp={milli_celsius}\\n

"""


def unavailable() -> str | None:
    """Return why this cannot run here, or None if it can."""
    if shutil.which("umockdev-wrapper") is None:
        return "umockdev is not installed: apt install umockdev gir1.2-umockdev-1.0"
    # In another process, because importing gi changes this one for good.
    probe = "from continuon.testing.umockdev import _umockdev; _umockdev()"
    tried = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    if tried.returncode != 0:
        why = tried.stderr.strip().splitlines()[-1:]
        return f"{sys.executable} cannot use python3-gi: {''.join(why)}"
    return None


def _umockdev() -> tuple[Any, Any]:
    """Return the modules UMockdev and GLib, from the system's packages if need be."""
    if importlib.util.find_spec("gi") is None:
        sys.path.append(_SYSTEM_PACKAGES)
    import gi

    gi.require_version("UMockdev", "1.0")
    from gi.repository import GLib, UMockdev

    return UMockdev, GLib


@attrs.define
class _Journal:
    """One JSON line a transfer: when, which bytes, what the outputs do after it."""

    file: TextIO | None
    chip: Pca9685Chip

    def note(self, messages: Sequence[sim_bus.Message], error: str | None) -> None:
        if self.file is None:
            return
        driven = {c: round(us, 1) for c, us in self.chip.pulses_us().items() if us}
        line = {
            "t_ns": time.monotonic_ns(),
            "messages": [
                [address, payload if isinstance(payload, int) else payload.hex()]
                for address, payload in messages
            ],
            "error": error,
            "driven": driven,
        }
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


class _JournaledBus(sim_bus.SimulatedBus):
    journal: _Journal

    def transfer(self, messages: Sequence[sim_bus.Message]) -> list[bytes]:
        """Do one transfer and note it, whatever came of it."""
        error: str | None = None
        try:
            return super().transfer(messages)
        except OSError as failed:
            error = str(failed)
            raise
        finally:
            self.journal.note(messages, error)


def _i2c(bus: sim_bus.SimulatedBus) -> Callable[[int, Any], int]:
    """Return a function that answers one ioctl of an I2C node."""
    chosen = [0]

    def answer(request: int, argument: Any) -> int:
        if request in (sim_bus.I2C_SLAVE, sim_bus.I2C_SLAVE_FORCE):
            # The value itself stands where other calls have a pointer.
            (chosen[0],) = struct.unpack("<Q", bytes(argument.retrieve()))
        elif request == sim_bus.I2C_FUNCS:
            where = argument.resolve(0, 8)
            where.update(0, struct.pack("<Q", sim_bus.FUNCTIONS))
        elif request == sim_bus.I2C_SMBUS:
            _smbus(bus, chosen[0], argument.resolve(0, 16))
        elif request == sim_bus.I2C_RDWR:
            return _combined(bus, argument.resolve(0, 16))
        return 0

    return answer


# Bytes of the union that each transaction type carries; blocks carry 34.
_UNION_BYTES = {0: 0, 1: 1, 2: 1, 3: 2, 4: 2}


def _smbus(bus: sim_bus.SimulatedBus, address: int, call: Any) -> None:
    read, command, size, pointer = struct.unpack("<BBxxIQ", bytes(call.retrieve()))
    count = _UNION_BYTES.get(size, 34) if pointer else 0
    union = call.resolve(8, count) if count else None
    block = b"" if union is None else bytes(union.retrieve())
    answer = bus.smbus(
        address,
        read=read == 1,
        command=command,
        size=size,
        block=block.ljust(34, b"\0"),
    )
    if answer is not None and union is not None:
        union.update(0, answer)


def _combined(bus: sim_bus.SimulatedBus, call: Any) -> int:
    count = int(struct.unpack("<8xI4x", bytes(call.retrieve()))[0])
    table = call.resolve(0, 16 * count)
    raw = bytes(table.retrieve())
    messages: list[sim_bus.Message] = []
    answers: list[Any] = []
    for index in range(count):
        address, flags, length = struct.unpack_from("<HHH", raw, 16 * index)
        buffer = table.resolve(16 * index + 8, length)
        if flags & sim_bus.I2C_M_RD:
            messages.append((address, length))
            answers.append(buffer)
        else:
            messages.append((address, bytes(buffer.retrieve())))
    for buffer, data in zip(answers, bus.transfer(messages), strict=False):
        buffer.update(0, data)
    return count


# A message of one tag with one word of value; umockdev copies a pointer's bytes once.
_MESSAGE_BYTES = 28


def _mailbox(mailbox: SimMailbox) -> Callable[[int, Any], int]:
    def answer(request: int, argument: Any) -> int:
        whole = argument.resolve(0, _MESSAGE_BYTES)
        message = bytearray(whole.retrieve())
        mailbox.ioctl(request, message)
        whole.update(0, bytes(message))
        return 0

    return answer


def _handler(umockdev: Any, answer: Callable[[int, Any], int]) -> Any:
    """Return umockdev's object that hands ioctls to a function."""

    class Handler(umockdev.IoctlBase):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.connect("handle-ioctl", Handler.handle)

        def handle(self, client: Any) -> bool:
            try:
                done = answer(client.get_request(), client.get_arg())
                client.complete(done, 0)
            except OSError as error:
                client.complete(-1, error.errno or 5)
            return True

    return Handler()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command on the simulated Pi; returns its exit status, or 77 for a skip."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="continuon.testing.umockdev")
    parser.add_argument("--journal", type=Path, help="one JSON line a transfer")
    parser.add_argument("--throttled", type=lambda text: int(text, 0), default=0)
    parser.add_argument("--celsius", type=float, default=51.5)
    parser.add_argument("--volts", type=float, default=7.9)
    parser.add_argument("--oscillator-hz", type=float, default=25.4e6)
    parser.add_argument("--faults", default="[]", help="list of faults as JSON")
    parser.add_argument("--driven", action="store_true", help="begin with pulses on")
    parser.add_argument("--absent", action="store_true", help="no servo board")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args(words)
    if _PRELOAD not in os.environ.get("LD_PRELOAD", ""):
        why = unavailable()
        if why is not None:
            print(f"skipped: {why}", file=sys.stderr)
            return SKIPPED
        again = [sys.executable, "-m", "continuon.testing.umockdev", *words]
        return subprocess.run(["umockdev-wrapper", *again], check=False).returncode
    return _serve(args)


def _serve(args: argparse.Namespace) -> int:
    umockdev, glib = _umockdev()
    chip = Pca9685Chip(oscillator_hz=args.oscillator_hz)
    if args.driven:  # as a host's reboot leaves it: 50 Hz, awake, two pulses
        chip.write(bytes([0xFE, 123]))
        chip.write(bytes([0x00, 0x20]))
        chip.write(bytes([0x06, 0, 0, 0x40, 0x01, 0, 0, 0x40, 0x01]))
        chip.stop()
    gauge = Ina219Chip(volts=lambda: args.volts, amps=lambda: -0.8, address=0x43)
    fuel = Max17048Chip(cell_v=lambda: args.volts / 2, charge=lambda: 0.7)
    chips: list[Any] = [gauge, fuel] if args.absent else [chip, gauge, fuel]
    script = FaultScript(
        msgspec.convert(json.loads(args.faults), list[Fault]), reset=chip.power_on
    )
    bus = _JournaledBus("/dev/i2c-1", chips, faults=script)
    mailbox = SimMailbox(throttled=args.throttled, celsius=args.celsius)
    bed = umockdev.Testbed.new()
    bed.add_from_string(_NODES.format(milli_celsius=round(args.celsius * 1000)))
    handlers = {"/dev/i2c-1": _i2c(bus), "/dev/vcio": _mailbox(mailbox)}
    kept = {path: _handler(umockdev, answer) for path, answer in handlers.items()}
    for path, handler in kept.items():
        bed.attach_ioctl(path, handler)
    journal = None if args.journal is None else args.journal.open("w")
    bus.journal = _Journal(journal, chip)
    loop = glib.MainLoop()
    threading.Thread(target=loop.run, daemon=True).start()
    command = [word for word in args.command if word != "--"]
    status = subprocess.run(command, check=False).returncode
    sys.stdout.flush()
    if journal is not None:
        journal.close()
    # umockdev's threads do not end by themselves.
    os._exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    sys.exit(main())
