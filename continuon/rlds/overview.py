"""One look at an episode: a contact sheet, its numbers over time, its timing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.errors import DataError
from continuon.rlds.canvas import GLYPH_HEIGHT, GLYPH_WIDTH, Canvas, Colour
from continuon.rlds.depth_codecs import decode_depth
from continuon.rlds.images import decode_colour, policy_image
from continuon.rlds.steps import UNKNOWN_NS, EpisodeSteps

__all__ = [
    "INK",
    "MARGIN",
    "PAPER",
    "PLOT_STEP",
    "Plot",
    "contact_sheet",
    "draw_plot",
    "legend_width",
    "overview_picture",
    "overview_text",
    "spark_lines",
    "split_plot",
]

PAPER, INK, _GREY, _MASKED = (
    (250, 250, 248),
    (20, 20, 24),
    (215, 215, 212),
    (250, 215, 215),
)
_PENS: tuple[Colour, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
)
"""Okabe and Ito's colours, which most colour-blind people tell apart (2008)."""
MARGIN, _PLOT_HEIGHT, _COLUMNS = 12, 90, 6
PLOT_STEP = _PLOT_HEIGHT + 40
"""Pixels from the top of one plot to that of the next."""
_RAMP = " .:-=+*#%@"
_BARS = "▁▂▃▄▅▆▇█"


def contact_sheet(
    steps: EpisodeSteps, *, count: int, width: int, height: int
) -> list[tuple[int, NDArray[np.uint8], NDArray[np.uint8] | None]]:
    """Return (row, colour, depth) of evenly spaced steps, small.

    Both pictures are uint8 [height, width, 3]; depth is grey, near bright, unknown
    blue. A picture that does not decode is red.
    """
    picked = np.unique(np.linspace(0, len(steps) - 1, count).astype(int)).tolist()
    sheet = []
    for row in picked:
        try:
            colour = policy_image(
                decode_colour(steps.image[row]), height=height, width=width
            )
        except DataError:
            colour = np.full((height, width, 3), (200, 0, 0), np.uint8)
        depth = None
        if steps.depth is not None:
            depth = _depth_picture(steps.depth[row], height, width)
        sheet.append((row, colour, depth))
    return sheet


def _depth_picture(blob: bytes, height: int, width: int) -> NDArray[np.uint8]:
    try:
        counts = decode_depth(blob).astype(np.float64)
    except DataError:
        return np.full((height, width, 3), (200, 0, 0), np.uint8)
    known = counts > 0
    far = np.percentile(counts[known], 98) if known.any() else 1.0
    near = np.percentile(counts[known], 2) if known.any() else 0.0
    grey = np.clip(255 - 225 * (counts - near) / max(far - near, 1.0), 30, 255)
    pixels = np.repeat(grey[..., None], 3, axis=2)
    pixels[~known] = (30, 40, 90)
    return policy_image(pixels.astype(np.uint8), height=height, width=width)


def overview_picture(steps: EpisodeSteps, title: str) -> NDArray[np.uint8]:
    """Return a page about an episode, uint8 [height, width, 3].

    A title, a contact sheet of colour and depth, one plot for each group of components
    and one for the time from frame to frame; masked steps are tinted.
    """
    small_width, small_height = 160, 120
    sheet = contact_sheet(
        steps, count=2 * _COLUMNS, width=small_width, height=small_height
    )
    plots = list(_plots(steps))
    rows = -(-len(sheet) // _COLUMNS) * (1 if steps.depth is None else 2)
    width = 2 * MARGIN + _COLUMNS * (small_width + 4)
    width = max(width, *map(legend_width, plots))
    top = MARGIN + 3 * GLYPH_HEIGHT
    height = top + rows * (small_height + 18) + len(plots) * PLOT_STEP + MARGIN
    page = Canvas(width, height, PAPER)
    page.text(MARGIN, MARGIN, title, INK, scale=2)
    start = int(steps.stamp_ns[0])
    for number, (row, colour, depth) in enumerate(sheet):
        line, column = divmod(number, _COLUMNS)
        left = MARGIN + column * (small_width + 4)
        at = top + line * (small_height + 18) * (1 if depth is None else 2)
        seconds = (int(steps.stamp_ns[row]) - start) / 1e9
        mark = "" if steps.valid[row] else "  MASKED"
        page.text(left, at + 2, f"{row}  {seconds:.2f} s{mark}", INK)
        page.picture(left, at + 16, colour)
        if depth is not None:
            page.picture(left, at + 20 + small_height, depth)
    at = top + rows * (small_height + 18) + 6
    for plot in plots:
        draw_plot(page, at, plot, steps.valid)
        at += PLOT_STEP
    return page.pixels


Plot = tuple[str, Sequence[str], NDArray[np.float64]]
"""Title, names, and values [T, names]."""


def _plots(steps: EpisodeSteps) -> Iterator[Plot]:
    """Yield everything that is drawn over time."""
    groups = [("action", steps.action_names, steps.action)]
    if steps.state_names:
        groups.append(("state", steps.state_names, steps.state))
    for kind, names, table in groups:
        yield from split_plot((kind, names, table.astype(np.float64)))
    gaps = np.diff(steps.stamp_ns, prepend=steps.stamp_ns[:1])[:, None] / 1e6
    gaps[:1] = np.nan
    yield "frame to frame, ms", ("dt",), gaps
    skews = {
        name: np.where(skew == UNKNOWN_NS, np.nan, skew / 1e6)
        for name, skew in steps.skew_ns.items()
        if name in {"depth", "state_residual", "action_age"}
    }
    if skews:
        yield "distance to the frame, ms", tuple(skews), np.stack([*skews.values()], 1)


def split_plot(plot: Plot) -> Iterator[Plot]:
    """Yield a plot in parts of as many curves as there are colours."""
    title, names, table = plot
    for first in range(0, len(names), len(_PENS)):
        some = slice(first, first + len(_PENS))
        yield title, names[some], table[:, some]


def draw_plot(page: Canvas, top: int, plot: Plot, valid: NDArray[np.bool_]) -> None:
    """Draw one plot over the page's width; what is not valid, bool [T], is tinted."""
    _, names, values = plot
    low, high = _limits(values)
    width = page.width - 2 * MARGIN
    box = (MARGIN, top + 18, width, _PLOT_HEIGHT)
    heading = _heading(plot)
    page.text(MARGIN, top + 4, heading, INK)
    at = MARGIN + GLYPH_WIDTH * 2 * (len(heading) + 3)
    for number, name in enumerate(names):
        page.text(at, top + 4, name, _PENS[number % len(_PENS)])
        at += GLYPH_WIDTH * 2 * (len(name) + 2)
    page.rectangle(*box, _GREY)
    page.rectangle(box[0] + 1, box[1] + 1, width - 2, _PLOT_HEIGHT - 2, (255, 255, 255))
    for row in np.flatnonzero(~valid).tolist():
        left = box[0] + row * width // len(valid)
        page.rectangle(left, box[1], max(width // len(valid), 1), _PLOT_HEIGHT, _MASKED)
    if low < 0 < high:
        zero = round(high / (high - low) * (_PLOT_HEIGHT - 1))
        page.rectangle(box[0], box[1] + zero, width, 1, _GREY)
    for number, column in enumerate(values.T):
        page.curve(box, column, (low, high), _PENS[number % len(_PENS)])


def legend_width(plot: Plot) -> int:
    """Return the pixels that the line above a plot needs, margins included."""
    names = sum(len(name) + 2 for name in plot[1])
    return 2 * MARGIN + GLYPH_WIDTH * 2 * (len(_heading(plot)) + 3 + names)


def _heading(plot: Plot) -> str:
    least, most = _extent(plot[2])
    return f"{plot[0]}  [{least:.4g} .. {most:.4g}]"


def _extent(values: NDArray[np.float64]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    return (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = _extent(values)
    room = max((high - low) * 0.05, 1e-6)
    return low - room, high + room


def overview_text(steps: EpisodeSteps, *, width: int = 72) -> str:
    """Return the same for a terminal: small pictures as letters, curves as bars."""
    lines = []
    across = max(width // 4 - 1, 8)
    sheet = contact_sheet(steps, count=4, width=across, height=max(across * 3 // 8, 4))
    lines.append("  ".join(f"{row:<{across - 1}}" for row, _, _ in sheet))
    shades = [_shaded(colour) for _, colour, _ in sheet]
    lines += [" ".join(parts) for parts in zip(*shades, strict=True)]
    for plot in _plots(steps):
        lines += spark_lines(plot, width)
    masked = int((~steps.valid).sum())
    lines.append(f"{len(steps)} steps, {masked} masked")
    return "\n".join(lines)


def spark_lines(plot: Plot, width: int) -> list[str]:
    """Return a plot as lines of text: its title, then bars and range of each curve."""
    title, names, values = plot
    label = max(len(name) for name in names)
    room = max(width - label - 24, 8)
    lines = [title]
    for name, column in zip(names, values.T, strict=True):
        low, high = _extent(column)
        bars = _spark(column, room)
        lines.append(f"  {name:<{label}} {bars} {low:9.4g} .. {high:.4g}")
    return lines


def _shaded(image: NDArray[np.uint8]) -> list[str]:
    weights = np.array([0.299, 0.587, 0.114])
    grey = (image @ weights) / 256 * len(_RAMP)
    return ["".join(_RAMP[int(value)] for value in row) for row in grey]


def _spark(values: NDArray[Any], width: int) -> str:
    """Return values as bars; each is the mean of those that fall on it."""
    low, high = _limits(values[:, None])
    bars = []
    for part in np.array_split(values, min(width, len(values))):
        known = part[np.isfinite(part)]
        if not known.size:
            bars.append(" ")
            continue
        share = (float(known.mean()) - low) / (high - low)
        bars.append(_BARS[min(int(share * len(_BARS)), len(_BARS) - 1)])
    return "".join(bars)
