"""Power cuts on a real filesystem, replayed from a log of its block writes.

A loop device lies on a file that a small FUSE process serves; it logs every write and
every flush. Each crash image (what was flushed, and some of what was not) is mounted by
the kernel, recovered, and judged. Needs root, /dev/fuse, loop devices and `mfusepy`.
"""

# ruff: noqa: ARG002, S311 - FUSE's own signatures; a seeded choice of cuts
from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from continuon._specs.stager.sweep import judge, real_slots
from continuon.errors import ContinuonError
from continuon.ota.explore import Reported, one_update
from continuon.ota.slots import Slots
from continuon.ota.toy import OUTSIDE

HEAD = struct.Struct("<cQQ")
CHUNK_BYTES = 1 << 16
LONG = 64
SIZE_MB = {"ext4": 32, "xfs": 320, "btrfs": 128}
SECTOR_BYTES = {"ext4": 4096, "xfs": 512, "btrfs": 4096}
MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-J", "size=4"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f", "-m", "single"],
}


@attrs.define
class Bench:
    """Paths of one run below a scratch directory."""

    scratch: Path
    kind: str

    def __attrs_post_init__(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        for name in ("fuse", "mount"):
            (self.scratch / name).mkdir(parents=True)

    @property
    def image(self) -> Path:
        """Return the filesystem image."""
        return self.scratch / "image"

    @property
    def log(self) -> Path:
        """Return the log of block writes and flushes."""
        return self.scratch / "log"

    @property
    def mounted(self) -> Path:
        """Return the mount point."""
        return self.scratch / "mount"

    def mount(self, device: Path | str, *options: str) -> None:
        """Mount a device or an image."""
        call("mount", "-t", self.kind, *options, str(device), str(self.mounted))

    def unmount(self) -> None:
        """Unmount; a busy mount is given a second."""
        for _ in range(50):
            done = subprocess.run(
                ["umount", str(self.mounted)], capture_output=True, check=False
            )
            if done.returncode == 0:
                return
            time.sleep(0.02)
        call("umount", str(self.mounted))

    def slots(self) -> Slots:
        """Return the shipping stager on the mounted filesystem."""
        return real_slots(self.mounted / "model")


def call(*command: str) -> str:
    """Run a program; its failure is an error."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def serve(bench: Bench) -> None:
    """Serve the image as one file and log what is written to it."""
    fuse: Any = importlib.import_module("mfusepy")

    class Disk(fuse.Operations):  # type: ignore[misc]
        use_ns = True

        def __init__(self) -> None:
            self.image = os.open(bench.image, os.O_RDWR)
            self.log = bench.log.open("ab", buffering=0)

        def getattr(self, path: str, fh: object = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": 0o40755, "st_nlink": 2}
            if path == "/disk":
                size = os.fstat(self.image).st_size
                return {"st_mode": 0o100600, "st_nlink": 1, "st_size": size}
            raise fuse.FuseOSError(2)

        def readdir(self, path: str, fh: object) -> list[str]:
            return [".", "..", "disk"]

        def open(self, path: str, flags: int) -> int:
            return 1

        def read(self, path: str, size: int, offset: int, fh: object) -> bytes:
            return os.pread(self.image, size, offset)

        def write(self, path: str, data: bytes, offset: int, fh: object) -> int:
            plain = bytes(data)
            os.pwrite(self.image, plain, offset)
            self.log.write(HEAD.pack(b"W", offset, len(plain)) + plain)
            return len(plain)

        def fsync(self, path: str, datasync: int, fh: object) -> int:
            self.log.write(HEAD.pack(b"F", 0, 0))
            return 0

        def flush(self, path: str, fh: object) -> int:
            return 0

        def truncate(self, path: str, length: int, fh: object = None) -> int:
            return 0

        def fallocate(self, *arguments: object) -> int:
            raise fuse.FuseOSError(95)

    folder = str(bench.scratch / "fuse")
    fuse.FUSE(Disk(), folder, foreground=True, nothreads=True, allow_other=True)


def entries(bench: Bench) -> list[tuple[bytes, int, bytes]]:
    """Return the log as (kind, offset, bytes); a cut may tear a write at any sector."""
    found = []
    step = SECTOR_BYTES[bench.kind]
    with bench.log.open("rb") as file:
        while head := file.read(HEAD.size):
            kind, offset, length = HEAD.unpack(head)
            data = file.read(length)
            found += [
                (kind, offset + start, data[start : start + step])
                for start in range(0, max(length, 1), step)
            ]
    return found


def record_workload(
    bench: Bench, lives: int
) -> tuple[Reported, list[tuple[int, Reported]], int]:
    """Run updates and rollbacks in turn; return what was reported, and when."""
    with bench.image.open("wb") as file:
        file.truncate(SIZE_MB[bench.kind] << 20)
    call(*MAKE[bench.kind], str(bench.image))
    bench.mount(bench.image, "-o", "loop")
    for name, data in OUTSIDE.items():
        path = bench.mounted / "outside" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (bench.mounted / "model").mkdir()
    one_update(bench.slots(), Reported())
    start = Reported()
    start.note(bench.slots().load())
    os.sync()
    bench.unmount()
    shutil.copy(bench.image, bench.scratch / "base")
    bench.log.touch()
    child = os.fork()
    if child == 0:
        try:
            serve(bench)
        finally:
            os._exit(0)
    disk = bench.scratch / "fuse" / "disk"
    deadline = time.monotonic() + 10
    while not disk.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    loop = call("losetup", "-f", "--show", str(disk)).strip()
    marks: list[tuple[int, Reported]] = []

    class Marked(Reported):
        def note(self, record: Any) -> None:
            super().note(record)
            marks.append((len(entries(bench)), attrs.evolve(self)))

    told = Marked(good=start.good, seq=start.seq, release_high=start.release_high)
    try:
        bench.mount(loop)
        for _ in range(lives):
            one_update(bench.slots(), told)
        end = len(entries(bench))
        bench.unmount()
    finally:
        call("losetup", "-d", loop)
        call("fusermount3", "-u", str(bench.scratch / "fuse"))
        os.waitpid(child, 0)
    return start, marks, end


def images(
    log: list[tuple[bytes, int, bytes]], base: bytearray, rounds: int
) -> Iterator[tuple[int, bytearray, tuple[int, ...]]]:
    """Yield (position, durable bytes, unflushed writes that made it) for each cut.

    Where much is written between two flushes (a journal that is zeroed at mount), only
    every 16th position is tried, so that the short intervals of an update prevail.
    """
    rng = random.Random(5)
    waiting: list[int] = []
    seen: set[tuple[int, tuple[int, ...]]] = set()
    flushed = 0
    for position, (kind, _, _) in enumerate(log):
        if kind == b"W":
            waiting.append(position)
            if len(waiting) > LONG and position % 16:
                continue
            choices = [tuple(waiting), tuple(waiting[:-1]), tuple(waiting[-1:])]
            choices += [
                tuple(item for item in waiting if rng.random() < 0.5)
                for _ in range(rounds)
            ]
        else:
            for item in waiting:
                offset, data = log[item][1:]
                base[offset : offset + len(data)] = data
            waiting, flushed, choices = [], position + 1, [()]
        for choice in choices:
            if (flushed, choice) not in seen:
                seen.add((flushed, choice))
                yield position + 1, base, choice


def written_chunks(base: bytes, log: list[tuple[bytes, int, bytes]]) -> set[int]:
    """Return the chunks that are not zero, or that the log writes; the rest are holes.

    A crash image is then a sparse file: mostly holes, so that thousands fit a minute.
    """
    empty = bytes(CHUNK_BYTES)
    starts = range(0, len(base), CHUNK_BYTES)
    live = {
        start // CHUNK_BYTES
        for start in starts
        if base[start : start + CHUNK_BYTES] != empty
    }
    for kind, offset, data in log:
        if kind == b"W":
            last = (offset + len(data) - 1) // CHUNK_BYTES
            live.update(range(offset // CHUNK_BYTES, last + 1))
    return live


def main(arguments: list[str]) -> int:
    """Run one filesystem and print the counts; return 1 if an image was bad."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
    parser.description = __doc__
    parser.add_argument(
        "scratch", metavar="SCRATCH", type=Path, help="a folder, emptied first"
    )
    parser.add_argument("kind", choices=sorted(MAKE))
    parser.add_argument(
        "random",
        metavar="RANDOM",
        type=int,
        nargs="?",
        default=4,
        help="random choices of unflushed writes at each write (4)",
    )
    parser.add_argument(
        "most",
        metavar="MAX",
        type=int,
        nargs="?",
        default=100_000,
        help="images to judge, at most, evenly chosen (100000)",
    )
    parser.add_argument(
        "lives",
        metavar="LIVES",
        type=int,
        nargs="?",
        default=1,
        choices=range(1, 21),
        help="updates with a commit and one with a rollback, this often each (1)",
    )
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("mfusepy") is None:
        parser.error("mfusepy is not installed")
    return replay(
        options.scratch, options.kind, options.random, options.most, options.lives
    )


def replay(scratch: Path, kind: str, rounds: int, most: int, lives: int) -> int:
    """Judge every crash image of one filesystem; return 1 if one was bad."""
    began_s = time.perf_counter()
    bench = Bench(scratch, kind)
    start, marks, end = record_workload(bench, lives)
    log = entries(bench)[:end]
    flushes = sum(item[0] == b"F" for item in log)
    base = bytearray((bench.scratch / "base").read_bytes())
    live = written_chunks(base, log)
    target = bench.scratch / "cut"
    bad: list[str] = []
    count = 0
    possible = sum(1 for _ in images(log, bytearray(base), rounds))
    stride = -(-possible // most)
    for index, (position, durable, extra) in enumerate(images(log, base, rounds)):
        if index % stride:
            continue
        count += 1
        with target.open("wb") as file:
            file.truncate(len(durable))
            for chunk in sorted(live):
                file.seek(chunk * CHUNK_BYTES)
                file.write(durable[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES])
            for item in extra:
                file.seek(log[item][1])
                file.write(log[item][2])
        told = [reported for mark, reported in marks if mark <= position]
        try:
            bench.mount(target, "-o", "loop")
            try:
                judge(bench.mounted / "model", told[-1] if told else start)
            finally:
                bench.unmount()
        except (
            AssertionError,
            ContinuonError,
            OSError,
            subprocess.CalledProcessError,
        ) as error:
            bad.append(f"{position} {extra}: {type(error).__name__}: {error}")
    writes = len(log) - flushes
    took_s = time.perf_counter() - began_s
    for text in bad[:10]:
        print("BAD", text)
    print(
        f"powerloss {kind}: {writes} sectors, {flushes} flushes, {count} images "
        f"of {possible}, {len(bad)} bad, {took_s:.0f} s"
    )
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
