"""Safe stops, counted: `nox -s safety`; many runs with `-- --runs 100 --figures F`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

FIGURES = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--runs", type=int, default=2, help="seeded runs of each failure")
    parser.addoption("--seed", type=int, default=0, help="of the times of failing")
    parser.addoption("--figures", type=Path, help="write what was measured, as JSON")


@pytest.fixture
def figures(request):
    """A place to leave figures by failure."""
    return request.config.stash.setdefault(FIGURES, {})


def pytest_sessionfinish(session):
    path = session.config.getoption("--figures")
    figures = session.config.stash.get(FIGURES, {})
    if path is not None and figures:
        path.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")


def pytest_terminal_summary(terminalreporter, config):
    for name, row in sorted(config.stash.get(FIGURES, {}).items()):
        terminalreporter.write_line(
            f"{name:<28} {row['runs']:>4} runs  p50 {row['p50_ms']:7.1f} ms  "
            f"p99 {row['p99_ms']:7.1f} ms  worst {row['worst_ms']:7.1f} ms  "
            f"over {row['limit_ms']:g} ms: {row['over']}"
        )
