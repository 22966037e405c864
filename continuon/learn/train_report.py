"""What a training run made, and its loss curve as files."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from continuon.durable import replace_file
from continuon.learn.evaluate import EvaluationReport
from continuon.learn.evidence import write_json

if TYPE_CHECKING:
    from continuon.learn.loop import LossRow

__all__ = ["TrainReport", "write_curve"]


@attrs.frozen(kw_only=True, eq=False)
class TrainReport:
    """What a training run made.

    Attributes:
        checkpoint: `policy.hope`; seed_checkpoint: the untrained `seed.hope`, its
            actions near neutral.
        loss_csv, loss_json: the loss curve, one row an update.
        resumed_at: the update from which a killed run went on, 0 for a whole run.
        url: where all of it was copied; the files are then gone from here.
        devices, hosts: that shared the work.
        seconds: of this process; peak_memory_bytes: of this process.
        line: how much was kept of what a policy learnt that started on a line, see
            `continuon.learn.line_start.Judged`; None if it did not.
        evaluation: held-out figures, with traces.
    """

    checkpoint: Path
    seed_checkpoint: Path
    loss_csv: Path
    loss_json: Path
    url: str | None
    steps: int
    resumed_at: int
    preset: str
    mode: str
    devices: int
    hosts: int
    seed: int
    parameters: int
    seconds: float
    peak_memory_bytes: int
    checkpoint_sha256: str
    origin: str
    data_digest: str
    config_digest: str
    recipe: dict[str, Any]
    train_episodes: tuple[str, ...]
    held_out_episodes: tuple[str, ...]
    loss_curve: tuple[LossRow, ...]
    line: dict[str, Any] | None
    evaluation: EvaluationReport
    host: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the loss curve left to its own file."""
        facts = {
            field.name: getattr(self, field.name)
            for field in attrs.fields(type(self))
            if field.name not in ("loss_curve", "evaluation")
        }
        paths = {k: str(v) for k, v in facts.items() if isinstance(v, Path)}
        return {**facts, **paths, "evaluation": self.evaluation.as_dict()}


def write_curve(report: TrainReport) -> None:
    """Write `loss.csv` and `loss.json`, one row an update."""
    names = ("step", "loss", "action_mae", "action_mse", "prediction_mse", "elapsed_s")
    records = [attrs.asdict(row) for row in report.loss_curve]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    replace_file(report.loss_csv, text.getvalue().encode())
    write_json(report.loss_json, records)
