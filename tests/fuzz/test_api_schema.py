"""The running service against its own OpenAPI document: `nox -s fuzz`.

Schemathesis makes requests that the document allows and ones that it does not. No answer
may be a server error or one that the document does not know, the loop ticks on, and no
output is driven that nobody started.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis
import pytest

from continuon.home import Home
from continuon.robot.client import running_or_started
from continuon.robot.endpoints import ENDPOINTS, openapi_document

schemathesis = pytest.importorskip(
    "schemathesis", reason="schemathesis has an environment of its own: nox -s fuzz"
)
EXAMPLES = hypothesis.settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
WAITS = {"/camera.jpg": 8}
"""Fewer examples where an answer may take a second."""


@pytest.fixture(scope="module")
def robot():
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        with running_or_started(home, "sim") as client:
            yield client


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize(
    "endpoint", ENDPOINTS, ids=lambda one: f"{one.method} {one.path}"
)
def test_every_answer_is_one_that_the_document_knows(robot, endpoint, mode):
    document = schemathesis.openapi.from_dict(openapi_document())
    operation = document[endpoint.path][endpoint.method]
    kind = schemathesis.GenerationMode(mode)
    headers = {"authorization": f"Bearer {robot._token}"}
    known = {
        int(status)
        for status in openapi_document()["paths"][endpoint.path][
            endpoint.method.lower()
        ]["responses"]
    }

    @hypothesis.settings(EXAMPLES, max_examples=WAITS.get(endpoint.path, 30))
    @hypothesis.given(case=operation.as_strategy(generation_mode=kind))
    def ask(case):
        url = f"http://127.0.0.1:{robot.port}"
        answer = case.call(base_url=url, headers=headers, timeout=20)
        # A path that a made-up parameter or method turns into another one is not there.
        assert answer.status_code in known | {404, 405}, answer.text

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:
        pytest.skip("the document leaves nothing to do wrong here")


def test_afterwards_the_loop_ticks_on_and_nothing_is_driven(robot):
    before = robot.ask("/status")
    assert before["guard"]["driving"] is False
    assert all(before["ready"].values())
    timing = robot.ask("/status")["timing"]
    assert timing["ticks"] > 50
    assert timing["non_finite"] == 0
