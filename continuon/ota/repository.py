"""Publish bundles: static files that any web server, bucket or USB stick serves.

    metadata/N.root.json, N.targets.json, N.snapshot.json, timestamp.json
    targets/channels/HASH.NAME.json, targets/bundles/ID/HASH.model.sig
    payload/ab/abcdef...     the files of all bundles, by SHA-256

TUF says what may run; payload files need no metadata of their own, because `model.sig`
lists their digests.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from continuon.bundle.keys import VerifyingKey
from continuon.bundle.manifest import MANIFEST_NAME
from continuon.bundle.manifest_rules import SIGNATURE_NAME
from continuon.bundle.verify import VerifiedBundle, verify_bundle
from continuon.clock import Clock, SystemClock
from continuon.errors import DataError, MissingPackageError, TrustError
from continuon.ota.channel import (
    Channel,
    Offer,
    channel_path,
    dump_channel,
    parse_channel,
)
from continuon.ota.disk import DiskStore
from continuon.ota.payload_io import payload_path
from continuon.ota.repository_keys import ROLES, RepositoryKeys

__all__ = [
    "Expiry",
    "PublishReport",
    "publish",
    "refresh_timestamp",
    "rotate",
    "withdraw",
]


@attrs.frozen(kw_only=True)
class Expiry:
    """Days until each role's metadata must have been signed again."""

    root: float = 365.0
    targets: float = 90.0
    snapshot: float = 30.0
    timestamp: float = 7.0


@attrs.frozen
class PublishReport:
    """What a publication added."""

    repository: Path
    bundle: str
    channel: str
    version: str
    release_counter: int
    root_path: Path
    metadata_versions: dict[str, int]
    new_payload_files: int
    new_payload_bytes: int


def publish(
    bundle_dir: Path,
    repository_dir: Path,
    keys: RepositoryKeys,
    *,
    bundle_keys: Sequence[VerifyingKey],
    threshold: int = 1,
    channel: str = "stable",
    rollout_percent: float = 100.0,
    deltas_dir: Path | None = None,
    expiry: Expiry | None = None,
    clock: Clock | None = None,
) -> PublishReport:
    """Verify a bundle and put it on offer; the repository is made if need be.

    `deltas_dir` holds the patches that the manifest lists, named by their SHA-256. The
    timestamp is replaced last, so a client never sees half a publication.

    Raises:
        TrustError: E-BUNDLE-..., the bundle does not verify; E-OTA-REPO-002, its
            release counter is not above those on offer for that model.
        UsageError: E-OTA-KEYS-001.
    """
    bundle = verify_bundle(bundle_dir, bundle_keys, threshold=threshold)
    repository = _Repository(
        repository_dir, keys, expiry or Expiry(), clock or SystemClock()
    )
    repository.open()
    listed = repository.channel(channel)
    _check_counter(listed, bundle)
    files, size = _add_payload(repository_dir, bundle, deltas_dir)
    target = f"bundles/{bundle.bundle_id}/{SIGNATURE_NAME}"
    repository.set_target(target, (bundle_dir / SIGNATURE_NAME).read_bytes())
    offer = Offer(
        bundle=bundle.bundle_id,
        model_name=bundle.manifest.model_name,
        version=bundle.manifest.version,
        release_counter=bundle.manifest.release_counter,
        total_bytes=bundle.total_bytes,
        manifest_sha256=bundle.files[MANIFEST_NAME],
        target=target,
        rollout_percent=rollout_percent,
    )
    others = [item for item in listed.offers if item.bundle != bundle.bundle_id]
    after = attrs.evolve(listed, offers=(*others, offer))
    repository.set_target(channel_path(channel), dump_channel(after))
    versions = repository.close()
    return PublishReport(
        repository_dir,
        bundle.bundle_id,
        channel,
        bundle.manifest.version,
        bundle.manifest.release_counter,
        repository_dir / "metadata" / "1.root.json",
        versions,
        files,
        size,
    )


def withdraw(
    bundle_id: str,
    repository_dir: Path,
    keys: RepositoryKeys,
    *,
    channel: str = "stable",
    clock: Clock | None = None,
) -> dict[str, int]:
    """Take a bundle off a channel; return the new metadata versions."""
    repository = _Repository(repository_dir, keys, Expiry(), clock or SystemClock())
    repository.open()
    listed = repository.channel(channel)
    kept = tuple(item for item in listed.offers if item.bundle != bundle_id)
    after = attrs.evolve(listed, offers=kept)
    repository.set_target(channel_path(channel), dump_channel(after))
    repository.drop_target(f"bundles/{bundle_id}/{SIGNATURE_NAME}")
    return repository.close()


def refresh_timestamp(
    repository_dir: Path,
    keys: RepositoryKeys,
    *,
    expiry: Expiry | None = None,
    clock: Clock | None = None,
) -> dict[str, int]:
    """Sign snapshot and timestamp again with the online key alone."""
    repository = _Repository(
        repository_dir, keys, expiry or Expiry(), clock or SystemClock()
    )
    repository.open()
    return repository.close()


def rotate(
    repository_dir: Path,
    keys: RepositoryKeys,
    new_keys: RepositoryKeys,
    *,
    clock: Clock | None = None,
) -> dict[str, int]:
    """Put `new_keys` in the place of `keys`; return the new metadata versions.

    The new root is signed by enough old root keys and enough new ones, so robots follow
    it; everything else is signed by the new keys alone.

    Raises:
        UsageError: E-OTA-KEYS-001, too few old or new keys are here.
    """
    repository = _Repository(repository_dir, keys, Expiry(), clock or SystemClock())
    repository.open()
    repository.adopt(new_keys)
    return repository.close()


class _Repository:
    """The metadata of one repository while it is being changed."""

    def __init__(
        self, path: Path, keys: RepositoryKeys, expiry: Expiry, clock: Clock
    ) -> None:
        self.path = path
        self.keys = keys
        self.expiry = expiry
        self.clock = clock
        self.roles: dict[str, Any] = {}
        self.changed: set[str] = set()
        self.also_root: list[Any] = []

    def open(self) -> None:
        """Load the newest metadata, or make the first."""
        (self.path / "metadata").mkdir(parents=True, exist_ok=True)
        if (self.path / "metadata" / "timestamp.json").exists():
            for role in ("root", "snapshot", "targets", "timestamp"):
                self.roles[role] = self._load(role)
        else:
            self._create()

    def channel(self, name: str) -> Channel:
        """Return a channel's offers, none where it is new."""
        path = channel_path(name)
        info = self.roles["targets"].signed.targets.get(path)
        if info is None:
            return Channel(name=name)
        data = self._target_file(path, info.hashes["sha256"]).read_bytes()
        return parse_channel(data, where=path)

    def set_target(self, path: str, data: bytes) -> None:
        """Write a target and list it."""
        tuf = _tuf()
        info = tuf.TargetFile.from_data(path, data, ["sha256"])
        _write(self._target_file(path, info.hashes["sha256"]), data)
        self.roles["targets"].signed.targets[path] = info
        self.changed.add("targets")

    def drop_target(self, path: str) -> None:
        """Take a target off the list."""
        self.roles["targets"].signed.targets.pop(path, None)
        self.changed.add("targets")

    def close(self) -> dict[str, int]:
        """Sign what changed, write it, and the timestamp last."""
        tuf = _tuf()
        if "root" in self.changed:
            self._sign_and_write("root")
        if "targets" in self.changed:
            self._sign_and_write("targets")
        targets = self.roles["targets"].signed.version
        snapshot = self.roles["snapshot"].signed
        snapshot.meta["targets.json"] = tuf.MetaFile(version=targets)
        self._sign_and_write("snapshot")
        stamp = self.roles["timestamp"].signed
        stamp.snapshot_meta = tuf.MetaFile(version=snapshot.version)
        DiskStore(self.path).sync_all("publish")
        self._sign_and_write("timestamp")
        return {role: item.signed.version for role, item in self.roles.items()}

    def adopt(self, new_keys: RepositoryKeys) -> None:
        """Name other keys in the root; the old ones sign it once more."""
        root = self.roles["root"].signed
        self.also_root = self.keys.signers("root")
        for role in ROLES:
            for key_id in list(root.roles[role].keyids):
                root.revoke_key(key_id, role)
            for signer in new_keys.signers(role):
                root.add_key(signer.public_key, role)
        self.keys = new_keys
        self.changed = {"root", "targets"}

    def _create(self) -> None:
        tuf = _tuf()
        root = tuf.Root(consistent_snapshot=True)
        for role, (_, _, threshold) in ROLES.items():
            for signer in self.keys.signers(role):
                root.add_key(signer.public_key, role)
            root.roles[role].threshold = threshold
        values = {
            "root": root,
            "targets": tuf.Targets(),
            "snapshot": tuf.Snapshot(),
            "timestamp": tuf.Timestamp(),
        }
        for role, signed in values.items():
            signed.version = 0
            self.roles[role] = tuf.Metadata(signed)
        self.changed = {"root", "targets"}

    def _sign_and_write(self, role: str) -> None:
        metadata = self.roles[role]
        metadata.signed.version += 1
        now = datetime.fromtimestamp(self.clock.wall_ns() // 10**9, UTC)
        days = getattr(self.expiry, role)
        metadata.signed.expires = now + timedelta(days=days)
        metadata.signatures.clear()
        extra = self.also_root if role == "root" else []
        for signer in (*self.keys.signers(role), *extra):
            metadata.sign(signer, append=True)
        name = f"{metadata.signed.version}.{role}.json"
        folder = self.path / "metadata"
        _write(
            folder / ("timestamp.json" if role == "timestamp" else name),
            metadata.to_bytes(),
        )

    def _load(self, role: str) -> Any:
        folder = self.path / "metadata"
        path = folder / "timestamp.json"
        if role != "timestamp":
            numbers = [
                int(item.name.partition(".")[0])
                for item in folder.glob(f"*.{role}.json")
                if item.name.partition(".")[0].isdigit()
            ]
            if not numbers:
                raise DataError(
                    "E-OTA-REPO-001",
                    "the repository lacks metadata",
                    seen=role,
                    where=folder,
                )
            path = folder / f"{max(numbers)}.{role}.json"
        return _tuf().Metadata.from_bytes(path.read_bytes())

    def _target_file(self, path: str, digest: str) -> Path:
        folder, _, name = path.rpartition("/")
        return self.path / "targets" / folder / f"{digest}.{name}"


def _check_counter(channel: Channel, bundle: VerifiedBundle) -> None:
    manifest = bundle.manifest
    others = [
        item.release_counter
        for item in channel.offers
        if item.model_name == manifest.model_name and item.bundle != bundle.bundle_id
    ]
    if others and manifest.release_counter <= max(others):
        raise TrustError(
            "E-OTA-REPO-002",
            "a release with this counter or a higher one is on offer already",
            seen=manifest.release_counter,
            allowed=f"above {max(others)}",
            hint="robots never go back; raise the release counter",
        )


def _add_payload(
    repository: Path, bundle: VerifiedBundle, deltas_dir: Path | None
) -> tuple[int, int]:
    wanted = {digest: bundle.directory / path for path, digest in bundle.files.items()}
    for delta in bundle.manifest.deltas:
        if deltas_dir is None or not (deltas_dir / delta.sha256).is_file():
            raise DataError(
                "E-OTA-REPO-005",
                "the manifest lists a patch that is not at hand",
                seen=delta.sha256,
                where=deltas_dir,
            )
        wanted[delta.sha256] = deltas_dir / delta.sha256
    count = size = 0
    for digest, source in wanted.items():
        target = repository / payload_path(digest)
        if not target.exists():
            data = source.read_bytes()
            _write(target, data)
            count, size = count + 1, size + len(data)
    return count, size


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _tuf() -> Any:
    try:
        from tuf.api import metadata
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "tuf", "ota", purpose="publishing bundles"
        ) from error
    return metadata
