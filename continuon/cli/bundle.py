"""`continuon keys` and `continuon bundle`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from continuon.cli.render import Result
from continuon.cli.verify_lane import verified_text
from continuon.errors import DataError, TrustError, UsageError
from continuon.home import Home

__all__ = ["build", "new_key", "show", "sign", "verify"]


def new_key(
    private_key: Path | None = None,
    *,
    algorithm: Literal["ecdsa-p256", "ed25519", "ml-dsa-65"] = "ecdsa-p256",
) -> Result:
    """Make a signing key; CONTINUON_KEY_PASSWORD encrypts the private half.

    Parameters
    ----------
    private_key
        Where the private half goes; default keys/release.pem below the home.
    algorithm
        ECDSA P-256 signs first; Ed25519 and ML-DSA-65 may follow it.
    """
    from continuon.bundle import new_key as make

    target = private_key or Home.from_environment().keys / "release.pem"
    key = make(
        target, password=os.environ.get("CONTINUON_KEY_PASSWORD"), algorithm=algorithm
    )
    lines = [
        f"private  {key.private_path}{'' if key.encrypted else '  (not encrypted)'}",
        f"public   {key.public_path}",
        f"words    {key.words}",
        f"sha256   {key.fingerprint}",
    ]
    return Result(data=key, text="\n".join(lines))


def build(
    *,
    artifacts_dir: Path,
    output_dir: Path,
    version: str,
    release_counter: int,
    origins: Sequence[str],
    model_name: str = "continuon-hope",
    source: str = "continuon bundle build",
    created_at_unix_ms: int | None = None,
    evidence: Sequence[Path] = (),
    delta_from: Sequence[Path] = (),
    deltas_dir: Path | None = None,
    sbom: bool = True,
    replace: bool = False,
) -> Result:
    """Assemble an edge bundle; the same inputs give the same bytes.

    Parameters
    ----------
    artifacts_dir
        What `continuon compile` wrote.
    output_dir
        The bundle's directory.
    version
        Strict SemVer 2, without a leading v.
    release_counter
        Counts releases and never goes back.
    origins
        Origins of the data it was trained on: real, imported, simulated, ...
    model_name
        Name of the model.
    source
        Where it was made.
    created_at_unix_ms
        Time to write down; default SOURCE_DATE_EPOCH, else the artifacts' newest time.
    evidence
        Files that say why it deserves trust.
    delta_from
        Older bundles that robots may have: patches from their files are made and
        listed where they save at least 30 %.
    deltas_dir
        Where the patches go, for `continuon ota publish`; default beside the bundle.
    sbom
        Put a bill of materials among them: its files, and the packages of this
        environment.
    replace
        Take the place of a bundle that is there.
    """
    from continuon.bundle import build_bundle
    from continuon.bundle.sbom import installed_packages

    _check_origins(artifacts_dir / "policy.weights", origins)
    info = build_bundle(
        output_dir,
        artifacts_dir=artifacts_dir,
        model_name=model_name,
        version=version,
        release_counter=release_counter,
        source=source,
        created_at_unix_ms=_created(artifacts_dir, created_at_unix_ms),
        origins=origins,
        evidence=evidence,
        packages=installed_packages() if sbom else None,
        deltas=_deltas(artifacts_dir, delta_from, deltas_dir or _beside(output_dir)),
        replace=replace,
    )
    return Result(
        data=info, text=f"{info.directory}: {info.total_bytes} bytes, not signed yet"
    )


def sign(directory: Path, *, key: Sequence[str] | None = None) -> Result:
    """Sign an edge bundle; CONTINUON_KEY_PASSWORD opens encrypted keys.

    Parameters
    ----------
    directory
        The bundle.
    key
        Private keys, an ECDSA P-256 one first; default keys/release.pem of the home.
        A file, or a key on a token: pkcs11:token=NAME;object=LABEL?module-path=FILE.
    """
    from continuon.bundle import sign_bundle

    names = key or [str(Home.from_environment().keys / "release.pem")]
    signed = sign_bundle(directory, [_signing_key(name) for name in names])
    return Result(data=signed, text=f"signed {signed.files} files: {signed.bundle_id}")


def verify(
    directory: Path, *, key: Sequence[Path] | None = None, threshold: int = 1
) -> Result:
    """Verify an edge bundle: exit status 0, or 5 with the code of the refusal.

    Parameters
    ----------
    directory
        The bundle.
    key
        Trusted public keys; default keys/release.pub.pem of the home.
    threshold
        How many distinct keys must have signed.
    """
    from continuon.bundle import load_public_key, verify_bundle

    paths = key or [Home.from_environment().keys / "release.pub.pem"]
    keys = [load_public_key(path) for path in paths]
    verified = verify_bundle(directory, keys, threshold=threshold)
    text = verified_text(verified.manifest, verified.bundle_id)
    return Result(data=verified, text=text)


def show(directory: Path, *, legacy: bool = False) -> Result:
    """Say what a bundle holds; this verifies nothing.

    Parameters
    ----------
    directory
        The bundle.
    legacy
        Show the earlier field names instead.
    """
    from continuon.bundle import legacy_view, parse_manifest

    manifest = parse_manifest((directory / "edge_manifest.json").read_bytes())
    return Result(data=legacy_view(manifest) if legacy else manifest)


def _check_origins(weights: Path, origins: Sequence[str]) -> None:
    """Refuse what contradicts the training data's origin, where the weights say it.

    Raises:
        TrustError: E-CLI-ORIGIN-001.
    """
    from continuon.tensorfile import read_tensors

    try:
        said = read_tensors(weights).document["metadata"]["origin"]
    except (DataError, KeyError, TypeError):
        return
    if said is not None and list(origins) != [said]:
        raise TrustError(
            "E-CLI-ORIGIN-001",
            "a policy is labelled as what its training data says of itself",
            where=weights,
            seen=", ".join(origins),
            allowed=said,
            hint=f"--origins {said}",
        )


def _deltas(
    artifacts_dir: Path, bases: Sequence[Path], deltas_dir: Path
) -> tuple[Any, ...]:
    if not bases:
        return ()
    from continuon.ota import make_deltas

    return make_deltas(artifacts_dir, bases, deltas_dir)


def _beside(output_dir: Path) -> Path:
    return output_dir.with_name(f"{output_dir.name}-deltas")


def _signing_key(name: str) -> Any:
    from continuon.bundle import load_private_key
    from continuon.bundle.token_io import SCHEME, load_token_key

    password = os.environ.get("CONTINUON_KEY_PASSWORD")
    if not name.startswith(SCHEME):
        return load_private_key(Path(name), password=password)
    module = os.environ.get("PKCS11_MODULE")
    return load_token_key(
        name, pin=password, default_module=Path(module) if module else None
    )


def _created(artifacts_dir: Path, given: int | None) -> int:
    if given is not None:
        return given
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is not None:
        if not epoch.isdecimal():
            raise UsageError(
                "E-CLI-EPOCH-001",
                "SOURCE_DATE_EPOCH is no time",
                seen=epoch,
                allowed="whole seconds since 1970",
            )
        return int(epoch) * 1000
    times = [path.stat().st_mtime_ns for path in artifacts_dir.iterdir()]
    return max(times, default=0) // 1_000_000
