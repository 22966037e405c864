"""Phase 6: recordings become TFDS files, and an anonymised export beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

from continuon.environment import read_environment
from continuon.errors import DataError, TrustError
from continuon.home import Home
from continuon.pipeline.context import Context
from continuon.pipeline.digest import digest_path
from continuon.pipeline.origins import agreed_origin
from continuon.pipeline.phase import Outcome, Progress
from continuon.pipeline.secret import export_secret, export_signer
from continuon.rlds.export import export_episodes
from continuon.rlds.export_manifest import MANIFEST, VerifiedExport, verify_export
from continuon.rlds.tfds_write import convert

__all__ = ["ROOMS", "inputs", "run"]

ROOMS = ("rlds",)


def inputs(context: Context) -> dict[str, Path | str]:
    """Return the episodes."""
    return {
        "episodes": context.home.episodes,
        "export origin": read_environment().export_origin,
    }


def run(context: Context, progress: Progress) -> Outcome:
    """Convert every episode, read it back, and export."""
    home = context.home
    recorded = len(list(home.episodes.glob("*.mcap")))
    progress(0, 2, "writing TFRecord")
    report = convert(home.episodes, home.tfrecord)
    progress(1, 2, "writing the anonymised export")
    tag = read_environment().export_origin
    package = home.export / f"{tag}-{digest_path(home.episodes)[:12]}"
    exported = _export(home, package, tag)
    return Outcome(
        figures={
            "episodes_converted_fraction": report.episodes / max(recorded, 1),
            "read_back_equal": report.read_back_equal,
            "manifest_written": report.manifest_path.is_file(),
            "export_written": (package / MANIFEST).is_file(),
            "exported_fraction": len(exported.episodes) / max(recorded, 1),
            "steps": report.steps,
            "bytes": report.bytes,
        },
        outputs=(home.tfrecord, package),
        origin=agreed_origin(report.origins, context),
        notes=tuple(f"not converted: {item}" for item in report.skipped),
    )


def _export(home: Home, package: Path, tag: str) -> VerifiedExport:
    """Return the export, its signature and every file checked; a damaged one is remade.

    Raises:
        TrustError: what was just written does not verify.
    """
    signer = export_signer(home)
    if package.exists():
        try:
            return verify_export(package, signer.public)
        except (TrustError, DataError):
            shutil.rmtree(package)
    export_episodes(
        home.episodes,
        package,
        secret=export_secret(home),
        origin_tag=tag,
        signer=signer,
    )
    return verify_export(package, signer.public)
