"""What a person waits for: `import continuon` and `--help` beside a bare Python."""

from __future__ import annotations

import subprocess
import sys

import pytest

CASES = {
    "python-limit": "pass",
    "import": "import continuon",
    "help": "from continuon.cli.program import run; run(['--help'])",
    "command-help": "from continuon.cli.program import run; run(['bundle','verify','-h'])",
}


@pytest.mark.parametrize("case", CASES)
def test_startup(benchmark, case):
    benchmark.name, benchmark.group = f"startup/{case}/process", "startup/process"

    def start():
        return subprocess.run(
            [sys.executable, "-c", CASES[case]], capture_output=True, check=True
        )

    done = benchmark.pedantic(start, rounds=20, warmup_rounds=2)
    assert done.stderr == b""
