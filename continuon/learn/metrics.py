"""The loss curve as it grows: JSON lines to follow, and TensorBoard's event files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import attrs

from continuon.durable import replace_file
from continuon.errors import MissingPackageError

if TYPE_CHECKING:
    from continuon.learn.loop import LossRow

__all__ = ["MetricsLog", "open_metrics"]

_SCALARS = ("loss", "action_mae", "action_mse", "prediction_mse")


@attrs.frozen
class MetricsLog:
    """An open log; made by `open_metrics`.

    Attributes:
        lines: `metrics.jsonl`, one object an update.
        events: a TensorBoard writer, or None.
    """

    lines: IO[str]
    events: Any

    def add(self, row: LossRow) -> None:
        """Append a row to both, the line at once for whoever follows the file."""
        self.lines.write(_line(row))
        self.lines.flush()
        if self.events is not None:
            for name in _SCALARS:
                self.events.add_scalar(name, getattr(row, name), row.step)

    def close(self) -> None:
        """Close both."""
        self.lines.close()
        if self.events is not None:
            self.events.close()


def open_metrics(
    folder: Path, rows: Sequence[LossRow], *, tensorboard: bool
) -> MetricsLog:
    """Begin the log anew with the rows that a resumed run keeps.

    Args:
        folder: gets `metrics.jsonl` and, asked for, `tensorboard/`.
        rows: what the saved state had seen; later lines of a killed run are dropped.
        tensorboard: whether to write event files; the steps after `rows` are purged.

    Raises:
        MissingPackageError: TensorBoard's files are asked for without their writer.
    """
    path = folder / "metrics.jsonl"
    replace_file(path, "".join(map(_line, rows)).encode())
    events = _events(folder / "tensorboard", len(rows)) if tensorboard else None
    return MetricsLog(path.open("a", encoding="utf-8"), events)


def _line(row: LossRow) -> str:
    return json.dumps(attrs.asdict(row), allow_nan=False) + "\n"


def _events(folder: Path, purge_step: int) -> Any:
    try:
        writer: Any = import_module("tensorboardX").SummaryWriter
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "tensorboardX", "tpu", purpose="writing TensorBoard's event files"
        ) from error
    return writer(str(folder), purge_step=purge_step)
