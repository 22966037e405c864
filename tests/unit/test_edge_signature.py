"""Signatures whose state cannot be carried from tick to tick are refused."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from continuon.edge.signature import check_signatures
from continuon.edge.spec import PolicySpec, TensorSpec
from continuon.errors import DataError

SPEC = PolicySpec(
    name="hope",
    image_height=0,
    image_width=0,
    proprio=("speed_mps",),
    action=("steering",),
    use_previous_action=False,
    control_rate_hz=50.0,
    state={"tick": TensorSpec((), "int32")},
    config_digest="",
    checkpoint_sha256="",
    golden_sha256="",
    artifacts=(),
    parameters=1,
)
WHOLE = {
    "step": (
        {"proprio", "state/a", "state/b"},
        {"action", "surprise", "state/a", "log/k"},
    ),
    "fold": ({"state/a", "state/c", "log/k"}, {"state/b", "state/c"}),
    "every": (16, {16}),
}
PLAIN = {
    "step": ({"proprio", "state/tick"}, {"action", "surprise", "state/tick"}),
    "fold": (set(), set()),
    "every": (0, set()),
}


@pytest.mark.parametrize("parts", [WHOLE, PLAIN], ids=["with fold", "without"])
def test_signatures_that_fit_each_other_pass(parts):
    check_signatures(Path("p"), SPEC, **parts)


@pytest.mark.req("R-EDGE-04")
@pytest.mark.parametrize(
    ("parts", "changes"),
    [
        (WHOLE, {"every": (0, {16})}),
        (WHOLE, {"every": (8, {16})}),
        (WHOLE, {"every": (16, {16, 4})}),
        (WHOLE, {"every": (0, set())}),
        (WHOLE, {"fold": (WHOLE["fold"][0] - {"log/k"}, WHOLE["fold"][1])}),
        (WHOLE, {"fold": (WHOLE["fold"][0], WHOLE["fold"][1] - {"state/b"})}),
        (WHOLE, {"fold": (WHOLE["fold"][0] - {"state/c"}, WHOLE["fold"][1])}),
        (WHOLE, {"step": (WHOLE["step"][0] - {"proprio"}, WHOLE["step"][1])}),
        (WHOLE, {"step": (WHOLE["step"][0] | {"image"}, WHOLE["step"][1])}),
        (WHOLE, {"step": (WHOLE["step"][0], WHOLE["step"][1] - {"action"})}),
        (WHOLE, {"step": (WHOLE["step"][0], WHOLE["step"][1] | {"x"})}),
        (PLAIN, {"every": (16, set())}),
        (PLAIN, {"step": (PLAIN["step"][0] | {"state/a"}, PLAIN["step"][1])}),
    ],
)
def test_signatures_that_do_not_are_refused(parts, changes):
    with pytest.raises(DataError) as caught:
        check_signatures(Path("p"), SPEC, **{**parts, **changes})
    assert caught.value.code == "E-EDGE-LITERT-001"


def test_a_policy_that_wants_its_last_action_must_be_fed_it():
    spec = attrs.evolve(SPEC, use_previous_action=True)
    with pytest.raises(DataError):
        check_signatures(Path("p"), spec, **WHOLE)
