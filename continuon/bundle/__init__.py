"""The signed bundle: manifest, safety limits, signatures, and who checks them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continuon.bundle.build import BundleInfo, build_bundle
    from continuon.bundle.keyfiles_io import (
        KeyFiles,
        load_private_key,
        new_key,
    )
    from continuon.bundle.keys import SigningKey, VerifyingKey, generate_key
    from continuon.bundle.manifest import Compat, HealthGate, Manifest
    from continuon.bundle.manifest_codec import dump_manifest, parse_manifest
    from continuon.bundle.manifest_legacy import legacy_view
    from continuon.bundle.placeholder import hef_placeholder
    from continuon.bundle.public_key_io import load_public_key
    from continuon.bundle.safety import (
        CAR_BASE_RULES,
        ChannelLimit,
        SafetyManifest,
        merge_safety,
    )
    from continuon.bundle.semver import SemVer, parse_version
    from continuon.bundle.sign import SignedBundle, sign_bundle
    from continuon.bundle.verify import VerifiedBundle, verify_bundle

__all__ = [
    "CAR_BASE_RULES",
    "BundleInfo",
    "ChannelLimit",
    "Compat",
    "HealthGate",
    "KeyFiles",
    "Manifest",
    "SafetyManifest",
    "SemVer",
    "SignedBundle",
    "SigningKey",
    "VerifiedBundle",
    "VerifyingKey",
    "build_bundle",
    "dump_manifest",
    "generate_key",
    "hef_placeholder",
    "legacy_view",
    "load_private_key",
    "load_public_key",
    "merge_safety",
    "new_key",
    "parse_manifest",
    "parse_version",
    "sign_bundle",
    "verify_bundle",
]

_HOMES = {
    "build": ("BundleInfo", "build_bundle"),
    "keyfiles_io": ("KeyFiles", "load_private_key", "new_key"),
    "keys": ("SigningKey", "VerifyingKey", "generate_key"),
    "manifest": ("Compat", "HealthGate", "Manifest"),
    "manifest_codec": ("dump_manifest", "parse_manifest"),
    "manifest_legacy": ("legacy_view",),
    "placeholder": ("hef_placeholder",),
    "public_key_io": ("load_public_key",),
    "safety": ("CAR_BASE_RULES", "ChannelLimit", "SafetyManifest", "merge_safety"),
    "semver": ("SemVer", "parse_version"),
    "sign": ("SignedBundle", "sign_bundle"),
    "verify": ("VerifiedBundle", "verify_bundle"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first asked for (PEP 562)."""
    if name not in _MODULE_OF:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
