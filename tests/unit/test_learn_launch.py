"""Launch specs are values: the same command in both, nothing started."""

from __future__ import annotations

import json
import shlex

import pytest

from continuon.cli.program import run
from continuon.errors import ContractError
from continuon.learn.launch import LaunchPlan, job_set, queued_resource

PLAN = LaunchPlan(name="hope-1", data_path="gs://b/tf", output_dir="gs://b/out dir")


@pytest.mark.req("R-LEARN-70")
def test_both_specs_run_the_same_command():
    node = queued_resource(PLAN)["tpu"]["nodeSpec"][0]["node"]
    script = node["metadata"]["startup-script"].splitlines()[1]
    (job,) = job_set(PLAN)["spec"]["replicatedJobs"]
    job = job["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert shlex.split(script) == container["command"] == list(PLAN.command())
    assert job["parallelism"] == job["completions"] == 4
    assert container["resources"]["limits"]["google.com/tpu"] == 4


@pytest.mark.req("R-LEARN-70")
def test_the_command_is_one_that_the_program_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run([*PLAN.command()[1:], "--show-config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["mode"]["value"] == "tpu"
    assert shown["output_dir"]["value"] == "gs://b/out dir"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"name": "Hope 1"}, "E-LEARN-LAUNCH-001"),
        ({"data_path": "/data"}, "E-LEARN-LAUNCH-002"),
        ({"topology": "3x3"}, "E-LEARN-LAUNCH-003"),
    ],
)
def test_what_cannot_run_is_refused(change, code):
    facts = {"name": "a", "data_path": "gs://b", "output_dir": "gs://b/o", **change}
    with pytest.raises(ContractError, match=code):
        job_set(LaunchPlan(**facts))


@pytest.mark.req("R-LEARN-70")
def test_the_program_prints_the_specs(capsys):
    words = ["train", "launch", "--name", "a", "--data-path", "gs://b"]
    assert run([*words, "--output-dir", "gs://b/o", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"queued_resource", "job_set"}
