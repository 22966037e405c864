"""What runs of a verified slot: its policy alone, or that policy with its adapter.

An adapter that does not belong to this bundle, or whose policy is not whole, is not
used, and the reason is said: the bundle alone is what was signed and proved.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from continuon.adapter_record import AdapterRecord, fitting, read_record
from continuon.edge.derived import base_digests, derived_folder, read_derived
from continuon.edge.spec import read_spec
from continuon.errors import ContinuonError
from continuon.robot.backends import first_runnable

__all__ = ["Chosen", "choose_policy"]


@attrs.frozen(kw_only=True)
class Chosen:
    """A policy to hand to the loop, always in the bundle's own limits.

    Attributes:
        artifact_dir: the slot, or the derived policy beside it.
        backend: what runs it.
        adapter: number of the merged adapter, None for the bundle alone.
        why: what decided it, for a person.
    """

    artifact_dir: Path
    backend: str
    adapter: int | None
    why: str

    def as_dict(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {**attrs.asdict(self), "artifact_dir": str(self.artifact_dir)}


def choose_policy(
    store: Path, *, slot: Path, bundle: str, backend: str, tried: bool = False
) -> Chosen:
    """Return what runs: the adapter in use if all of it fits, else the bundle alone.

    Args:
        store: of adapters.
        slot: of the bundle, verified.
        bundle: its id.
        backend: what runs the bundle alone.
        tried: only an adapter that passed its trial will do, as after a start.
    """
    alone = Chosen(artifact_dir=slot, backend=backend, adapter=None, why="")
    try:
        record = read_record(store)
        use = fitting(record, base_digests(slot))
        if use.adapter is None or use.sha256 is None:
            return attrs.evolve(alone, why=_why_none(record))
        folder = derived_folder(store, bundle=bundle, adapter_sha256=use.sha256)
        read_derived(folder, slot, bundle=bundle, adapter_sha256=use.sha256)
        if tried and use.trial != "passed":
            why = f"adapter {use.adapter} has yet to pass its trial"
            return attrs.evolve(alone, why=why)
        names = [a.backend for a in read_spec(folder).artifacts if not a.is_placeholder]
        return Chosen(
            artifact_dir=folder,
            backend=first_runnable(names),
            adapter=use.adapter,
            why=f"adapter {use.adapter} was judged on this bundle's policy",
        )
    except ContinuonError as error:
        return attrs.evolve(alone, why=f"without the adapter: {error}")


def _why_none(record: AdapterRecord) -> str:
    use = record.use
    if use.adapter is None:
        return "no adapter is in use"
    return (
        f"adapter {use.adapter} was judged on another base "
        f"({str(use.base_sha256)[:12]}) and is set aside: it is in use again where "
        "that base is; `continuon mid run` learns one for this base"
    )
