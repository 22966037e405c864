"""Every numbered requirement in specs/ is cited by at least one test."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _build():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs/build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_requirement_is_without_a_test():
    matrix = _build().requirements()
    assert "R-GATE-01" in matrix
    assert [number for number, tests in matrix.items() if not tests] == []
