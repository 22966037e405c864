"""The metadata of a repository while it is being changed, and who signs which part.

Targets are listed by the `targets` role, or by a publisher's own role that it delegates
to: a publisher signs below `publishers/NAME/` alone, and nothing there needs the
repository's targets keys.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs

from continuon.bundle.keys import SigningKey, VerifyingKey
from continuon.clock import Clock
from continuon.durable import replace_file
from continuon.errors import DataError, MissingPackageError, UsageError
from continuon.ota.channel import Channel, channel_path, parse_channel
from continuon.ota.disk import DiskStore
from continuon.ota.repository_keys import ROLES, RepositoryKeys

__all__ = ["Expiry", "Publisher", "RepositoryMetadata"]


_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


@attrs.frozen(kw_only=True)
class Expiry:
    """Days until each role's metadata must have been signed again."""

    root: float = 365.0
    targets: float = 90.0
    snapshot: float = 30.0
    timestamp: float = 7.0


@attrs.frozen
class Publisher:
    """Somebody who signs what lies below `publishers/NAME/`, with keys of their own."""

    name: str
    keys: tuple[SigningKey, ...] = ()


class RepositoryMetadata:
    """The metadata of one repository while it is being changed."""

    def __init__(
        self,
        path: Path,
        keys: RepositoryKeys,
        expiry: Expiry,
        clock: Clock,
        *,
        publisher: Publisher | None = None,
    ) -> None:
        self.path = path
        self.keys = keys
        self.expiry = expiry
        self.clock = clock
        self.publisher = publisher
        self.holder = "targets" if publisher is None else publisher.name
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
        if self.publisher is not None:
            self._open_publisher(self.publisher)

    def channel(self, name: str) -> Channel:
        """Return a channel's offers, none where it is new."""
        path = channel_path(name)
        info = self.roles[self.holder].signed.targets.get(path)
        if info is None:
            return Channel(name=name)
        data = self._target_file(path, info.hashes["sha256"]).read_bytes()
        return parse_channel(data, where=path)

    def set_target(self, path: str, data: bytes) -> None:
        """Write a target and list it."""
        tuf = _tuf()
        info = tuf.TargetFile.from_data(path, data, ["sha256"])
        replace_file(self._target_file(path, info.hashes["sha256"]), data)
        self.roles[self.holder].signed.targets[path] = info
        self.changed.add(self.holder)

    def drop_target(self, path: str) -> None:
        """Take a target off the list."""
        self.roles[self.holder].signed.targets.pop(path, None)
        self.changed.add(self.holder)

    def close(self) -> dict[str, int]:
        """Sign what changed, write it, and the timestamp last."""
        tuf = _tuf()
        if "root" in self.changed:
            self._sign_and_write("root")
        snapshot = self.roles["snapshot"].signed
        for role in dict.fromkeys(("targets", self.holder)):
            if role in self.changed:
                self._sign_and_write(role)
            version = self.roles[role].signed.version
            snapshot.meta[f"{role}.json"] = tuf.MetaFile(version=version)
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

    def delegate(
        self, name: str, public_keys: Sequence[VerifyingKey], threshold: int
    ) -> None:
        """Let a publisher sign below `publishers/NAME/`, or give it other keys.

        Raises:
            UsageError: E-OTA-REPO-006 the name, -007 a threshold that cannot be met.
        """
        from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

        tuf = _tuf()
        if _NAME.fullmatch(name) is None or name in self.roles:
            raise UsageError(
                "E-OTA-REPO-006",
                "a publisher cannot have this name",
                seen=name,
                allowed="lower-case letters, digits and -, and no role of TUF",
            )
        prints = {key.fingerprint for key in public_keys}
        if not 1 <= threshold <= len(prints):
            raise UsageError(
                "E-OTA-REPO-007",
                "so many distinct keys of the publisher cannot agree",
                seen=threshold,
                allowed=f"1 to {len(prints)}",
            )
        targets = self.roles["targets"].signed
        if targets.delegations is None:
            targets.delegations = tuf.Delegations({}, {})
        base = f"publishers/{name}"
        paths = [f"{base}/channels/*.json", f"{base}/bundles/*/model.sig"]
        role = tuf.DelegatedRole(name, [], threshold, True, paths)  # noqa: FBT003
        targets.delegations.roles[name] = role
        for key in public_keys:
            targets.add_key(SSlibKey.from_crypto(key.handle), name)
        self.changed.add("targets")

    def _open_publisher(self, publisher: Publisher) -> None:
        tuf = _tuf()
        delegations = self.roles["targets"].signed.delegations
        if delegations is None or publisher.name not in (delegations.roles or {}):
            raise UsageError(
                "E-OTA-REPO-008",
                "the repository delegates to no such publisher",
                seen=publisher.name,
                hint="continuon ota delegate, with the repository's targets keys",
            )
        role = publisher.name
        if f"{role}.json" in self.roles["snapshot"].signed.meta:
            self.roles[role] = self._load(role)
        else:
            self.roles[role] = tuf.Metadata(tuf.Targets())
            self.roles[role].signed.version = 0

    def _signers(self, role: str) -> list[Any]:
        if self.publisher is None or role != self.publisher.name:
            return self.keys.signers(role)
        from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

        signers = [CryptoSigner(key.handle) for key in self.publisher.keys]
        delegated = self.roles["targets"].signed.delegations.roles[role]
        known = set(delegated.keyids)
        ours = {signer.public_key.keyid for signer in signers}
        if len(ours & known) < delegated.threshold:
            raise UsageError(
                "E-OTA-KEYS-001",
                f"too few keys of the publisher {role} are here to sign",
                seen=len(ours & known),
                allowed=f"at least {delegated.threshold}",
                hint="bring the publisher's keys together on this machine",
            )
        return signers

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
        days = getattr(self.expiry, role, self.expiry.targets)
        metadata.signed.expires = now + timedelta(days=days)
        metadata.signatures.clear()
        extra = self.also_root if role == "root" else []
        for signer in (*self._signers(role), *extra):
            metadata.sign(signer, append=True)
        name = f"{metadata.signed.version}.{role}.json"
        folder = self.path / "metadata"
        replace_file(
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


def _tuf() -> Any:
    try:
        from tuf.api import metadata
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "tuf", "ota", purpose="publishing bundles"
        ) from error
    return metadata
