"""What a bundle is made of and with: a CycloneDX bill of materials, the same each time.

It holds no time and no random number, so that a bundle stays reproducible.
Source: CycloneDX 1.6 (ECMA-424), JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib import metadata

from continuon.bundle.canonical import canonical_json
from continuon.bundle.manifest import Artifact

__all__ = ["SBOM_NAME", "bill_of_materials", "installed_packages"]

SBOM_NAME = "sbom.cdx.json"


def installed_packages() -> dict[str, str]:
    """Return {normalised name: version} of the packages of this environment."""
    found = {}
    for item in metadata.distributions():
        name = item.metadata["Name"]
        if name:
            found[re.sub(r"[-_.]+", "-", name).lower()] = item.version
    return found


def bill_of_materials(
    model_name: str,
    version: str,
    artifacts: Iterable[Artifact],
    packages: Mapping[str, str],
) -> bytes:
    """Return the bill: each file by digest, each package that was there to make it."""
    files = [
        {
            "type": "file",
            "bom-ref": f"file:{item.path}",
            "name": item.path,
            "hashes": [{"alg": "SHA-256", "content": item.sha256}],
        }
        for item in sorted(artifacts, key=lambda item: item.path)
    ]
    libraries = [
        {
            "type": "library",
            "bom-ref": f"pkg:pypi/{name}@{packages[name]}",
            "name": name,
            "version": packages[name],
            "purl": f"pkg:pypi/{name}@{packages[name]}",
        }
        for name in sorted(packages)
    ]
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "bundle",
                "name": model_name,
                "version": version,
            }
        },
        "components": [*files, *libraries],
    }
    return canonical_json(bill)
