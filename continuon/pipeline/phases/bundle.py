"""Phase 8: seed and trained policy, each as a signed edge bundle, verified again."""

from __future__ import annotations

import json
from pathlib import Path

import attrs

from continuon import __version__
from continuon.bundle import (
    Compat,
    HealthGate,
    KeyFiles,
    VerifiedBundle,
    build_bundle,
    load_private_key,
    load_public_key,
    new_key,
    sign_bundle,
    verify_bundle,
)
from continuon.home import Home
from continuon.pipeline.context import Context
from continuon.pipeline.digest import digest_path, digest_text
from continuon.pipeline.origins import learnt_origin
from continuon.pipeline.phase import Outcome, Progress
from continuon.pipeline.places import (
    artifacts,
    bundle_dir,
    packages_path,
    proof_path,
    public_key_path,
    seed_artifacts,
    seed_bundle_dir,
)
from continuon.pipeline.releases import SEED_COUNTER, release_counter
from continuon.pipeline.upstream import passed_receipt

__all__ = ["ROOMS", "inputs", "run"]

BILL = "sbom"

ROOMS = ("bundle",)
MODEL_NAME = "continuon-hope"
SEED_CREATED_UNIX_MS = 1_700_000_000_000


def inputs(context: Context) -> dict[str, Path | str]:
    """Return both sets of artifacts and the evidence; the key is an output."""
    return {
        "artifacts": artifacts(context),
        "seed": seed_artifacts(context),
        "packages": packages_path(context),
        "proof": proof_path(context),
        "soak": str(context.soak_ticks),
        "origin": learnt_origin(context),
    }


def run(context: Context, progress: Progress) -> Outcome:
    """Build, sign and verify both bundles."""
    home = context.home
    made = _ensure_key(home)
    train = passed_receipt(context, "train")
    evidence = {
        "proof_of_learning": proof_path(context),
        "sanity_metrics": home.trainer_logs / "sanity_metrics.csv",
        "evaluation": home.checkpoints / "slow" / "evaluation.json",
    }
    present = {name: path for name, path in evidence.items() if path.is_file()}
    contents = [
        digest_path(path)
        for path in (artifacts(context), packages_path(context), *present.values())
    ]
    facts = [train.started_unix_ms, learnt_origin(context), _gate(context), __version__]
    counter = release_counter(
        home.state / "releases.json",
        digest_text(" ".join([*map(str, facts), *contents])),
    )
    progress(0, 2, "building the seed bundle")
    seed = _bundle(
        context,
        seed_bundle_dir(context),
        seed_artifacts(context),
        version="0.1.0",
        counter=SEED_COUNTER,
        created=SEED_CREATED_UNIX_MS,
        evidence={},
        packages=None,
    )
    progress(1, 2, "building the trained bundle")
    trained = _bundle(
        context,
        bundle_dir(context),
        artifacts(context),
        version=f"0.{counter}.0",
        counter=counter,
        created=train.started_unix_ms,
        evidence=present,
        packages=json.loads(packages_path(context).read_bytes()),
    )
    manifest = trained.manifest
    chosen = manifest.backends[0]
    kinds = {item.path: item.role for item in manifest.artifacts}
    notes = [] if made is None else [f"made the release key: {made.words}"]
    return Outcome(
        figures={
            "manifest_complete": bool(manifest.backends)
            and {*evidence, BILL} <= {item.kind for item in manifest.evidence},
            "digests_verified": set(manifest.files()) <= set(trained.files),
            "signature_verified": bool(trained.fingerprints and seed.fingerprints),
            "selected_backend": chosen.name,
            "selected_backend_is_placeholder": kinds[chosen.artifact] == "placeholder",
            "release_counter": counter,
            "version": manifest.version,
            "bundle_id": trained.bundle_id,
            "bundle_bytes": trained.total_bytes,
        },
        outputs=(
            bundle_dir(context),
            seed_bundle_dir(context),
            public_key_path(context.home),
        ),
        origin=train.origin,
        notes=tuple(notes),
    )


def _ensure_key(home: Home) -> KeyFiles | None:
    """Make the home's own release key once; a fleet's key is kept elsewhere."""
    if public_key_path(home).exists():
        return None
    return new_key(home.keys / "release.pem")


def _gate(context: Context) -> HealthGate:
    """Return the bounds of a first release.

    It replaces a seed that wants to stand still: that the two want different things is
    what training is for, so the shadow run refuses only what is no action at all.
    """
    return HealthGate(
        golden_max_error=1e-3,
        latency_p99_ms=20.0,
        soak_ticks=context.soak_ticks,
        timeout_s=60.0,
        max_veto_fraction=0.25,
        max_shadow_mean=2.0,
        max_shadow_peak=2.0,
    )


def _bundle(
    context: Context,
    target: Path,
    source: Path,
    *,
    version: str,
    counter: int,
    created: int,
    evidence: dict[str, Path],
    packages: dict[str, str] | None,
) -> VerifiedBundle:
    build_bundle(
        target,
        artifacts_dir=source,
        model_name=MODEL_NAME,
        version=version,
        release_counter=counter,
        source="continuon pipeline",
        created_at_unix_ms=created,
        origins=(learnt_origin(context),),
        compat=attrs.evolve(Compat(), control_rate_hz=50.0),
        evidence=evidence,
        packages=packages,
        health_gate=_gate(context),
        replace=True,
    )
    sign_bundle(target, [load_private_key(context.home.keys / "release.pem")])
    return verify_bundle(target, [load_public_key(public_key_path(context.home))])
