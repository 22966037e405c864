"""A phase's receipt: what went in, what came out, what was measured, what was said."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Any

import attrs
import msgspec

from continuon import __version__
from continuon.durable import replace_file
from continuon.errors import DataError
from continuon.pipeline.gates import GateCheck, Verdict

__all__ = ["Receipt", "host_facts", "read_receipt", "write_receipt"]

SCHEMA = "continuon.receipt/1"


@attrs.frozen(kw_only=True)
class Receipt:
    """The record of one run of one phase.

    Attributes:
        inputs: name to SHA-256 of every file, folder and parameter set that went in.
        outputs: path below the home to SHA-256 of everything that came out.
        figures: name to measured value; units stand in the names.
        origin: "real", "imported", "simulated", "synthetic" or "replayed".
        peak_memory_bytes: most memory of all the phase's processes at one time.
    """

    phase: int
    name: str
    verdict: Verdict
    origin: str
    inputs: dict[str, str]
    outputs: dict[str, str]
    figures: dict[str, Any]
    checks: tuple[GateCheck, ...]
    host: dict[str, Any]
    started_unix_ms: int
    duration_s: float
    peak_memory_bytes: int
    notes: tuple[str, ...] = ()
    error: dict[str, Any] | None = None
    schema: str = SCHEMA

    @property
    def missed(self) -> tuple[GateCheck, ...]:
        """The lines that did not let the phase pass."""
        return tuple(check for check in self.checks if not check.ok)


def host_facts() -> dict[str, Any]:
    """Return the facts about this machine that explain a figure."""
    return {
        "continuon": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "page_size_bytes": os.sysconf("SC_PAGE_SIZE"),
    }


def write_receipt(path: Path, receipt: Receipt) -> None:
    """Write a receipt as indented JSON, whole or not at all."""
    plain = msgspec.to_builtins(receipt, enc_hook=_encode)
    data = msgspec.json.format(msgspec.json.encode(_finite(plain)), indent=1)
    replace_file(path, data + b"\n")


def read_receipt(path: Path) -> Receipt | None:
    """Return the receipt at `path`, or None where there is none.

    Raises:
        DataError: a file is there that is no receipt of this schema.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        receipt = msgspec.json.decode(data, type=Receipt)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DataError(
            "E-PIPE-RECEIPT-001",
            "this file is not a receipt",
            where=path,
            seen=error,
            hint="delete it; the phase then runs again",
        ) from error
    if receipt.schema != SCHEMA:
        raise DataError(
            "E-PIPE-RECEIPT-002",
            "this receipt has another schema",
            where=path,
            seen=receipt.schema,
            allowed=SCHEMA,
            hint="delete it; the phase then runs again",
        )
    return receipt


def _encode(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    return str(value)


def _finite(value: Any) -> Any:
    """Replace non-finite numbers, which JSON cannot say, by null: unknown."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
