"""Validation: a legal episode passes, each named mutation gets its code."""

import json

import msgspec
import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon._specs.episode.mutations import MUTATIONS
from continuon._specs.episode.plan_mutations import PLAN_MUTATIONS
from continuon.errors import ContractError, UsageError
from continuon.rlds.findings import RULES, Severity, severity_of
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import align
from continuon.rlds.validate import validate_recording


@pytest.mark.req("R-EPISODE-33")
@pytest.mark.parametrize("profile", ["strict", "lenient"])
def test_a_legal_episode_has_neither_errors_nor_warnings(tmp_path, profile):
    report = validate_recording(write_draft(legal_draft(), tmp_path), profile=profile)
    assert (report.errors, report.warnings) == ((), ())
    assert report.ok


@pytest.mark.req("R-EPISODE-33")
@pytest.mark.parametrize("name", MUTATIONS)
def test_each_named_mutation_gets_its_code(tmp_path, name):
    change, code = MUTATIONS[name]
    path = write_draft(change(legal_draft()), tmp_path)
    report = validate_recording(path)
    found = {finding.code for finding in report.errors + report.warnings}
    assert code in found
    errors = {finding.code for finding in report.errors}
    assert (code in errors) == (severity_of(code, "strict") is Severity.ERROR)
    assert report.ok == (not errors)
    # The robot's recorder sends it so: an empty stream was once a figure.
    assert msgspec.json.decode(msgspec.json.encode(report.as_dict()))["ok"] == report.ok


@pytest.mark.req("R-EPISODE-30")
def test_every_rule_has_a_named_mutation():
    named = {code for _, code in MUTATIONS.values()}
    named |= {f"E-EPISODE-{code}" for _, code in PLAN_MUTATIONS.values()}
    assert named == set(RULES)


@pytest.mark.req("R-EPISODE-33")
@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("the file's end is lost", set()),
        ("camera's stamps 8 ms from where its clock says", set()),
        ("depth kept as JPEG", set()),
        ("one step of 24 masked", {"E-EPISODE-STATE-001"}),
        ("steps of the plan that are cut", set()),
    ],
)
def test_a_small_mutation_gets_its_code_and_no_other(tmp_path, name, others):
    change, code = MUTATIONS[name]
    report = validate_recording(write_draft(change(legal_draft()), tmp_path))
    assert {f.code for f in report.errors + report.warnings} == {code, *others}


@pytest.mark.req("R-EPISODE-30")
def test_lenient_never_finds_more_errors_than_strict():
    for strict, lenient, _ in RULES.values():
        assert not (lenient is Severity.ERROR and strict is Severity.WARNING)


@pytest.mark.req("R-EPISODE-21")
def test_figures_tell_rates_sizes_and_both_kinds_of_skew(tmp_path):
    figures = validate_recording(write_draft(legal_draft(12), tmp_path)).figures
    assert figures["steps"] == 12
    assert figures["rgb_rate_hz"] == pytest.approx(30.0, abs=0.1)
    assert figures["action_rate_hz"] == pytest.approx(50.0, abs=0.1)
    assert figures["rgb_size"] == figures["depth_size"] == [16, 12]
    assert figures["skew_ms"]["rgb-depth"]["p99"] == pytest.approx(0.9)
    assert figures["skew_ms"]["rgb-state"]["max"] == pytest.approx(0.2)
    assert figures["nearest_ms"]["rgb-state"]["max"] > 3
    assert 0 <= figures["action_age_ms"]["max"] < 20
    assert figures["stamp_source"] == "capture"


@pytest.mark.req("R-EPISODE-31")
def test_a_torn_file_is_one_error_in_the_report(tmp_path):
    path = write_draft(legal_draft(), tmp_path)
    path.write_bytes(path.read_bytes()[:-50])
    report = validate_recording(path)
    assert [finding.code for finding in report.errors] == ["E-EPISODE-OPEN-001"]
    assert "recover" in report.errors[0].text
    assert report.origin == "unknown"


def test_a_report_is_plain_json(tmp_path):
    report = validate_recording(write_draft(legal_draft(), tmp_path))
    assert json.loads(json.dumps(report.as_dict()))["ok"] is True


def test_an_unknown_profile_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="E-EPISODE-PROFILE-001"):
        validate_recording(tmp_path / "x.mcap", profile="loose")


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-33")
def test_the_column_contract_accepts_a_legal_episode_and_names_a_bad_column(tmp_path):
    pytest.importorskip("pandera")
    from continuon._specs.episode.contracts import check_steps

    steps = align(open_recording(write_draft(legal_draft(), tmp_path)))
    check_steps(steps)
    steps.action[2] = float("nan")
    with pytest.raises(ContractError, match="action_finite"):
        check_steps(steps)
