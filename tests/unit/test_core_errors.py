"""Errors say what, where, seen, allowed and the next step; clocks never go back."""

from __future__ import annotations

import pytest

from continuon.clock import ClockOffset, ManualClock, SystemClock
from continuon.errors import (
    ContinuonError,
    ContractError,
    DataError,
    GateMissedError,
    HardwareError,
    MissingPackageError,
    TrustError,
    UsageError,
)
from continuon.home import DEFAULT_ROOT, Home


def test_an_error_is_one_line_with_code_first_and_place_last():
    error = DataError(
        "E-X-Y-001", "a thing is wrong", where="/a/b", seen=3, allowed="1", hint="do z"
    )
    text = str(error)
    assert text == (
        "E-X-Y-001: a thing is wrong; seen 3; allowed 1; next: do z; at /a/b"
    )
    assert "\n" not in text


def test_an_error_for_machines_leaves_out_what_is_unknown():
    facts = ContractError("E-X-Y-002", "odd").as_dict()
    assert facts == {
        "code": "E-X-Y-002",
        "family": "contract",
        "what": "odd",
        "exit_code": 1,
    }


@pytest.mark.parametrize(
    ("kind", "code", "builtin"),
    [
        (DataError, 1, ValueError),
        (UsageError, 2, ValueError),
        (GateMissedError, 3, Exception),
        (HardwareError, 4, OSError),
        (TrustError, 5, Exception),
    ],
)
def test_each_family_has_its_exit_code_and_its_builtin(kind, code, builtin):
    error = kind("E-A-B-001", "x")
    assert error.exit_code == code
    assert isinstance(error, builtin)
    assert isinstance(error, ContinuonError)
    assert kind("E-A-B-001", "x", exit_code=9).exit_code == 9


def test_a_missing_package_names_the_line_that_installs_it():
    error = MissingPackageError.for_extra("jax", "train", purpose="training")
    assert "pip install 'continuon[train]'" in str(error)
    assert isinstance(error, ImportError)


def test_a_very_long_value_is_shortened_in_the_message_only():
    error = DataError("E-A-B-002", "x", seen="y" * 1000)
    assert len(str(error)) < 300
    assert len(error.as_dict()["seen"]) == 1000


def test_a_manual_clock_moves_only_forward():
    clock = ManualClock(now_ns=5, wall_offset_ns=10)
    clock.sleep_until_ns(3)
    assert clock.monotonic_ns() == 5
    clock.sleep_until_ns(9)
    assert (clock.monotonic_ns(), clock.wall_ns()) == (9, 19)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance_ns(-1)


def test_the_system_clock_returns_at_once_from_a_past_deadline():
    clock = SystemClock()
    clock.sleep_until_ns(clock.monotonic_ns() - 1)
    assert clock.wall_ns() > 0


def test_an_offset_maps_a_device_stamp_to_the_host():
    offset = ClockOffset(
        device="camera", offset_ns=-7, uncertainty_ns=2, measured_at_ns=0
    )
    assert offset.to_host_ns(100) == 93


def test_the_home_is_the_default_one_unless_the_environment_names_another(tmp_path):
    assert Home.from_environment({}).root == DEFAULT_ROOT
    assert Home.from_environment({"CONTINUON_HOME": ""}).root == DEFAULT_ROOT
    home = Home.from_environment({"CONTINUON_HOME": str(tmp_path)})
    assert home.episodes == tmp_path / "rlds" / "episodes"
    assert list(tmp_path.iterdir()) == []
