"""Verifying a bundle beside its limit: one SHA-256 over the same bytes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from continuon.bundle import build_bundle, generate_key, sign_bundle, verify_bundle

KEY = generate_key()
MIB = 32


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    noise = np.random.default_rng(0).bytes(MIB << 19)
    for name in ("policy.tflite", "policy.weights"):
        (artifacts / name).write_bytes(noise)
    for name in ("spec.json", "golden.json"):
        (artifacts / name).write_bytes(b"{}")
    info = build_bundle(
        folder / "bundle",
        artifacts_dir=artifacts,
        model_name="hope",
        version="1.0.0",
        release_counter=1,
        source="bench",
        created_at_unix_ms=1,
        origins=["synthetic"],
    )
    sign_bundle(info.directory, [KEY])
    return info.directory


def digest_all(folder):
    """Hash each file as `hashlib` would: what no verifier can go below."""
    digests = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests


@pytest.mark.parametrize("case", ["ours", "sha256-limit"])
def test_verify(benchmark, bundle, case):
    benchmark.name = f"verify/{case}/{MIB}MiB"
    benchmark.group = f"verify/{MIB}MiB"
    if case == "ours":
        verified = benchmark(verify_bundle, bundle, [KEY.public])
        assert verified.manifest.model_name == "hope"
    else:
        assert len(benchmark(digest_all, bundle)) > 4
