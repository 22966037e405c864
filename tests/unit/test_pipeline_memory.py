"""Memory of a phase: all its processes together, and shared pages once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from continuon.pipeline.memory import tree_bytes, watch_tree

MIB = 2**20


def process(proc, pid, parent, *, anon=0, file=0, shmem=0, name="python"):
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(f"{pid} ({name}) S {parent} 1 1 0\n")
    (folder / "status").write_text(
        f"Name:\t{name}\nRssAnon:\t{anon} kB\nRssFile:\t{file} kB\n"
        f"RssShmem:\t{shmem} kB\nThreads:\t3\n"
    )


def test_children_of_children_add_up_and_shared_pages_count_once(tmp_path):
    process(tmp_path, 10, 1, anon=100, file=50)
    process(tmp_path, 11, 10, anon=30, file=60, shmem=5)
    process(tmp_path, 12, 11, anon=7, file=10, name="a) b (c")
    process(tmp_path, 13, 1, anon=10_000)
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\n")
    assert tree_bytes(10, tmp_path) == (100 + 30 + 7 + 65) * 1024


def test_a_process_that_is_gone_has_no_memory(tmp_path):
    process(tmp_path, 13, 1, anon=10_000)
    assert tree_bytes(10, tmp_path) == 0


@pytest.mark.slow
def test_what_a_child_holds_is_seen_while_it_lives():
    program = "import sys; kept = bytearray(64 << 20); print('held', flush=True); sys.stdin.read()"
    with watch_tree(os.getpid(), every_s=0.001) as peak:
        before = tree_bytes(os.getpid())
        with subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            child.stdout.read(1)
            now = tree_bytes(os.getpid())
            child.stdin.close()
    assert now - before >= 60 * MIB
    assert peak.bytes >= before
