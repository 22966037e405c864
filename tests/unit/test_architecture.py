"""The house's rules: who may import whom, and what stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import continuon

PACKAGE = Path(continuon.__file__).parent
EVERYWHERE = {
    "errors",
    "clock",
    "durable",
    "home",
    "adapter_record",
    "tensorfile",
    "instruction",
    "environment",
    "parent",
    "testing",
}
CORE = {"rlds", "hope", "bundle"}
MAY_IMPORT = {
    "rlds": set(),
    "hope": set(),
    "bundle": set(),
    "edge": set(),
    "rig": set(),
    "learn": {"rlds", "hope"},
    "export": {"hope", "edge"},  # parity is judged by the robot's own backends
    "ota": {"bundle"},
    "sim": {"rig"},
    "health": {"rig"},
    "robot": {"rlds", "edge", "ota", "rig", "health", "bundle"},
    "evals": {"rlds"},
    "knowledge": {"rlds"},
}
HEAVY = {"jax", "flax", "optax", "tensorflow", "pandera", "polars", "rich", "cyclopts"}


def _imports(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "continuon":
                names = [f"continuon.{alias.name}" for alias in node.names]
        rooms |= {n.split(".")[1] for n in names if n.startswith("continuon.")}
    return rooms


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_no_arrow_runs_back_in_the_table_of_imports(room):
    allowed = MAY_IMPORT[room] | EVERYWHERE | {room, "_specs"}
    for path in (PACKAGE / room).rglob("*.py"):
        foreign = _imports(path) - allowed
        assert not foreign, f"{path.relative_to(PACKAGE)} imports {sorted(foreign)}"


def test_the_command_line_and_the_pipeline_are_imported_by_nobody_below():
    for room in MAY_IMPORT:
        for path in (PACKAGE / room).rglob("*.py"):
            assert not _imports(path) & {"cli", "pipeline"}


def _loaded(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in out.stdout.splitlines()[-1].split()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "import continuon",
        "from continuon.cli.program import run; run(['--help'])",
        "import continuon.pipeline",
    ],
)
def test_a_light_import_stays_light(statement):
    assert not _loaded(statement) & HEAVY


@pytest.mark.slow
@pytest.mark.parametrize("room", ["robot", "edge", "rig", "sim", "ota", "bundle"])
def test_what_runs_on_the_robot_never_imports_jax(room):
    assert not _loaded(f"import continuon.{room}") & {"jax", "flax", "tensorflow"}


def test_no_file_is_longer_than_four_hundred_lines():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 400, path


@pytest.mark.slow
@pytest.mark.parametrize(
    "phase", ["health", "boot", "capture", "tfrecord", "bundle", "ota", "validate"]
)
def test_a_phase_of_the_edge_family_needs_no_jax(phase):
    assert not _loaded(f"import continuon.pipeline.phases.{phase}") & {"jax", "flax"}
