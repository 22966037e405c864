"""Publish bundles: static files that any web server, bucket or USB stick serves.

    metadata/N.root.json, N.targets.json, N.snapshot.json, timestamp.json
    targets/channels/HASH.NAME.json, targets/bundles/ID/HASH.model.sig
    payload/ab/abcdef...     the files of all bundles, by SHA-256

TUF says what may run; payload files need no metadata of their own, because `model.sig`
lists their digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from continuon.bundle.keys import VerifyingKey
from continuon.bundle.manifest import MANIFEST_NAME
from continuon.bundle.manifest_shape import SIGNATURE_NAME
from continuon.bundle.verify import VerifiedBundle, verify_bundle
from continuon.clock import Clock, SystemClock
from continuon.durable import replace_file
from continuon.errors import DataError, TrustError, UsageError
from continuon.ota.channel import Channel, Offer, channel_path, dump_channel
from continuon.ota.payload_io import payload_path
from continuon.ota.repository_keys import RepositoryKeys
from continuon.ota.repository_metadata import (
    Expiry,
    Publisher,
    RepositoryMetadata,
)

__all__ = [
    "Expiry",
    "PublishReport",
    "Publisher",
    "delegate",
    "publish",
    "refresh_timestamp",
    "rotate",
    "withdraw",
]


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
    publisher: Publisher | None = None,
    rollout_percent: float = 100.0,
    deltas_dir: Path | None = None,
    expiry: Expiry | None = None,
    clock: Clock | None = None,
) -> PublishReport:
    """Verify a bundle and put it on offer; the repository is made if need be.

    `deltas_dir` holds the patches that the manifest lists, named by their SHA-256. The
    timestamp is replaced last, so a client never sees half a publication. With a
    `publisher` the channel is `NAME/CHANNEL`, its keys sign, and of the repository's
    the online ones alone.

    Raises:
        TrustError: E-BUNDLE-..., the bundle does not verify; E-OTA-REPO-002, its
            release counter is not above those on offer for that model.
        UsageError: E-OTA-KEYS-001; E-OTA-REPO-009, a share beyond 0 to 100.
    """
    if not 0 <= rollout_percent <= 100:
        raise UsageError(
            "E-OTA-REPO-009",
            "a share of the robots is out of range",
            seen=rollout_percent,
            allowed="0 to 100 percent",
        )
    bundle = verify_bundle(bundle_dir, bundle_keys, threshold=threshold)
    repository = RepositoryMetadata(
        repository_dir,
        keys,
        expiry or Expiry(),
        clock or SystemClock(),
        publisher=publisher,
    )
    repository.open()
    base = "" if publisher is None else f"publishers/{publisher.name}/"
    channel = channel if publisher is None else f"{publisher.name}/{channel}"
    listed = repository.channel(channel)
    _check_counter(listed, bundle)
    files, size = _add_payload(repository_dir, bundle, deltas_dir)
    target = f"{base}bundles/{bundle.bundle_id}/{SIGNATURE_NAME}"
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
    repository = RepositoryMetadata(
        repository_dir, keys, Expiry(), clock or SystemClock()
    )
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
    repository = RepositoryMetadata(
        repository_dir, keys, expiry or Expiry(), clock or SystemClock()
    )
    repository.open()
    return repository.close()


def delegate(
    repository_dir: Path,
    keys: RepositoryKeys,
    name: str,
    public_keys: Sequence[VerifyingKey],
    *,
    threshold: int = 1,
    clock: Clock | None = None,
) -> dict[str, int]:
    """Let a publisher sign what lies below `publishers/NAME/`; needs the targets keys.

    The first delegation may make the repository. Asked again, it replaces the
    publisher's keys: what the old ones signed is void until the publisher signs anew.

    Raises:
        UsageError: E-OTA-REPO-006 the name, -007 the threshold, E-OTA-KEYS-001.
    """
    repository = RepositoryMetadata(
        repository_dir, keys, Expiry(), clock or SystemClock()
    )
    repository.open()
    repository.delegate(name, public_keys, threshold)
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
    repository = RepositoryMetadata(
        repository_dir, keys, Expiry(), clock or SystemClock()
    )
    repository.open()
    repository.adopt(new_keys)
    return repository.close()


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
            replace_file(target, data)
            count, size = count + 1, size + len(data)
    return count, size
