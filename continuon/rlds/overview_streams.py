"""A look at recordings without colour frames: every number over time, as it came.

Steps are made around frames, so what has none is drawn by stream: each at its own
times, all on one axis. The plan's steps have their commands and rewards drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from continuon.rlds.canvas import GLYPH_HEIGHT, Canvas
from continuon.rlds.overview import (
    INK,
    MARGIN,
    PAPER,
    PLOT_STEP,
    Plot,
    draw_plot,
    legend_width,
    spark_lines,
    split_plot,
)
from continuon.rlds.plan_record import holds_plan, plan_in
from continuon.rlds.recording import Recording

__all__ = ["stream_picture", "stream_plots", "stream_text"]

_POINTS, _WIDTH = 600, 1000


def stream_plots(recording: Recording) -> list[Plot]:
    """Return what is drawn: title, names, float64 [points, names]; NaN where unknown.

    Every plot has the same time axis, from the first to the last sample that is drawn;
    a point is the last sample at or before it, unknown before the first.
    """
    drawn = list(_series(recording))
    if not drawn:
        return []
    start = min(int(times[0]) for _, _, times, _ in drawn)
    stop = max(int(times[-1]) for _, _, times, _ in drawn)
    axis = np.linspace(start, stop, _POINTS).astype(np.int64)
    plots: list[Plot] = []
    for title, names, times, values in drawn:
        row = np.searchsorted(times, axis, side="right") - 1
        held = np.where((row >= 0)[:, None], values[np.maximum(row, 0)], np.nan)
        plots += split_plot((title, names, held))
    return plots


def stream_text(recording: Recording, *, width: int = 72) -> str:
    """Return the plots for a terminal; says so where nothing can be drawn."""
    lines = [
        line for plot in stream_plots(recording) for line in spark_lines(plot, width)
    ]
    return "\n".join(lines) or "no numbers to draw"


def stream_picture(recording: Recording, title: str) -> NDArray[np.uint8]:
    """Return a page with the plots, uint8 [height, width, 3]."""
    plots = stream_plots(recording)
    top = MARGIN + 3 * GLYPH_HEIGHT
    width = max([_WIDTH, *map(legend_width, plots)])
    page = Canvas(width, top + len(plots) * PLOT_STEP + MARGIN, PAPER)
    page.text(MARGIN, MARGIN, title, INK, scale=2)
    all_valid = np.ones(_POINTS, np.bool_)
    for number, plot in enumerate(plots):
        draw_plot(page, top + number * PLOT_STEP, plot, all_valid)
    return page.pixels


_Series = tuple[str, tuple[str, ...], NDArray[np.int64], NDArray[np.float64]]
"""Title, names, int64 [n] times in order, float64 [n, names]."""


def _series(recording: Recording) -> Iterator[_Series]:
    if holds_plan(recording):
        yield from _plan_series(recording)
    for name, stream in recording.streams.items():
        if stream.spec.is_vector and len(stream):
            order = np.argsort(stream.capture_ns, kind="stable")
            values = stream.vectors[order].astype(np.float64)
            yield name, stream.spec.names, stream.capture_ns[order], values


def _plan_series(recording: Recording) -> Iterator[_Series]:
    episode = plan_in(recording)
    steps = episode.steps
    times = np.array([step.timestamp_ns for step in steps], np.int64)
    wide = max((len(step.action.command) for step in steps), default=0)
    if wide:
        table = np.full((len(steps), wide), np.nan)
        for row, step in enumerate(steps):
            table[row, : len(step.action.command)] = step.action.command
        names = tuple(f"command_{number}" for number in range(wide))
        yield "action", names, times, table
    rewards = np.array([[step.reward] for step in steps], np.float64)
    if np.isfinite(rewards).any():
        yield "reward", ("reward",), times, rewards
