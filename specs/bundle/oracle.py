"""Check our signatures with the stock `model_signing` tool, and its with ours.

Exit status 0 if each accepts what the other signed, and if the tool accepts
our hybrid bundles by their first signature.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from continuon.bundle import (
    build_bundle,
    load_private_key,
    load_public_key,
    new_key,
    sign_bundle,
    verify_bundle,
)
from continuon.errors import TrustError


def tool(program: str, *arguments: object) -> bool:
    """Return whether the stock tool succeeds."""
    command = [program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def main(arguments: list[str]) -> int:
    """Run both directions, print one line each, and one for all."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
    parser.description = __doc__
    parser.add_argument(
        "program",
        metavar="MODEL_SIGNING",
        help="the tool's path, in an environment with model-signing and pyOpenSSL",
    )
    parser.add_argument(
        "scratch", metavar="SCRATCH", type=Path, help="a folder, emptied first"
    )
    options = parser.parse_args(arguments)
    if shutil.which(options.program) is None:
        parser.error(f"{options.program} is not a program")
    began_s = time.perf_counter()
    results = compare(options.program, options.scratch)
    took_s = time.perf_counter() - began_s
    for name, ok in results.items():
        print("ok " if ok else "BAD", name)
    agreed = sum(results.values())
    print(f"oracle: {agreed} of {len(results)} agreed, {took_s:.0f} s")
    return int(agreed < len(results))


def compare(program: str, scratch: Path) -> dict[str, bool]:
    """Return whether each check by the tool and by us came out as it must."""
    shutil.rmtree(scratch, ignore_errors=True)
    artifacts = scratch / "artifacts"
    artifacts.mkdir(parents=True)
    for name in ("policy.tflite", "policy.weights", "golden.json", "spec.json"):
        (artifacts / name).write_bytes(name.encode() * 99)
    files = [
        new_key(scratch / f"{algorithm}.pem", algorithm=algorithm)
        for algorithm in ("ecdsa-p256", "ed25519", "ml-dsa-65")
    ]
    keys = [load_private_key(item.private_path) for item in files]
    public = load_public_key(files[0].public_path)
    bundle = build_bundle(
        scratch / "bundle",
        artifacts_dir=artifacts,
        model_name="oracle",
        version="1.0.0",
        release_counter=1,
        source="oracle",
        created_at_unix_ms=1,
        origins=["synthetic"],
        evidence=[artifacts / "spec.json"],
    ).directory
    signature = bundle / "model.sig"
    results = {}
    for count in (1, 2, 3):
        sign_bundle(bundle, keys[:count])
        results[f"ours with {count} signatures, checked by the tool"] = tool(
            program, "verify", "key", bundle, "--signature", signature,
            "--public_key", files[0].public_path,
        )  # fmt: skip
    (bundle / "policy.tflite").write_bytes(b"changed")
    results["a changed file, refused by the tool"] = not tool(
        program, "verify", "key", bundle, "--signature", signature,
        "--public_key", files[0].public_path,
    )  # fmt: skip
    (bundle / "policy.tflite").write_bytes(b"policy.tflite" * 99)
    signature.unlink()
    tool(
        program, "sign", "key", bundle, "--signature", signature,
        "--private_key", files[0].private_path,
    )  # fmt: skip
    try:
        accepted = len(verify_bundle(bundle, [public]).bundle_id) == 64
    except TrustError as error:
        print(error)
        accepted = False
    results["the tool's own, checked by us"] = accepted
    return results


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
