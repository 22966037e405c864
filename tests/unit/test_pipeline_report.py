"""The report: one page, from receipts and figures alone; what is missing says so."""

from __future__ import annotations

import json
import re

import attrs
import pytest

from continuon.errors import DataError
from continuon.pipeline.gates import Verdict, load_gates
from continuon.pipeline.receipt import Receipt, host_facts, write_receipt
from continuon.pipeline.report import build_report
from continuon.pipeline.report.svg import Series, histogram, line_chart, track_plot

RING = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)]


def _receipt(number, name, origin="simulated", **figures):
    gate = load_gates()[number - 1]
    verdict, checks = gate.check(figures, origin=origin)
    return Receipt(
        phase=number,
        name=name,
        verdict=verdict,
        origin=origin,
        inputs={},
        outputs={},
        figures=figures,
        checks=checks,
        host=host_facts(),
        started_unix_ms=0,
        duration_s=1.0,
        peak_memory_bytes=2**20,
        notes=("a <note>",),
    )


@pytest.fixture
def reports(tmp_path):
    write_receipt(
        tmp_path / "receipts" / "03-capture.json",
        _receipt(3, "capture", "imported", episodes=3, depth_size="absent"),
    )
    return tmp_path


def test_a_page_needs_at_least_one_receipt(tmp_path):
    with pytest.raises(DataError, match="E-PIPE-REPORT-001"):
        build_report(tmp_path, tmp_path / "r.html")


@pytest.mark.req("R-RECEIPT-09")
def test_a_stale_receipt_is_called_so_and_not_counted_as_passed(reports):
    for number, name in ((3, "capture"), (6, "tfrecord")):
        passed = attrs.evolve(
            _receipt(number, name),
            verdict=Verdict.PASSED,
            inputs={"episodes": "old"},
            outputs={"rlds/episodes": "new"},
        )
        write_receipt(reports / "receipts" / f"{number:02d}-{name}.json", passed)
    page = build_report(reports, reports / "r.html").read_text()
    assert "1 of 10 gates passed" in page
    assert 'class="gate stale"' in page
    assert "phase capture left something else since" in page


def test_the_page_says_the_origin_in_plain_words_and_escapes_notes(reports):
    page = build_report(reports, reports / "r.html").read_text()
    assert "somebody's real recording" in page.replace("&#x27;", "'")
    assert "a &lt;note&gt;" in page
    assert page.count('class="gate') == 10
    assert "not run" in page


def test_the_page_is_self_contained(reports):
    page = build_report(reports, reports / "r.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_frames_and_paths_are_drawn_from_the_figures(reports):
    drive = {
        "starts": 1,
        "limit_laps": 1.5,
        "distance_ratio": 7.0,
        "before": {
            k: {"mean": 1.0, "std": 0.1} for k in ("distance_m", "lateral_error_m")
        }
        | {"stayed": 0},
        "after": {
            k: {"mean": 7.0, "std": 0.1} for k in ("distance_m", "lateral_error_m")
        }
        | {"stayed": 1},
        "tracks": [
            {
                "seed": 5,
                "left": RING,
                "right": RING,
                "before": [{"distance_m": 1.0, "path": RING}],
                "after": [{"distance_m": 7.0, "path": RING}],
            }
        ],
    }
    (reports / "drive.json").write_text(json.dumps(drive))
    page = build_report(reports, reports / "r.html").read_text()
    assert "7.0 times" in page
    assert "held-out track 5" in page


def test_nothing_to_plot_is_said_and_not_drawn():
    nan = float("nan")
    assert "not measured" in line_chart(
        [Series("a", [nan], [nan], "a")], x_label="x", y_label="y"
    )
    assert "not measured" in histogram([nan], x_label="ms")


def test_every_value_of_a_histogram_is_counted_once():
    values = [0.001, 0.1, 0.1, 5.0, 30.0]
    svg = histogram(values, marked=[0.1], limit=20.0, x_label="ms", bins=10)
    assert svg.count('class="bar"') == 4
    assert "swap" in svg
    assert "one period" in svg


def test_a_path_begins_with_a_dot_and_ends_with_a_cross():
    svg = track_plot((RING, RING), [("run", "a", RING)])
    assert svg.count("<circle") == 1
    assert "l8 8m0 -8l-8 8" in svg


def test_swaps_that_lie_close_together_share_one_word():
    drawn = histogram([0.1, 0.2, 0.3], marked=[0.11, 0.1], limit=20.0, x_label="ms")
    assert drawn.count(">swaps<") == 1
    assert drawn.count('class="mark"') >= 2
