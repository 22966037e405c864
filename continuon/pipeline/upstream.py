"""What must have passed before a phase may start, whoever starts it."""

from __future__ import annotations

from pathlib import Path

from continuon.errors import DataError, GateMissedError
from continuon.pipeline.context import Context
from continuon.pipeline.digest import digest_path
from continuon.pipeline.gates import Verdict
from continuon.pipeline.phase import PHASES
from continuon.pipeline.receipt import Receipt, read_receipt

__all__ = ["REQUIRES", "outputs_match", "passed_receipt", "receipt_path"]

REQUIRES = {
    "health": (),
    "boot": (),
    "capture": (),
    "sanity": ("capture",),
    "proof": ("capture",),
    "tfrecord": ("capture",),
    "train": ("tfrecord",),
    "bundle": ("capture", "sanity", "proof", "tfrecord", "train"),
    "ota": ("bundle",),
    "validate": ("ota",),
}


def receipt_path(context: Context, name: str) -> Path:
    """Return where the receipt of a phase lies."""
    return context.receipts / f"{PHASES.index(name) + 1:02d}-{name}.json"


def passed_receipt(context: Context, name: str) -> Receipt:
    """Return the receipt of an earlier phase, if it passed and its outputs stand.

    Raises:
        DataError: E-PIPE-UPSTREAM-001 it has not run, -003 an output changed since.
        GateMissedError: E-PIPE-UPSTREAM-002, it did not pass.
    """
    hint = f"continuon pipeline run --only {name}"
    receipt = read_receipt(receipt_path(context, name))
    if receipt is None:
        raise DataError(
            "E-PIPE-UPSTREAM-001", f"phase {name} has to run first", hint=hint
        )
    if receipt.verdict is not Verdict.PASSED:
        raise GateMissedError(
            "E-PIPE-UPSTREAM-002",
            f"phase {name} has to pass first",
            seen=receipt.verdict,
            allowed=Verdict.PASSED,
            hint=hint,
        )
    if not outputs_match(context, receipt):
        raise DataError(
            "E-PIPE-UPSTREAM-003",
            f"what phase {name} left was changed or lost since",
            hint=hint,
        )
    return receipt


def outputs_match(context: Context, receipt: Receipt) -> bool:
    """Whether everything that a phase left is still what it left."""
    for name, digest in receipt.outputs.items():
        path = context.root / name
        if not path.exists() or digest_path(path) != digest:
            return False
    return True
