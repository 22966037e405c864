"""Plots as SVG text. Pure: numbers in, markup out; colours come from the page's CSS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import attrs

__all__ = ["Series", "histogram", "line_chart", "track_plot"]

FLOOR = 0.01
MARGIN_LEFT_PX, MARGIN_BOTTOM_PX, MARGIN_TOP_PX, MARGIN_RIGHT_PX = 64, 34, 12, 12


@attrs.frozen
class Series:
    """One line of a chart: equal numbers of x and y; `style` is a CSS class."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    style: str


@attrs.frozen
class _Axes:
    width: float
    height: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    log_y: bool = False
    log_x: bool = False

    def x(self, value: float) -> float:
        span = (self.x_high - self.x_low) or 1.0
        inner = self.width - MARGIN_LEFT_PX - MARGIN_RIGHT_PX
        return MARGIN_LEFT_PX + (value - self.x_low) / span * inner

    def y(self, value: float) -> float:
        low, high, at = self.y_low, self.y_high, value
        if self.log_y:
            low, high, at = (math.log10(max(v, 1e-12)) for v in (low, high, value))
        inner = self.height - MARGIN_TOP_PX - MARGIN_BOTTOM_PX
        share = (at - low) / ((high - low) or 1.0)
        return self.height - MARGIN_BOTTOM_PX - share * inner


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    width: int = 620,
    height: int = 240,
    log_y: bool = False,
) -> str:
    """Return a chart of lines with a legend and labelled axes."""
    xs = [v for line in series for v in line.x if math.isfinite(v)]
    ys = [v for line in series for v in line.y if math.isfinite(v)]
    if not xs or not ys:
        return '<p class="absent">not measured</p>'
    pad = 0.0 if log_y else 0.05 * ((max(ys) - min(ys)) or 1.0)
    axes = _Axes(
        width, height, min(xs), max(xs), min(ys) - pad, max(ys) + pad, log_y=log_y
    )
    body = [_frame(axes, x_label, y_label)]
    for line in series:
        points = " ".join(
            f"{axes.x(x):.1f},{axes.y(y):.1f}"
            for x, y in zip(line.x, line.y, strict=True)
            if math.isfinite(y)
        )
        body.append(f'<polyline class="line {line.style}" points="{points}"/>')
    body.append(_legend(series, width))
    return _svg(width, height, body)


def histogram(
    values: Sequence[float],
    *,
    marked: Sequence[float] = (),
    limit: float | None = None,
    x_label: str,
    bins: int = 60,
    width: int = 620,
    height: int = 220,
) -> str:
    """Return a histogram of positive values, both axes logarithmic.

    `marked` values (the swap's own ticks) are drawn as vertical lines over it, and
    `limit` as the budget's line. Values below a hundredth stand in the first bin.
    """
    finite = [max(v, FLOOR) for v in values if math.isfinite(v)]
    if not finite:
        return '<p class="absent">not measured</p>'
    places = [math.log10(v) for v in finite]
    marks = [math.log10(max(v, FLOOR)) for v in marked]
    edge = math.log10(limit) if limit else max(places)
    low, high = math.log10(FLOOR), max([*places, *marks, edge]) + 0.15
    step = (high - low) / bins
    counts = [0] * bins
    for place in places:
        counts[min(bins - 1, int((place - low) / step))] += 1
    axes = _Axes(
        width, height, low, high, 0.6, max(counts) * 1.6, log_y=True, log_x=True
    )
    body = [_frame(axes, x_label, "ticks")]
    floor = axes.y(0.6)
    for index, count in enumerate(counts):
        if count:
            x0, x1 = axes.x(low + index * step), axes.x(low + (index + 1) * step)
            y = axes.y(count)
            body.append(
                f'<rect class="bar" x="{x0:.1f}" y="{y:.1f}" '
                f'width="{max(0.8, x1 - x0 - 0.6):.1f}" height="{floor - y:.1f}"/>'
            )
    word = "swap" if len(marks) == 1 else "swaps"
    for index, place in enumerate(sorted(marks)):
        # One word for all: swaps lie so close that two would cover each other.
        body.append(_vertical(axes, place, "mark", "" if index else word))
    if limit is not None:
        body.append(_vertical(axes, edge, "limit", "one period"))
    return _svg(width, height, body)


def track_plot(
    lane: tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]]],
    paths: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    *,
    size: int = 300,
) -> str:
    """Return a plan view: the lane's two edges, then driven paths (label, style, xy).

    Points are metres in the world's plane; the aspect is kept. Each path begins with a
    dot and ends with a cross where the car stopped or left the lane.
    """
    points = [p for edge in lane for p in edge]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    span = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    scale = (size - 24) / span

    def place(point: tuple[float, float]) -> str:
        x = 12 + (point[0] - min(xs)) * scale
        y = size - 12 - (point[1] - min(ys)) * scale
        return f"{x:.1f},{y:.1f}"

    body = [
        f'<polygon class="edge" points="{" ".join(place(p) for p in edge)}"/>'
        for edge in lane
    ]
    for label, style, path in paths:
        if not path:
            continue
        line = " ".join(place(p) for p in path)
        x0, y0 = place(path[0]).split(",")
        x1, y1 = (float(v) for v in place(path[-1]).split(","))
        body.append(
            f'<polyline class="line {style}" points="{line}">'
            f"<title>{escape(label)}</title></polyline>"
            f'<circle class="dot {style}" cx="{x0}" cy="{y0}" r="3"/>'
            f'<path class="line {style}" d="M{x1 - 4:.1f} {y1 - 4:.1f}l8 8m0 -8l-8 8"/>'
        )
    return _svg(size, size, body)


def _frame(axes: _Axes, x_label: str, y_label: str) -> str:
    left, right = MARGIN_LEFT_PX, axes.width - MARGIN_RIGHT_PX
    top, bottom = MARGIN_TOP_PX, axes.height - MARGIN_BOTTOM_PX
    x_place = f'x="{(left + right) / 2:.0f}" y="{axes.height - 4}"'
    y_place = f'transform="translate(11 {(top + bottom) / 2:.0f}) rotate(-90)"'
    tick = '<text class="tick" text-anchor="middle"'
    out = [
        f'<path class="axis" d="M{left} {top}V{bottom}H{right}"/>',
        f"{tick} {x_place}>{escape(x_label)}</text>",
        f"{tick} {y_place}>{escape(y_label)}</text>",
    ]
    for value, label in _x_ticks(axes):
        out.append(
            f'<text class="tick" x="{axes.x(value):.0f}" y="{bottom + 14}" '
            f'text-anchor="middle">{label}</text>'
        )
    for value in _y_ticks(axes):
        y = axes.y(value)
        out.append(
            f'<path class="grid" d="M{left} {y:.1f}H{right}"/>'
            f'<text class="tick" x="{left - 5}" y="{y + 3:.1f}" '
            f'text-anchor="end">{value:.3g}</text>'
        )
    return "".join(out)


def _x_ticks(axes: _Axes) -> list[tuple[float, str]]:
    if axes.log_x:
        powers = range(math.ceil(axes.x_low), math.floor(axes.x_high) + 1)
        return [(float(power), f"{10.0**power:g}") for power in powers]
    return [(value, f"{value:g}") for value in _round_ticks(axes.x_low, axes.x_high)]


def _y_ticks(axes: _Axes) -> list[float]:
    if not axes.log_y:
        return _round_ticks(axes.y_low, axes.y_high)
    low, high = max(axes.y_low, 1e-12), max(axes.y_high, 1e-12)
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    ticks = [part * 10.0**power for power in powers for part in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def _round_ticks(low: float, high: float) -> list[float]:
    """Return about five round values within the range."""
    rough = (high - low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(part * power for part in (1, 2, 5, 10) if part * power >= rough)
    first = math.ceil(low / step)
    count = math.floor(high / step) - first + 1
    return [round((first + index) * step, 12) for index in range(count)]


def _legend(series: Sequence[Series], width: int) -> str:
    out, x = [], float(width - MARGIN_RIGHT_PX)
    for line in reversed(series):
        x -= 7.0 * len(line.label) + 26
        out.append(
            f'<path class="line {line.style}" d="M{x:.0f} 18h14"/>'
            f'<text class="tick" x="{x + 18:.0f}" y="21">{escape(line.label)}</text>'
        )
    return "".join(out)


def _vertical(axes: _Axes, value: float, style: str, label: str) -> str:
    x = axes.x(value)
    return (
        f'<path class="{style}" d="M{x:.1f} {MARGIN_TOP_PX}'
        f'V{axes.height - MARGIN_BOTTOM_PX}"/>'
        f'<text class="tick {style}" x="{x - 4:.1f}" y="{MARGIN_TOP_PX + 10}" '
        f'text-anchor="end">{escape(label)}</text>'
    )


def _svg(width: float, height: float, body: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img">{"".join(body)}</svg>'
