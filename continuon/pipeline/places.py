"""Where phases leave what others read; nothing heavy is imported to know a path."""

from __future__ import annotations

from pathlib import Path

from continuon.home import Home
from continuon.pipeline.context import Context

__all__ = [
    "artifacts",
    "bundle_dir",
    "packages_path",
    "proof_path",
    "public_key_path",
    "seed_artifacts",
    "seed_bundle_dir",
]


def proof_path(context: Context) -> Path:
    """Return where the proof of learning lies."""
    return context.root / "proof_of_learning.json"


def artifacts(context: Context) -> Path:
    """Return where the trained policy's artifacts lie."""
    return context.home.checkpoints / "artifacts"


def seed_artifacts(context: Context) -> Path:
    """Return where the untrained seed's artifacts lie."""
    return context.home.checkpoints / "seed-artifacts"


def packages_path(context: Context) -> Path:
    """Return where phase 7 writes down what it was installed with."""
    return context.home.reports / "packages.json"


def bundle_dir(context: Context) -> Path:
    """Return where the trained bundle lies."""
    return context.root / "bundles" / "trained"


def seed_bundle_dir(context: Context) -> Path:
    """Return where the seed bundle lies, which a new robot starts with."""
    return context.root / "bundles" / "seed"


def public_key_path(home: Home) -> Path:
    """Return the public half of the key that signs releases."""
    return home.keys / "release.pub.pem"
