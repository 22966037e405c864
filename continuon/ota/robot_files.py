"""A robot's own key, its claim code, and the grant that it holds, as files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Protocol

import attrs

from continuon.bundle.keyfiles_io import load_private_key, new_key
from continuon.bundle.keys import SigningKey
from continuon.bundle.public_key_io import load_public_key
from continuon.errors import UsageError
from continuon.ota.disk import DiskStore
from continuon.ota.entitlement import Entitlement, GrantEntitlement, OpenEntitlement
from continuon.ota.grant import Grant, RobotIdentity, open_grant
from continuon.ota.record import Record
from continuon.ota.requests import (
    GrantRequest,
    new_claim_code,
    outcomes_of,
    robot_name,
    seal_enrolment,
    seal_request,
)

__all__ = ["Office", "RobotFiles"]

ROBOT_KEY = "robot.pem"
OFFICE_KEY = "grant.pub.pem"


class Office(Protocol):
    """A grant office, at the other end of a wire or in this process."""

    def enrol(self, message: bytes, /) -> str:
        """Make a robot known; return the name that it has there."""
        ...

    def grant(self, message: bytes, /) -> bytes:
        """Return a grant for a robot's signed request."""
        ...


@attrs.frozen
class RobotFiles:
    """Where a device keeps who it is: keys below `keys_dir`, the rest in `state_dir`.

    A device without the office's public key asks for no grants at all.
    """

    keys_dir: Path
    state_dir: Path

    @property
    def grant_path(self) -> Path:
        """Where the newest grant lies."""
        return self.state_dir / "grant.json"

    @property
    def office_key_path(self) -> Path:
        """The pinned public key of the grant office."""
        return self.keys_dir / OFFICE_KEY

    def identity(self) -> RobotIdentity | None:
        """Return who this robot is, None before it has a key."""
        public = self.keys_dir / "robot.pub.pem"
        if not public.exists():
            return None
        key = load_public_key(public)
        return RobotIdentity(robot_name(key), key.fingerprint)

    def entitlement(self) -> Entitlement:
        """Return what decides here whether a new bundle may be had.

        With the office's key and without a key of its own, no grant fits this robot.
        """
        if not self.office_key_path.exists():
            return OpenEntitlement()
        identity = self.identity() or RobotIdentity("a robot without a key", "")
        key = load_public_key(self.office_key_path)
        return GrantEntitlement.at(self.grant_path, [key], identity)

    def claim_code(self) -> str | None:
        """Return the code to show to whoever stands here, None once it was claimed."""
        path = self.state_dir / "claim_code"
        return path.read_text("ascii").strip() if path.exists() else None

    def enrol(self, office: Office) -> str:
        """Make the robot known with a fresh code, which is returned.

        Raises:
            TrustError: E-OTA-OFFICE-001, somebody owns it already.
        """
        code = new_claim_code()
        office.enrol(seal_enrolment(self._key(), code))
        self._write("claim_code", code.encode("ascii"), mode=0o600)
        return code

    def request(
        self, office: Office, record: Record, *, bundle: str | None = None
    ) -> Grant:
        """Ask for a grant, check that it answers this very request, and keep it.

        The request tells the office how bundles did here.

        Raises:
            UsageError: E-OTA-GRANT-013, the office's public key is not pinned here.
            TrustError: E-OTA-OFFICE-... it refuses, E-OTA-GRANT-001 and -008 its answer
                is none; what was held before stays.
        """
        if not self.office_key_path.exists():
            raise UsageError(
                "E-OTA-GRANT-013",
                "this robot does not know the grant office's public key",
                where=self.office_key_path,
                hint="copy it there, by hand; its words can be compared",
            )
        key = self._key()
        nonce = secrets.token_hex(16)
        request = GrantRequest(
            robot_id=robot_name(key.public),
            nonce=nonce,
            bundle=bundle,
            outcomes=outcomes_of(record),
        )
        data = office.grant(seal_request(request, key))
        grant = open_grant(data, [load_public_key(self.office_key_path)])
        identity = RobotIdentity(robot_name(key.public), key.public.fingerprint)
        grant.check_answers(identity, nonce)
        self._write("grant.json", data, mode=0o644)
        (self.state_dir / "claim_code").unlink(missing_ok=True)
        return grant

    def _key(self) -> SigningKey:
        path = self.keys_dir / ROBOT_KEY
        if not path.exists():
            new_key(path)
        return load_private_key(path)

    def _write(self, name: str, data: bytes, *, mode: int) -> None:
        """Replace a small file whole: write aside, flush, rename, flush the name."""
        self.state_dir.mkdir(parents=True, exist_ok=True)
        store, aside = DiskStore(self.state_dir), f".{name}.new"
        store.write(aside, data)
        os.chmod(self.state_dir / aside, mode)  # noqa: PTH101
        store.sync_file(aside)
        store.rename(aside, name)
        store.sync_directory("")
