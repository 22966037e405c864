"""Kill or refuse the stager at each of its state-changing system calls, one at a time.

Needs `strace`. The victim is the shipping stager on a real directory: one update that
is committed, one that is rolled back. After each injection the device must recover,
keep every invariant, and take a fresh update.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from continuon.errors import ContinuonError, TrustError
from continuon.ota.disk import DiskStore
from continuon.ota.explore import Reported, check_invariants, one_update
from continuon.ota.slots import Slots
from continuon.ota.toy import (
    LAST,
    LAST_COUNTER,
    MANIFEST,
    OUTSIDE,
    PAYLOAD,
    toy_files,
)

CALLS = (
    "write,fsync,syncfs,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,"
    "rmdir,openat,sendfile,ftruncate,symlink,symlinkat,copy_file_range"
)
INJECT = {"kill": "signal=KILL", "enospc": "error=ENOSPC", "eio": "error=EIO"}
_LINE = re.compile(r"(?:\[pid +\d+\] )?(\w+)\(")


@attrs.define
class Sweep:
    """What a sweep found: bad outcomes by their message."""

    points: int = 0
    took_effect: int = 0
    bad: list[str] = attrs.field(factory=list)


class HostFiles(DiskStore):
    """The real store, whose outside files are toy bundles in a folder."""

    def copy_in(self, source: str, path: str) -> None:
        """Copy from the folder beside the model root."""
        super().copy_in(str(self.root.parent / "outside" / source), path)


def real_slots(root: Path) -> Slots:
    """Return the shipping stager on a real directory with toy bundles."""

    def check(path: str, bundle: str) -> None:
        folder = root / path
        names = {MANIFEST, *PAYLOAD}
        found = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
        if found == names:
            manifest = (folder / MANIFEST).read_bytes()
            digests = [_digest((folder / name).read_bytes()) for name in PAYLOAD]
            named = manifest.decode("ascii", "replace").split(" ")[1:]
            if _digest(manifest) == bundle and named == digests:
                return
        raise TrustError("E-TEST-TOY-001", "not whole", where=path)

    return Slots(HostFiles(root), check)


def prepare(scratch: Path) -> Path:
    """Make a device that has lived a little; return its model root."""
    shutil.rmtree(scratch, ignore_errors=True)
    for name, data in OUTSIDE.items():
        path = scratch / "outside" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    root = scratch / "model"
    root.mkdir()
    one_update(real_slots(root), Reported())
    return root


def command(root: Path) -> list[str]:
    """Return the victim's command line."""
    return [sys.executable, "-IB", "-m", __spec__.name, "victim", str(root)]


def points_in(victim: list[str], root: Path) -> list[tuple[str, int]]:
    """Return (system call, its ordinal) for every call that touches the model root."""
    trace = ["strace", "-qq", "-y", "-f", "-e", f"trace={CALLS}", *victim]
    output = subprocess.run(trace, capture_output=True, text=True, check=False).stderr
    seen: dict[str, int] = {}
    points = []
    for line in output.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        name = match.group(1)
        seen[name] = seen.get(name, 0) + 1
        readonly = name == "openat" and "O_CREAT" not in line
        if str(root) in line and not readonly:
            points.append((name, seen[name]))
    return points


def sweep(scratch: Path, mode: str, *, every: int = 1) -> Sweep:
    """Inject at every point and judge what is left."""
    found = Sweep()
    seed = scratch / "seed"
    root = prepare(seed)
    points = points_in(command(root), root)
    for name, ordinal in points[::every]:
        work = scratch / "seed"
        root = prepare(work)
        before = Reported()
        before.note(real_slots(root).load())
        inject = f"inject={name}:{INJECT[mode]}:when={ordinal}"
        quiet = ["strace", "-qq", "-o", "/dev/null", "-f", "-e", f"trace={name}"]
        run = [*quiet, "-e", inject, *command(root)]
        status = subprocess.run(run, capture_output=True, check=False).returncode
        found.points += 1
        found.took_effect += status != 0
        try:
            judge(root, before)
        except (AssertionError, ContinuonError, OSError) as error:
            found.bad.append(f"{name} {ordinal}: {type(error).__name__}: {error}")
    return found


def judge(root: Path, before: Reported) -> None:
    """Recover, check the invariants, and take a fresh update."""
    slots = real_slots(root)
    slots.recover()
    check_invariants(slots, before)
    if slots.load().trial is not None:
        slots.rollback("E-TEST-000", "abandoned")
    slots.stage(LAST, LAST_COUNTER, toy_files(LAST))
    slots.activate(LAST, LAST_COUNTER)
    slots.commit(LAST)
    check_invariants(slots, before, superseded=True)


def main(arguments: list[str]) -> int:
    """Sweep once and print what was found; return 1 if anything was bad."""
    if arguments[:1] == ["victim"]:
        one_update(real_slots(Path(arguments[1])), Reported())
        return 0
    return run_sweep(sweep, arguments, __spec__.name, __doc__)


def run_sweep(
    sweep: Callable[..., Sweep], arguments: list[str], module: str, about: str | None
) -> int:
    """Sweep as the command line says, and print what was found; 1 if any was bad."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument(
        "scratch", metavar="SCRATCH", type=Path, help="a folder; SCRATCH/seed is lost"
    )
    parser.add_argument("mode", choices=sorted(INJECT))
    parser.add_argument(
        "every",
        metavar="EVERY",
        type=int,
        nargs="?",
        default=1,
        help="inject at every n-th call only (1)",
    )
    options = parser.parse_args(arguments)
    if shutil.which("strace") is None:
        parser.error("strace is not installed")
    began_s = time.perf_counter()
    found = sweep(options.scratch, options.mode, every=options.every)
    took_s = time.perf_counter() - began_s
    for text in found.bad[:10]:
        print("BAD", text)
    print(
        f"{parser.prog} {options.mode}: {found.points} points, "
        f"{found.took_effect} took effect, {len(found.bad)} bad, {took_s:.0f} s"
    )
    return int(bool(found.bad) or not found.points)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
