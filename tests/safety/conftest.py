"""Safe stops, counted: `nox -s safety`; many runs with `-- --runs 100 --figures F`.

Each run is a line of the figures file as soon as it is over, so that what was counted
stays counted when a long session is broken off, and several sessions add up. `python
tests/safety/conftest.py F` prints the table of a file.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

FIGURES = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--runs", type=int, default=2, help="seeded runs of each failure")
    parser.addoption("--seed", type=int, default=0, help="of the times of failing")
    parser.addoption("--figures", type=Path, help="append each run to this file")


class Ledger:
    """Every run, in memory and on disk."""

    def __init__(self, path):
        self.path, self.rows = path, []

    def add(self, name, took_ms, limit_ms, seed):
        row = {
            "name": name,
            "took_ms": round(took_ms, 3),
            "limit_ms": limit_ms,
            "seed": seed,
            "load": round(os.getloadavg()[0], 1),
        }
        self.rows.append(row)
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(row) + "\n")


def quantile(values, share):
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def table(rows):
    """Yield one line for each failure."""
    for name in sorted({row["name"] for row in rows}):
        mine = [row for row in rows if row["name"] == name]
        taken = [row["took_ms"] for row in mine]
        loads = [row["load"] for row in mine]
        limit_ms = mine[-1]["limit_ms"]
        yield (
            f"{name:<36} {len(taken):>4} runs  p50 {quantile(taken, 0.5):7.1f} "
            f"p99 {quantile(taken, 0.99):7.1f} worst {max(taken):7.1f} ms  "
            f"over {limit_ms:g} ms: {sum(one > limit_ms for one in taken)}  "
            f"load {min(loads):g} to {max(loads):g}"
        )


@pytest.fixture
def ledger(request):
    """Where each run is written down."""
    path = request.config.getoption("--figures")
    return request.config.stash.setdefault(FIGURES, Ledger(path))


def pytest_terminal_summary(terminalreporter, config):
    ledger = config.stash.get(FIGURES, None)
    for line in table(ledger.rows) if ledger is not None else ():
        terminalreporter.write_line(line)


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text().splitlines()
    print("\n".join(table([json.loads(line) for line in lines])))
