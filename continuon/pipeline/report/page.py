"""The page: a strip of ten gates, then what a person would rather look at than read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from continuon.durable import replace_file
from continuon.errors import DataError
from continuon.pipeline.gates import Verdict, load_gates
from continuon.pipeline.phase import PHASES
from continuon.pipeline.receipt import Receipt, read_receipt
from continuon.pipeline.report.svg import Series, histogram, line_chart, track_plot
from continuon.pipeline.upstream import stale_reasons

__all__ = ["build_report"]

ORIGINS = {
    "simulated": (
        "Simulated: every figure below comes from the simulated rig. No robot "
        "moved and no real camera looked."
    ),
    "imported": (
        "Imported: the episodes are somebody's real recording, imported as it is. The "
        "control loop ran on the simulated rig with recorded frames replayed."
    ),
    "real": "Real: recorded from, trained for and run on the robot itself.",
    "synthetic": "Synthetic: made-up data. Nothing here speaks about a robot.",
    "replayed": "Replayed: recorded frames were shown to the policy again.",
}


def build_report(reports: Path, output: Path) -> Path:
    """Write one self-contained HTML page from the receipts and figures in `reports`.

    Raises:
        DataError: no phase has left a receipt there.
    """
    receipts = [
        receipt
        for number, name in enumerate(PHASES, start=1)
        if (receipt := read_receipt(reports / "receipts" / f"{number:02d}-{name}.json"))
    ]
    if not receipts:
        raise DataError(
            "E-PIPE-REPORT-001",
            "there is nothing to report: no phase has left a receipt",
            where=reports,
            hint="run `continuon pipeline run`",
        )
    css = (files("continuon") / "pipeline" / "report" / "style.css").read_text("utf-8")
    origin = _origin(receipts)
    stale = stale_reasons({receipt.name: receipt for receipt in receipts})
    body = [
        "<h1>continuon pipeline report</h1>",
        _origin_line(origin),
        _summary(receipts, stale),
        _strip(receipts, stale),
        _driving(_load(reports / "drive.json")),
        _steering(_load(reports / "evaluation.json")),
        _learning(_load(reports / "loss.json")),
        _loop(_load(reports / "ota.json")),
        _sizes(_load(reports / "sizes.json")),
        _times(receipts),
        _notes(receipts),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>continuon report ({escape(origin)})</title><style>{css}</style>"
        f"</head><body><main>{''.join(body)}</main></body></html>"
    )
    replace_file(output, page.encode())
    return output


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None


def _origin(receipts: Sequence[Receipt]) -> str:
    """Return the learning data's origin: that of phase 3, else of the last receipt."""
    for receipt in receipts:
        if receipt.name == "capture":
            return receipt.origin
    return receipts[-1].origin


def _origin_line(origin: str) -> str:
    words = escape(ORIGINS.get(origin, "Origin unknown."))
    return f'<p><span class="origin">{escape(origin)}</span> {words}</p>'


def _summary(receipts: Sequence[Receipt], stale: Mapping[str, str]) -> str:
    passed = sum(
        receipt.verdict is Verdict.PASSED and receipt.name not in stale
        for receipt in receipts
    )
    seconds = sum(receipt.duration_s for receipt in receipts)
    host = receipts[-1].host
    return (
        f'<p class="soft">{passed} of 10 gates passed in {seconds:.0f} s of work on '
        f"{escape(str(host.get('cpus')))} cores ({escape(str(host.get('machine')))}, "
        f"Python {escape(str(host.get('python')))}, "
        f"continuon {escape(str(host.get('continuon')))}).</p>"
    )


def _strip(receipts: Sequence[Receipt], stale: Mapping[str, str]) -> str:
    done = {receipt.name: receipt for receipt in receipts}
    cells = []
    for gate in load_gates():
        receipt = done.get(gate.name)
        if receipt is None:
            cells.append(
                f'<div class="gate"><b>{gate.number} {escape(gate.title)}</b>'
                '<span class="soft">not run</span></div>'
            )
            continue
        rows = "".join(
            f"<tr><td>{_breakable(check.figure)}</td>"
            f"<td>{escape(_value(check.measured))}</td></tr>"
            for check in receipt.checks
            if check.verdict is not Verdict.SKIPPED
        )
        error = escape(str(receipt.error["what"])) if receipt.error else ""
        verdict = str(receipt.verdict)
        if gate.name in stale:
            verdict, error = "stale", f"{escape(stale[gate.name])}: run it again"
        cells.append(
            f'<div class="gate {verdict}"><b>{gate.number} '
            f'{escape(gate.title)}</b><span class="v">{verdict}</span> '
            f'<span class="soft">{escape(receipt.origin)}</span>'
            f"<table>{rows}</table>{error}</div>"
        )
    return f'<div class="strip">{"".join(cells)}</div>'


def _breakable(name: str) -> str:
    """Return a figure's name that may break after each underscore."""
    return escape(name).replace("_", "_<wbr>")


def _driving(drive: Any) -> str:
    if not drive:
        return ""
    plots = []
    for track in drive["tracks"]:
        paths = [
            (f"before: {run['distance_m']:.1f} m", "b", run["path"])
            for run in track["before"]
        ] + [
            (f"after: {run['distance_m']:.1f} m", "a", run["path"])
            for run in track["after"]
        ]
        plots.append(
            f"<figure>{track_plot((track['left'], track['right']), paths)}"
            f"<figcaption>held-out track {track['seed']}</figcaption></figure>"
        )
    rows = "".join(
        f"<tr><th>{name}</th><td>{_spread(drive[key]['distance_m'])}</td>"
        f"<td>{_spread(drive[key]['lateral_error_m'])}</td>"
        f"<td>{drive[key]['stayed']} of {drive['starts']}</td></tr>"
        for name, key in (("seed policy", "before"), ("deployed policy", "after"))
    )
    return (
        "<h2>Driven, before and after</h2>"
        f"<p>On tracks that it never saw, the deployed policy drove "
        f"<b>{drive['distance_ratio']:.1f} times</b> as far as the seed before leaving "
        "the lane (mean and spread over "
        f"{drive['starts']} starts; a run ends after {drive['limit_laps']:g} laps). "
        "Orange is the seed, blue what was deployed; a cross marks the end.</p>"
        '<table class="facts"><tr><th></th><th>distance, m</th>'
        f"<th>lateral error, m</th><th>stayed to the end</th></tr>{rows}</table>"
        f'<div class="row" style="margin-top:12px">{"".join(plots)}</div>'
    )


def _steering(evaluation: Any) -> str:
    if not evaluation:
        return ""
    series = evaluation["series"]
    chart = line_chart(
        [
            Series("human", series["time_s"], series["human"], "human"),
            Series("policy", series["time_s"], series["predicted"], "a"),
        ],
        x_label="held-out time, s",
        y_label="steering (right +)",
    )
    frames = "".join(
        f'<figure><img alt="frame" src="data:image/jpeg;base64,{frame["jpeg"]}">'
        f"{_dial(frame['human'], frame['predicted'])}"
        f"<figcaption>driver {frame['human']:+.2f}, policy {frame['predicted']:+.2f}"
        "</figcaption></figure>"
        for frame in evaluation["frames"]
    )
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{_value(row['mae'])}</td>"
        f"<td>{_value(row['sign_accuracy'])}</td></tr>"
        for name, row in evaluation["scores"].items()
    )
    return (
        "<h2>Steering on held-out episodes</h2>"
        '<table class="facts"><tr><th></th><th>mean absolute error</th>'
        f"<th>sign accuracy</th></tr>{rows}</table>"
        f'<figure class="wide">{chart}<figcaption>The policy never saw these '
        "episodes and is never shown the action it has to predict.</figcaption>"
        "</figure>"
        f'<div class="frames">{frames}</div>'
    )


def _dial(human: float, predicted: float) -> str:
    def needle(value: float, style: str) -> str:
        x = 50 + 46 * max(-1.0, min(1.0, value))
        return f'<path class="line {style}" stroke-width="3" d="M{x:.1f} 2V12"/>'

    return (
        '<svg viewBox="0 0 100 14"><path class="axis" d="M4 7H96M50 4V10"/>'
        f"{needle(human, 'human')}{needle(predicted, 'a')}</svg>"
    )


def _learning(loss: Any) -> str:
    if not loss:
        return ""
    lines = [
        Series("training loss", loss["step"], loss["loss"], "a"),
    ]
    if loss.get("held_out_step"):
        lines.append(
            Series("held-out loss", loss["held_out_step"], loss["held_out"], "b")
        )
    return (
        "<h2>Learning</h2><figure>"
        f"{line_chart(lines, x_label='step', y_label='loss', log_y=True)}</figure>"
    )


def _loop(ota: Any) -> str:
    if not ota:
        return ""
    late_ms = [value / 1000 for value in ota["lateness_us"]]
    swap = ota.get("swap_ticks", [])
    marked = [late_ms[tick] for tick in swap if 0 <= tick < len(late_ms)]
    return (
        "<h2>The control loop while the policy was swapped</h2><figure>"
        + histogram(
            late_ms,
            marked=marked,
            limit=ota["period_ms"],
            x_label="lateness of a control tick, ms",
        )
        + f"<figcaption>{len(late_ms)} ticks at {ota['rate_hz']:.0f} Hz; the swap was "
        f"at tick {', '.join(str(tick) for tick in swap) or 'none'}; scheduling "
        f"{escape(str(ota.get('scheduling', 'unknown')))}.</figcaption></figure>"
    )


def _sizes(sizes: Any) -> str:
    if not sizes:
        return ""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{count:,} bytes</td></tr>"
        for name, count in sizes.items()
    )
    return f'<h2>Sizes</h2><table class="facts">{rows}</table>'


def _times(receipts: Sequence[Receipt]) -> str:
    rows = "".join(
        f"<tr><th>{r.phase} {escape(r.name)}</th><td>{r.duration_s:.1f} s</td>"
        f"<td>{r.peak_memory_bytes / 2**20:.0f} MiB</td>"
        f"<td>{escape(r.origin)}</td></tr>"
        for r in receipts
    )
    return (
        '<h2>Time and memory</h2><table class="facts"><tr><th>phase</th><th>time</th>'
        f"<th>peak memory</th><th>origin</th></tr>{rows}</table>"
    )


def _notes(receipts: Sequence[Receipt]) -> str:
    notes = [
        f"<li>{escape(receipt.name)}: {escape(note)}</li>"
        for receipt in receipts
        for note in receipt.notes
    ]
    return f"<h2>Notes</h2><ul>{''.join(notes)}</ul>" if notes else ""


def _value(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "x".join(_value(item) for item in value)
    return str(value)


def _spread(row: Mapping[str, float]) -> str:
    return f"{row['mean']:.2f} ± {row['std']:.2f}"
