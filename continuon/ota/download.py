"""Bring a bundle from a repository: only what the device does not have yet."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from continuon.bundle.keys import VerifyingKey
from continuon.bundle.manifest import MANIFEST_NAME, Manifest
from continuon.bundle.manifest_codec import MAX_MANIFEST_BYTES, parse_manifest
from continuon.bundle.manifest_shape import SIGNATURE_NAME
from continuon.bundle.tree_io import hash_file, read_file
from continuon.bundle.verify import SignedStatement, verify_signature
from continuon.clock import Clock, SystemClock
from continuon.errors import BudgetError, ContinuonError, TrustError
from continuon.ota.channel import Channel, Offer
from continuon.ota.client import RepositoryClient
from continuon.ota.delta import apply_patch, fits_memory
from continuon.ota.payload_io import FetchLimits, fetch_payload, paced, payload_path
from continuon.ota.source_io import Source, open_source

__all__ = ["Cost", "Downloader", "Offered"]


@attrs.frozen
class Offered:
    """A bundle on offer whose statement and manifest were verified."""

    offer: Offer
    signature: bytes
    statement: SignedStatement
    manifest_bytes: bytes
    manifest: Manifest


@attrs.define
class Cost:
    """What a bundle cost to bring."""

    fetched_bytes: int = 0
    reused_bytes: int = 0
    resumed_bytes: int = 0
    patched_files: int = 0


class Downloader:
    """One repository as a place to get bundles from."""

    def __init__(
        self,
        location: str | Path,
        root: bytes,
        metadata_dir: Path,
        *,
        channel: str = "stable",
        robot_id: str | None = None,
        clock: Clock | None = None,
        limits: FetchLimits | None = None,
    ) -> None:
        self.source: Source = open_source(location)
        self.root = root
        self.metadata_dir = metadata_dir
        self.channel = channel
        self.robot_id = robot_id
        self.clock = clock or SystemClock()
        self.limits = limits or FetchLimits()

    @property
    def name(self) -> str:
        """Return what a person calls this repository."""
        return self.source.name

    def offers(self, *, t_floor_ns: int = 0) -> Channel:
        """Return the channel after a full TUF refresh."""
        return self._client(t_floor_ns).channel(self.channel)

    def newest(self, model_name: str | None, *, t_floor_ns: int = 0) -> Offer | None:
        """Return the newest offer that this robot may have, or None."""
        channel = self.offers(t_floor_ns=t_floor_ns)
        return channel.newest(model_name, robot_id=self.robot_id)

    def statement(
        self, offer: Offer, public_keys: Sequence[VerifyingKey], *, threshold: int
    ) -> Offered:
        """Return an offer's signature and manifest, both verified.

        Raises:
            TrustError: E-OTA-TUF-..., E-BUNDLE-SIG-..., E-OTA-OFFER-001 if the offer
                and what was signed disagree.
        """
        data = self._client(0).read_targets(offer.target)[offer.target]
        statement = verify_signature(
            data, public_keys, threshold=threshold, where=offer.target
        )
        digest = statement.digests.get(MANIFEST_NAME)
        _agree("bundle id", statement.bundle_id, offer.bundle)
        _agree("manifest", digest, offer.manifest_sha256)
        manifest_bytes = self._small(offer.manifest_sha256, offer.target)
        manifest = parse_manifest(manifest_bytes, where=offer.target)
        _agree("release counter", manifest.release_counter, offer.release_counter)
        _agree("version", manifest.version, offer.version)
        return Offered(offer, data, statement, manifest_bytes, manifest)

    def fetch(
        self,
        offered: Offered,
        target: Path,
        *,
        known: Sequence[Path],
        allow_full: bool = True,
    ) -> Cost:
        """Put every file of the bundle below `target`; nothing is durable yet.

        Files whose digest an installed slot (`known`) has are copied from there.

        Raises:
            BudgetError: E-OTA-FETCH-006, a whole download is needed and not allowed.
        """
        target.mkdir(parents=True, exist_ok=True)
        cost = Cost()
        files = offered.manifest.files()
        at_hand = _at_hand(known)
        _drop_strangers(target, {*files, MANIFEST_NAME, SIGNATURE_NAME})
        for path, (size, digest) in sorted(files.items()):
            final = target / path
            if final.exists() and _is(final, size, digest):
                cost.resumed_bytes += size
                continue
            final.parent.mkdir(parents=True, exist_ok=True)
            if digest in at_hand and _copy(at_hand[digest], final, size, digest):
                cost.reused_bytes += size
                continue
            if self._patch(offered.manifest, path, target, at_hand, cost):
                continue
            if not allow_full:
                raise BudgetError(
                    "E-OTA-FETCH-006",
                    "a file would have to be downloaded whole",
                    seen=f"{path}, {size} bytes",
                    allowed="patches and files that are on the device",
                    hint="allow the full download, on a link that may carry it",
                )
            self._fetch_file(path, size, digest, target, cost)
        (target / MANIFEST_NAME).write_bytes(offered.manifest_bytes)
        (target / SIGNATURE_NAME).write_bytes(offered.signature)
        shutil.rmtree(self._parts(target), ignore_errors=True)
        return cost

    def _patch(
        self,
        manifest: Manifest,
        path: str,
        target: Path,
        at_hand: Mapping[str, Path],
        cost: Cost,
    ) -> bool:
        """Make a file from one on the device and a patch; False where there is none."""
        size, digest = manifest.files()[path]
        fitting = [
            delta
            for delta in manifest.deltas
            if delta.path == path
            and delta.from_sha256 in at_hand
            and fits_memory(_size(at_hand[delta.from_sha256]), size)
        ]
        for delta in sorted(fitting, key=lambda delta: delta.bytes):
            base = _intact(at_hand[delta.from_sha256], delta.from_sha256)
            if base is None:
                continue
            patch = self._parts(target) / delta.sha256
            got = fetch_payload(
                self.source,
                delta.sha256,
                delta.bytes,
                patch,
                limits=self.limits,
                clock=self.clock,
            )
            new = apply_patch(
                delta.codec, base, patch.read_bytes(), size_bytes=size, sha256=digest
            )
            (target / path).write_bytes(new)
            cost.fetched_bytes += got.fetched_bytes
            cost.resumed_bytes += got.resumed_bytes
            cost.patched_files += 1
            return True
        return False

    def _fetch_file(
        self, path: str, size: int, digest: str, target: Path, cost: Cost
    ) -> None:
        got = fetch_payload(
            self.source,
            digest,
            size,
            target / path,
            part=self._parts(target) / f"{digest}.part",
            limits=self.limits,
            clock=self.clock,
        )
        cost.fetched_bytes += got.fetched_bytes
        cost.resumed_bytes += got.resumed_bytes

    def _parts(self, target: Path) -> Path:
        """Half-fetched files lie beside the tree, never inside it."""
        return target.parent / f"parts-{target.name[:16]}"

    def _small(self, digest: str, where: str) -> bytes:
        """Return a small file by digest; its length is capped, not signed."""
        parts: list[bytes] = []
        with self.source.open(payload_path(digest)) as stream:
            arriving = paced(stream.chunks, where, limits=self.limits, clock=self.clock)
            for chunk in arriving:
                parts.append(chunk)
                if sum(map(len, parts)) > MAX_MANIFEST_BYTES:
                    break
        data = b"".join(parts)
        if hashlib.sha256(data).hexdigest() != digest:
            raise TrustError(
                "E-OTA-FETCH-004",
                "the repository sent other bytes than were signed",
                allowed=digest,
                where=where,
            )
        return data

    def _client(self, t_floor_ns: int) -> RepositoryClient:
        return RepositoryClient(
            self.source, self.metadata_dir, self.root, self.clock, t_floor_ns
        )


def _agree(name: str, signed: object, offered: object) -> None:
    if signed != offered:
        raise TrustError(
            "E-OTA-OFFER-001",
            f"the offer names another {name} than was signed",
            seen=offered,
            allowed=signed,
        )


def _at_hand(known: Sequence[Path]) -> Mapping[str, Path]:
    """Return {digest: file} as the slots' manifests say; copies are verified."""
    found: dict[str, Path] = {}
    for slot in known:
        try:
            data = read_file(slot / MANIFEST_NAME, max_bytes=MAX_MANIFEST_BYTES)
            manifest = parse_manifest(data)
        except (ContinuonError, OSError):
            continue
        for path, (_, digest) in manifest.files().items():
            found.setdefault(digest, slot / path)
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _intact(path: Path, digest: str) -> bytes | None:
    """Return a file that is on the device, None where the medium has lost it."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == digest else None


def _is(path: Path, size: int, digest: str) -> bool:
    """Whether the file is that one. A bad sector in an old slot blocks no update."""
    try:
        return hash_file(path, expected_bytes=size) == digest
    except (TrustError, OSError):
        return False


def _copy(source: Path, target: Path, size: int, digest: str) -> bool:
    """Copy a file that is on the device; a damaged one is not taken over."""
    if not source.exists() or not _is(source, size, digest):
        return False
    shutil.copyfile(source, target)
    return _is(target, size, digest)


def _drop_strangers(target: Path, wanted: set[str]) -> None:
    for path in sorted(target.rglob("*"), reverse=True):
        name = path.relative_to(target).as_posix()
        if path.is_symlink() or (not path.is_dir() and name not in wanted):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
