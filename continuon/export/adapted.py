"""The adapter in use, merged into a bundle's policy: a derived policy beside the slot.

JAX runs the adapter beside its base and writes the golden ticks; each backend runs the
merged weights and must meet them. Two ways of computing it agree, or it is refused.
"""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import jax
import msgspec
import numpy as np

from continuon.adapter_record import (
    AdapterUse,
    adapter_path,
    fitting,
    read_record,
)
from continuon.durable import replace_file, sync_directory
from continuon.edge.derived import (
    DERIVED_FILE,
    MIN_ACTIVITY,
    Derived,
    base_digests,
    check_base,
    derived_folder,
)
from continuon.edge.golden import (
    GOLDEN_FILE,
    check_golden,
    decode_array,
    read_golden,
)
from continuon.edge.spec import SPEC_FILE, read_spec
from continuon.errors import (
    DataError,
    MissingPackageError,
    UsageError,
)
from continuon.export.compile import TOLERANCE
from continuon.export.files import file_sha256
from continuon.export.lean_lowering import lower_lean
from continuon.export.litert import to_litert
from continuon.export.lowering import lower, rollout
from continuon.export.records import golden_record, spec_record, to_json
from continuon.export.variants import VARIANTS
from continuon.hope.adapter import (
    LoadedAdapter,
    attach_adapter,
    load_adapter,
    merge_adapter,
)
from continuon.hope.checkpoint import (
    Checkpoint,
    joined_origin,
    load_checkpoint,
    save_checkpoint,
)

__all__ = ["AdaptedReport", "derive_policy"]

LITERT, NUMPY = "policy.tflite", "policy.weights"


@attrs.frozen(kw_only=True)
class AdaptedReport:
    """A derived policy.

    Attributes:
        directory: where it stands.
        adapter: number in the history.
        activity: largest change of an action on the golden inputs, against the base.
        errors: golden error of each backend, against JAX with the adapter attached.
        missing: what could not be made here, and why, by backend.
    """

    directory: Path
    bundle: str
    adapter: int
    adapter_sha256: str
    activity: float
    errors: dict[str, float]
    missing: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values: dict[str, Any] = msgspec.to_builtins(attrs.asdict(self), enc_hook=str)
        return values


def derive_policy(slot: Path, store: Path, *, bundle: str) -> AdaptedReport:
    """Merge the adapter in use into a slot's policy; the slot is only read.

    Older derived policies stay only where a rollback could ask for them.

    Args:
        slot: a verified bundle.
        store: of adapters.
        bundle: the bundle's id.

    Raises:
        UsageError: E-EXPORT-ADAPTER-001, no adapter is in use.
        ContractError: E-EDGE-ADAPTER-001, it was judged on another base;
            E-HOPE-LORA-*, it does not fit.
        DataError: E-EXPORT-ADAPTER-002, its file was altered; -003, it changes
            nothing; -004, a backend with the merged weights answers otherwise.
    """
    record = read_record(store)
    use = fitting(record, base_digests(slot))
    if use.adapter is None and record.use.adapter is not None:
        check_base(slot, base_sha256=record.use.base_sha256, adapter=record.use.adapter)
    if use.adapter is None or use.sha256 is None:
        raise UsageError(
            "E-EXPORT-ADAPTER-001",
            "no adapter is in use: there is nothing to merge",
            where=store,
            hint="continuon mid run",
        )
    base = load_checkpoint(slot / NUMPY)
    adapter = _adapter(store, use, base)
    final = derived_folder(store, bundle=bundle, adapter_sha256=use.sha256)
    building = final.with_name(f".{final.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        activity, missing = _write(building, slot, base, adapter)
        errors = _golden_errors(building)
        derived = Derived(
            bundle=bundle,
            base_sha256=file_sha256(slot / SPEC_FILE),
            adapter=use.adapter,
            adapter_sha256=use.sha256,
            activity=activity,
            files={p.name: file_sha256(p) for p in sorted(building.iterdir())},
        )
        replace_file(building / DERIVED_FILE, msgspec.json.encode(derived))
        shutil.rmtree(final, ignore_errors=True)
        building.rename(final)
        sync_directory(final.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    _sweep(final.parent, (use, *record.below))
    return AdaptedReport(
        directory=final,
        bundle=bundle,
        adapter=use.adapter,
        adapter_sha256=use.sha256,
        activity=activity,
        errors=errors,
        missing=missing,
    )


def _adapter(store: Path, use: AdapterUse, base: Checkpoint) -> LoadedAdapter:
    assert use.adapter is not None
    loaded = load_adapter(adapter_path(store, use.adapter), base.config)
    if loaded.sha256 != use.sha256:
        raise DataError(
            "E-EXPORT-ADAPTER-002",
            "the adapter in use is not the one that was promoted",
            where=adapter_path(store, use.adapter),
            seen=loaded.sha256,
            allowed=use.sha256,
            hint="continuon mid rollback",
        )
    return loaded


def _write(
    folder: Path, slot: Path, base: Checkpoint, loaded: LoadedAdapter
) -> tuple[float, dict[str, str]]:
    """Write weights, LiteRT where it can be made, golden ticks, spec."""
    adapter = loaded.adapter
    held, spec = read_golden(slot / GOLDEN_FILE), read_spec(slot)
    inputs = {name: decode_array(value) for name, value in held.inputs.items()}
    attached = attrs.evolve(base, params=attach_adapter(base.params, adapter))
    told = rollout(lower(attached), inputs)
    moved = np.abs(told["action"] - decode_array(held.outputs["action"]))
    activity = float(moved.max())
    if not activity > MIN_ACTIVITY:
        raise DataError(
            "E-EXPORT-ADAPTER-003",
            "the adapter changes nothing on the golden inputs: is it there?",
            seen=f"{activity:.2g}",
            allowed=f"above {MIN_ACTIVITY:g}",
        )
    plain = jax.tree.map(np.asarray, merge_adapter(base.params, adapter))
    merged = attrs.evolve(base, params=plain)
    lowered, lean, missing = lower(merged), lower_lean(merged), {}
    try:
        replace_file(folder / LITERT, to_litert(lean.step, lean.fold))
    except MissingPackageError as error:
        missing["litert"] = str(error.what)
    origin = joined_origin(base.metadata.get("origin"), loaded.metadata.get("origin"))
    metadata = {"derived_from": base.sha256, "origin": origin}
    save_checkpoint(folder / NUMPY, base.config, plain, metadata=metadata)
    golden = golden_record(
        merged, inputs, told, origin=held.origin, tolerance=TOLERANCE
    )
    replace_file(folder / GOLDEN_FILE, to_json(golden))
    made = [v for v in VARIANTS if (folder / v.path).exists()]
    made.sort(key=lambda v: _rank(spec.artifacts, v.backend))
    facts = spec_record(
        merged,
        lowered,
        folder,
        variants=made,
        name=spec.name,
        control_rate_hz=spec.control_rate_hz,
        fold_every=lean.every,
    )
    replace_file(folder / SPEC_FILE, to_json(facts))
    return activity, missing


def _rank(artifacts: Any, backend: str) -> int:
    order = [a.backend for a in artifacts]
    return order.index(backend) if backend in order else len(order)


def _golden_errors(folder: Path) -> dict[str, float]:
    edge: Any = import_module("continuon.edge")
    errors: dict[str, float] = {}
    for artifact in read_spec(folder).artifacts:
        policy = edge.load_policy(folder, backend=artifact.backend)
        report = check_golden(policy, folder)
        if not report.ok:
            raise DataError(
                "E-EXPORT-ADAPTER-004",
                "merged and attached adapter do not answer alike",
                where=artifact.backend,
                seen=report.max_abs_error,
                allowed=report.tolerance,
            )
        errors[artifact.backend] = report.max_abs_error
    return errors


def _sweep(folder: Path, uses: tuple[AdapterUse, ...]) -> None:
    kept = {use.sha256[:16] for use in uses if use.sha256}
    for path in folder.iterdir():
        if path.name.rpartition("-")[2] not in kept:
            shutil.rmtree(path)
