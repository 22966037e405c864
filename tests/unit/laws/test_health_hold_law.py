"""Levels held in time: never better than what was seen, and never flapping."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from continuon.clock import ManualClock
from continuon.health import Check, HealthReport, HealthWatch, Level
from continuon.health.hold import held
from continuon.health.levels import worst
from continuon.health.thresholds import SIGNALS, hold_ns, load_thresholds

HOLD_NS = 1_000
LOOKS = st.lists(
    st.tuples(st.integers(0, 2 * HOLD_NS), st.sampled_from(Level)), max_size=60
)


def shown(looks):
    """Return (time, level as measured, level as shown) for each look."""
    seen, now_ns, told = {}, 0, []
    for step_ns, level in looks:
        now_ns += step_ns
        seen, level_shown = held(seen, level, now_ns=now_ns, hold_ns=HOLD_NS)
        assert len(seen) <= len(Level)
        told.append((now_ns, level, level_shown))
    return told


@pytest.mark.req("R-HEALTH-14")
@given(LOOKS)
def test_what_is_shown_is_the_worst_that_was_seen_within_the_hold(looks):
    told = shown(looks)
    for index, (now_ns, _, level) in enumerate(told):
        recent = [m for at, m, _ in told[: index + 1] if now_ns - at < HOLD_NS]
        assert level is worst(recent)


@pytest.mark.req("R-HEALTH-14")
@given(LOOKS)
@example([(0, Level.WARN), (HOLD_NS, Level.OK), (0, Level.WARN)])
def test_a_level_once_shown_stays_for_the_hold_unless_a_worse_one_comes(looks):
    told = shown(looks)
    for index, ((_, _, before), (now_ns, _, after)) in enumerate(
        itertools.pairwise(told)
    ):
        if worst([before, after]) is before and before is not after:
            # a look at the same instant may come after this one
            last = [t for t, m, _ in told[: index + 1] if m is before]
            assert now_ns - max(last) >= HOLD_NS


@pytest.mark.req("R-HEALTH-14")
@given(st.integers(2, 30), st.integers(1, HOLD_NS - 1))
def test_a_figure_that_swings_about_its_limit_changes_the_level_once(swings, step_ns):
    levels = [Level.OK, Level.WARN] * swings
    told = [level for _, _, level in shown([(step_ns // 2, each) for each in levels])]
    changes = sum(a is not b for a, b in itertools.pairwise(told))
    assert changes == 1


@pytest.mark.req("R-HEALTH-14")
def test_every_signal_has_a_hold_and_the_battery_outlasts_a_sag():
    signals = SIGNALS - {"freshness", "hold"} | {"processes", "loop"}
    assert set(load_thresholds()["hold"]) == signals
    assert hold_ns("battery") >= 10 * 10**9
    with pytest.raises(KeyError):
        hold_ns("elbow")


@pytest.mark.req("R-HEALTH-14")
def test_a_watch_shows_the_sag_of_a_battery_until_it_stayed_away():
    clock, levels = ManualClock(10**9), [Level.OK]
    asked = []

    def look(last):
        asked.append(last)
        check = Check(name="battery", level=levels[-1], text="8.0 V", origin="real")
        return HealthReport(
            rig="r", origin="real", checks=(check,), measured_wall_ns=clock.wall_ns()
        )

    watch = HealthWatch(look, clock)
    told = []
    for second in range(60):
        levels.append(Level.WARN if second in (5, 7) else Level.OK)
        report, changes = watch.update()
        told.append(report.verdict)
        if second == 10:
            assert "OK now, WARN 3 s ago" in report.checks[0].text
        assert bool(changes) == (second == 0 or told[-1] is not told[-2])
        clock.advance_ns(10**9)
    assert told.index(Level.WARN) == 5
    assert told[5:37] == [Level.WARN] * 32
    assert told[37:] == [Level.OK] * 23
    # What is measured next is graded beside what was measured, not what was shown.
    assert [r.checks[0].level for r in asked[1:9]] == levels[1:9]
