"""What a person should know of the adapter: which, on what, since when, how good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from continuon.adapter_record import fitting, read_record, report_path
from continuon.edge.derived import base_digests
from continuon.errors import ContinuonError
from continuon.home import Home
from continuon.robot.software import Software

__all__ = ["adapter_facts", "gate_figures"]


def adapter_facts(home: Home, software: Software) -> dict[str, Any]:
    """Return the adapter in use on the active bundle as plain values.

    `state` is `none`, `passed` (it drives after every start), `due` or `begun` (on
    trial), `set_aside` (it was judged on another base) or `unknown`, and then `why`
    says what is wrong.
    """
    try:
        return _facts(home.adapters, software)
    except ContinuonError as error:
        return {"adapter": None, "state": "unknown", "why": str(error)}


def gate_figures(store: Path, adapter: int) -> dict[str, Any] | None:
    """Return what an adapter showed at its promotion; None without a report."""
    try:
        report = msgspec.json.decode(report_path(store, adapter).read_bytes())
    except (OSError, msgspec.DecodeError):
        return None
    if not isinstance(report, dict):
        return None
    names = ("figures", "trainer", "steps", "seconds", "origin", "wall_ns")
    return {name: report.get(name) for name in names}


def _facts(store: Path, software: Software) -> dict[str, Any]:
    record, active = read_record(store), software.active()
    if active is None:
        return {"adapter": None, "state": "none", "why": "no bundle runs here"}
    use = fitting(record, base_digests(active.directory))
    facts: dict[str, Any] = {"bundle": active.bundle, "why": active.chosen.why}
    if use.adapter is None:
        aside = record.use.adapter
        state = "none" if aside is None else "set_aside"
        return facts | {"adapter": None, "state": state, "set_aside": aside}
    promoted = [e for e in record.trail if e.adapter == use.adapter]
    return facts | {
        "adapter": use.adapter,
        "state": use.trial,
        "sha256": use.sha256,
        "base_sha256": use.base_sha256,
        "since_wall_ns": promoted[-1].wall_ns if promoted else None,
        "gate": gate_figures(store, use.adapter),
    }
