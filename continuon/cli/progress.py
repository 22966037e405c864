"""Progress: a bar on a terminal, plain lines elsewhere; always on standard error."""

from __future__ import annotations

import sys
from typing import Any, Self

from continuon.cli.render import say

__all__ = ["Bar", "Counter"]


class Bar:
    """Shows phases as they run. On a terminal a live bar, else one line a phase."""

    def __init__(self) -> None:
        self._live: Any = None
        self._task: Any = None
        self._title = ""

    def start_phase(self, gate: Any) -> None:
        """Show that a phase begins."""
        self._title = f"{gate.number:>2} {gate.name:<9}"
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._live = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TimeElapsedColumn(),
            TextColumn("{task.fields[label]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._live.add_task(self._title, total=None, label="")
        self._live.start()

    def update(self, done: int, total: int, label: str) -> None:
        """Move the bar; `total` 0 or 1 shows motion without a measure."""
        if self._live is not None:
            whole = total if total > 1 else None
            self._live.update(self._task, completed=done, total=whole, label=label)

    def end_phase(self, run: Any) -> None:
        """Show a phase's verdict and its time."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        receipt = run.receipt
        time = f"{receipt.duration_s:6.1f} s" if run.fresh else "up to date"
        memory = f"{receipt.peak_memory_bytes / 2**20:5.0f} MiB"
        say(
            f"{self._title} {receipt.verdict:<8} {time:>10}  {memory}  {receipt.origin}"
        )


class Counter:
    """A bar for one long command; silent where standard error is no terminal."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._live: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._live = Progress(console=Console(stderr=True), transient=True)
            self._task = self._live.add_task(self._title, total=None)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, done: int, total: int, label: str) -> None:
        """Move the bar."""
        if self._live is not None:
            self._live.update(
                self._task,
                completed=done,
                total=total,
                description=f"{self._title}, {label}",
            )
