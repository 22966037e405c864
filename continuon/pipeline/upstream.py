"""What must have passed before a phase may start, whoever starts it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from continuon.errors import DataError, GateMissedError
from continuon.pipeline.context import Context
from continuon.pipeline.digest import digest_path
from continuon.pipeline.gates import Verdict
from continuon.pipeline.phase import PHASES
from continuon.pipeline.receipt import Receipt, read_receipt

__all__ = [
    "READS",
    "REQUIRES",
    "is_updated_by_hand",
    "outputs_match",
    "passed_receipt",
    "receipt_path",
    "require_upstream",
    "stale_reasons",
]

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

READS = (
    ("sanity", "capture", "rlds/episodes", "episodes"),
    ("proof", "capture", "rlds/episodes", "episodes"),
    ("tfrecord", "capture", "rlds/episodes", "episodes"),
    ("train", "tfrecord", "rlds/tfrecord", "tfrecord"),
    ("bundle", "train", "trainer/checkpoints/artifacts", "artifacts"),
    ("bundle", "proof", "proof_of_learning.json", "proof"),
    ("ota", "bundle", "bundles/trained", "bundle"),
    ("validate", "ota", "model/slots", "slots"),
)
"""Which phase reads which other one: that one's output, and its own input."""


def is_updated_by_hand(context: Context, name: str) -> bool:
    """Whether phase 10 may start on what `continuon ota` deployed, with no phase 9.

    What runs is then known from the slots' own record, which verifies it again.
    """
    no_receipt = not receipt_path(context, "ota").exists()
    return name == "validate" and no_receipt and context.home.model.is_dir()


def stale_reasons(receipts: Mapping[str, Receipt]) -> dict[str, str]:
    """Return why a receipt no longer speaks of what the others speak of, by phase.

    A phase is stale when the phase that it reads has not passed, or left something
    else since, or is stale itself.
    """
    stale: dict[str, str] = {}
    for name, source, output, taken in READS:
        receipt, read = receipts.get(name), receipts.get(source)
        if receipt is None or not receipt.inputs or name in stale:
            continue
        if read is None or read.verdict is not Verdict.PASSED:
            stale[name] = f"phase {source} has not passed since"
        elif read.outputs.get(output) != receipt.inputs.get(taken):
            stale[name] = f"phase {source} left something else since"
        elif source in stale:
            stale[name] = f"phase {source} is stale"
    return stale


def receipt_path(context: Context, name: str) -> Path:
    """Return where the receipt of a phase lies."""
    return context.receipts / f"{PHASES.index(name) + 1:02d}-{name}.json"


def passed_receipt(context: Context, name: str) -> Receipt:
    """Return the receipt of an earlier phase, if it passed and its outputs stand.

    Raises:
        DataError: E-PIPE-UPSTREAM-001 it has not run, -003 an output changed since.
        GateMissedError: E-PIPE-UPSTREAM-002, it did not pass.
    """
    hint = context.command(name)
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


def require_upstream(context: Context, name: str) -> None:
    """Refuse to start a phase unless what it builds on passed and still counts.

    Raises:
        DataError, GateMissedError: as `passed_receipt` does for each of them.
        GateMissedError: E-PIPE-UPSTREAM-004, one of them speaks of something that was
            made again since.
    """
    for needed in REQUIRES[name]:
        passed_receipt(context, needed)
    before = PHASES[: PHASES.index(name)]
    receipts = {one: read_receipt(receipt_path(context, one)) for one in before}
    stale = stale_reasons({one: r for one, r in receipts.items() if r is not None})
    for needed in REQUIRES[name]:
        if needed in stale:
            raise GateMissedError(
                "E-PIPE-UPSTREAM-004",
                f"phase {needed} has to pass again: its receipt is stale",
                seen=stale[needed],
                allowed="a receipt of what lies there now",
                hint=f"{context.command()}, which skips what is up to date",
            )


def outputs_match(context: Context, receipt: Receipt) -> bool:
    """Whether everything that a phase left is still what it left."""
    for name, digest in receipt.outputs.items():
        path = context.root / name
        if not path.exists() or digest_path(path) != digest:
            return False
    return True
