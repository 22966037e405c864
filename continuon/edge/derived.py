"""A policy with an adapter merged in: what it was made from, and that it still is that.

It stands beside the slots, `<store>/compiled/<bundle>-<adapter>`, each part 16 hex
digits, and never inside one. `derived.json` is written last and names the digest of
every other file; what is not whole, or was made for another bundle, is refused.
"""

from __future__ import annotations

from pathlib import Path

import attrs
import msgspec

from continuon.edge.spec import SPEC_FILE, file_sha256, read_spec
from continuon.errors import ContractError, DataError

__all__ = [
    "DERIVED_FILE",
    "MIN_ACTIVITY",
    "Derived",
    "base_digests",
    "check_base",
    "derived_folder",
    "read_derived",
]

DERIVED_FILE = "derived.json"
SCHEMA = "continuon.derived-policy/1"
WEIGHTS_BACKEND = "numpy"
MIN_ACTIVITY = 1e-4
"""Smallest change of an action, on the golden inputs, of an adapter that is there."""


@attrs.frozen(kw_only=True)
class Derived:
    """The record of one derived policy.

    Attributes:
        bundle: id of the bundle whose policy it changes.
        base_sha256: that policy's spec.json.
        adapter: number in the history; adapter_sha256: of its file.
        activity: largest change of an action that it makes on the golden inputs.
        files: SHA-256 of every other file, by name.
    """

    schema: str = SCHEMA
    bundle: str
    base_sha256: str
    adapter: int
    adapter_sha256: str
    activity: float
    files: dict[str, str]


def derived_folder(store: Path, *, bundle: str, adapter_sha256: str) -> Path:
    """Return where the policy of this bundle and this adapter stands."""
    name = f"{bundle[:16]}-{adapter_sha256[:16]}"
    return store / "compiled" / name


def base_digests(slot: Path) -> frozenset[str]:
    """Return the names under which an adapter may know this policy's parameters.

    They are the checkpoint that it was compiled from, and its weights' own file: both
    hold the same parameters.

    Raises:
        DataError: E-EDGE-SPEC-*, E-EDGE-ARTIFACT-*: no policy, or altered weights.
    """
    spec = read_spec(slot)
    weights = spec.artifact(slot, WEIGHTS_BACKEND)
    return frozenset((spec.checkpoint_sha256, file_sha256(weights)))


def check_base(slot: Path, *, base_sha256: str | None, adapter: int | None) -> None:
    """Refuse an adapter that was judged on other parameters than this policy's.

    Raises:
        ContractError: E-EDGE-ADAPTER-001, it was.
        DataError: as `base_digests`.
    """
    known = base_digests(slot)
    if base_sha256 not in known:
        raise ContractError(
            "E-EDGE-ADAPTER-001",
            f"adapter {adapter} was judged on another base, and is not used on this",
            where=slot,
            seen=base_sha256,
            allowed=", ".join(sorted(known)),
            hint="continuon mid run learns one for this base",
        )


def read_derived(
    folder: Path, slot: Path, *, bundle: str, adapter_sha256: str
) -> Derived:
    """Return the record of a derived policy whose every byte is what it says.

    Raises:
        DataError: E-EDGE-ADAPTER-002 absent, -003 unreadable, -004 made from other
            things or altered since.
    """
    path = folder / DERIVED_FILE
    try:
        record = msgspec.json.decode(path.read_bytes(), type=Derived)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            "E-EDGE-ADAPTER-002",
            "the adapter in use is not compiled for this bundle",
            where=folder,
            hint="continuon mid use",
        ) from error
    except msgspec.DecodeError as error:
        raise DataError(
            "E-EDGE-ADAPTER-003",
            f"the record of the derived policy is broken: {error}",
            where=path,
            hint="continuon mid use makes it anew",
        ) from error
    here = {p.name for p in folder.iterdir()} - {DERIVED_FILE}
    seen = {name: file_sha256(folder / name) for name in sorted(here)}
    facts = {"schema": SCHEMA, "bundle": bundle, "adapter_sha256": adapter_sha256}
    facts["base_sha256"] = file_sha256(slot / SPEC_FILE)
    wrong = [name for name, value in facts.items() if getattr(record, name) != value]
    wrong += sorted(
        name
        for name in seen.keys() | record.files
        if seen.get(name) != record.files.get(name)
    )
    if not record.activity > MIN_ACTIVITY:
        wrong.append("activity")
    if wrong:
        raise DataError(
            "E-EDGE-ADAPTER-004",
            "the derived policy is not what its record says, or is another's",
            where=folder,
            seen=", ".join(wrong),
            hint="continuon mid use makes it anew",
        )
    return record
