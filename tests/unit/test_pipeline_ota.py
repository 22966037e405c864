"""Phase 9: a trial that only missed periods is tried once more, and no other is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from continuon.ota.gate import Miss
from continuon.pipeline.phases import ota

ROBOT = SimpleNamespace(control=None, guard=None, state_names=("speed_mps",))


def _report(*figures):
    misses = tuple(Miss(figure, 1.0, "at most 0") for figure in figures)
    return SimpleNamespace(
        committed=not misses, health=SimpleNamespace(misses=misses, passed=not misses)
    )


@pytest.fixture
def swap(monkeypatch):
    calls, answers = [], []

    def fake(control, guard, updater, **more):
        calls.append(more)
        return answers.pop(0)

    monkeypatch.setattr(ota, "hot_swap_update", fake)
    return SimpleNamespace(calls=calls, answers=answers)


def _update(notes):
    return ota._update(ROBOT, None, notes, again=Path("bundle"))


def test_a_trial_that_passes_is_not_repeated(swap):
    swap.answers.append(_report())
    assert _update([]).committed
    assert len(swap.calls) == 1


def test_missed_periods_alone_are_tried_once_more_and_said(swap):
    swap.answers += [_report("missed_periods"), _report()]
    notes = []
    assert _update(notes).committed
    assert swap.calls[1]["retry"] is True
    assert "tried once more" in notes[0]


def test_a_second_miss_is_final(swap):
    swap.answers += [_report("missed_periods"), _report("missed_periods")]
    assert not _update([]).committed
    assert len(swap.calls) == 2


@pytest.mark.parametrize("figures", [("latency_p99_ms",), ("missed_periods", "ticks")])
def test_any_other_miss_is_final_at_once(swap, figures):
    swap.answers.append(_report(*figures))
    assert not _update([]).committed
    assert len(swap.calls) == 1
