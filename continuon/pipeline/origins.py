"""The origin of data, read from the data: no flag can make a recording real."""

from __future__ import annotations

from collections.abc import Iterable

from continuon.bundle import parse_manifest
from continuon.bundle.manifest import MANIFEST_NAME
from continuon.errors import DataError
from continuon.pipeline.context import Context
from continuon.pipeline.receipt import read_receipt
from continuon.pipeline.upstream import receipt_path

__all__ = ["agreed_origin", "learns_from_import", "learnt_origin"]


def agreed_origin(origins: Iterable[object], context: Context) -> str:
    """Return the one origin of all episodes, as they say it themselves.

    Raises:
        DataError: E-PIPE-ORIGIN-001 they differ, -002 this run was started as one on
            data of another origin.
    """
    found = sorted({str(origin) for origin in origins})
    if not found:
        return context.origin
    if len(found) > 1:
        raise DataError(
            "E-PIPE-ORIGIN-001",
            "the episodes have different origins, and a policy would hide that",
            where=context.home.episodes,
            seen=", ".join(found),
            allowed="one origin",
            hint="keep recordings of different origins in different homes",
        )
    if found[0] != context.origin:
        raise DataError(
            "E-PIPE-ORIGIN-002",
            "the episodes are not of the origin that this run was started for",
            where=context.home.episodes,
            seen=found[0],
            allowed=context.origin,
            hint="give --episodes-from for imported ones, and the rig they came from",
        )
    return found[0]


def learnt_origin(context: Context) -> str:
    """Return the origin of what the policy of this home learnt from.

    It stands in the receipt of phase 7, which has it from the episodes themselves.
    """
    receipt = read_receipt(receipt_path(context, "train"))
    return context.origin if receipt is None else receipt.origin


def learns_from_import(context: Context) -> bool:
    """Whether the policy of this home learnt from somebody's recording.

    The slots of a robot that was updated with no phase 7 of its own say it themselves.

    Raises:
        DataError: E-PIPE-ORIGIN-003, this run was started for an import and the policy
            learnt from something else, which replayed frames would not judge.
    """
    receipt = read_receipt(receipt_path(context, "train"))
    found = set() if receipt is None else {receipt.origin}
    for path in sorted(context.home.model.glob(f"slots/*/{MANIFEST_NAME}")):
        found |= set(parse_manifest(path.read_bytes()).origins)
    if context.imported and found and "imported" not in found:
        raise DataError(
            "E-PIPE-ORIGIN-003",
            "the policy of this home did not learn from an import",
            where=context.root,
            seen=", ".join(sorted(found)),
            allowed="imported",
            hint="leave --episodes-from out, or name the home of that recording",
        )
    return context.imported or "imported" in found
