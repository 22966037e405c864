"""The same manifest under the field names of the earlier, public contract.

A view for readers only: it is never signed, never parsed, and holds no signature.
"""

from __future__ import annotations

from typing import Any

from continuon.bundle.manifest import Artifact, Manifest

__all__ = ["legacy_view"]


def legacy_view(manifest: Manifest) -> dict[str, Any]:
    """Return `{version, model_name, artifacts, checksums, created_at_unix_ms, source}`.

    `cpu_bundle` is the artifact of the first backend that is not Hailo's;
    `hailo_bundle` the Hailo artifact or its labelled placeholder, where there is one.
    """
    named: dict[str, Artifact] = {}
    for backend in manifest.backends:
        if backend.name != "hailo":
            named["cpu_bundle"] = manifest.artifact(backend.artifact)
            break
    for artifact in manifest.artifacts:
        if artifact.backend == "hailo":
            named["hailo_bundle"] = artifact
    named["safety_manifest"] = manifest.artifact(manifest.safety.path)
    return {
        "version": manifest.version,
        "model_name": manifest.model_name,
        "artifacts": {name: item.path for name, item in named.items()},
        "checksums": {f"{name}_sha256": item.sha256 for name, item in named.items()},
        "created_at_unix_ms": manifest.created_at_unix_ms,
        "source": manifest.source,
        "hailo_is_placeholder": any(
            item.backend == "hailo" and item.role == "placeholder"
            for item in manifest.artifacts
        ),
    }
