"""Metadata and streams built anew from an allow-list: what is not named here stays.

Identifiers are replaced by HMAC-SHA256 under a secret that is never written anywhere,
so that the same robot gets the same tag in two exports and nobody without the secret
can test a guess (RFC 2104).
"""

from __future__ import annotations

import hashlib
import hmac
import re

import attrs

import continuon
from continuon.rlds.episode import (
    CAR_FRAME,
    HOST_CLOCKS,
    EpisodeMetadata,
    Origin,
    Share,
    StreamSpec,
)
from continuon.rlds.importers.locate import Format
from continuon.rlds.plan_episode import REQUIRED_BLOCKS
from continuon.rlds.sharing import Safety
from continuon.rlds.sharing_level import LEAVES, SharingLevel

__all__ = ["Anonymiser", "pseudonym"]

_FRAMES = frozenset({"base_link", CAR_FRAME})
_KNOWN_NAME = re.compile(
    r"steering|throttle|speed_mps|steering_position|yaw_rate_rad_s"
    r"|joint_\d{1,2}(_rad|_rad_s|_nm)?|gripper(_\d)?"
)
_UNITS = frozenset({"1", "rad", "rad/s", "rad/s2", "m", "m/s", "m/s2", "N", "N m"})
_ROBOT_MODELS = frozenset({"donkeycar", "car", "arm"})
_PROVENANCE = {
    "stamp_source": frozenset({"capture", "write", "conversion", "nominal"}),
    "format": frozenset(member.value for member in Format),
    "source_origin": frozenset(member.value for member in Origin),
}


def pseudonym(secret: bytes, kind: str, value: str) -> str:
    """Return a tag of 16 hex digits for an identifier of some kind."""
    message = f"{kind}\0{value}".encode()
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:16]


@attrs.frozen
class Anonymiser:
    """The secret, the level and the tag of one export."""

    secret: bytes = attrs.field(repr=False)
    level: SharingLevel
    origin_tag: str

    def tag(self, kind: str, value: str | None) -> str | None:
        """Return the pseudonym of an identifier, None where there is none."""
        return None if value is None else pseudonym(self.secret, kind, value)

    def clock(self, name: str) -> str:
        """Return a host clock's name, another's pseudonym."""
        return name if name in HOST_CLOCKS else f"clock-{self.tag('clock', name)}"

    def metadata(self, metadata: EpisodeMetadata) -> EpisodeMetadata:
        """Return metadata built anew from allowed fields."""
        leaves, secret = LEAVES[self.level], self.secret
        model, frame = metadata.robot_model, metadata.frame_convention
        share, rating = metadata.share, metadata.safety.content_rating
        allowed = set(REQUIRED_BLOCKS) - (set() if leaves.sound else {"audio"})
        listing = (
            {"license": share.license, "slug": share.slug, "title": share.title}
            if leaves.listing
            else {}
        )
        return EpisodeMetadata(
            schema_version=metadata.schema_version,
            episode_id=f"episode-{pseudonym(secret, 'episode', metadata.episode_id)}",
            origin=metadata.origin,
            xr_mode=metadata.xr_mode,
            control_role=metadata.control_role,
            action_source=metadata.action_source,
            environment_id=pseudonym(secret, "environment", metadata.environment_id),
            robot_id=pseudonym(secret, "robot", metadata.robot_id),
            robot_model=(
                model if model in _ROBOT_MODELS else pseudonym(secret, "model", model)
            ),
            frame_convention=(
                frame if frame in _FRAMES else pseudonym(secret, "frame", frame)
            ),
            task=metadata.task if leaves.task else "",
            tags=(
                f"export-origin:{self.origin_tag}",
                f"sharing-level:{self.level}",
                "anonymization:hmac-sha256",
            ),
            software={"continuon": continuon.__version__},
            start_wall_ns=0,
            duration_ns=metadata.duration_ns,
            control_rate_hz=metadata.control_rate_hz,
            camera_rate_hz=metadata.camera_rate_hz,
            provenance={
                key: metadata.provenance[key]
                for key, words in _PROVENANCE.items()
                if metadata.provenance.get(key) in words
            },
            capabilities=tuple(c for c in metadata.capabilities if c in allowed),
            safety=Safety(content_rating=rating if leaves.listing else None),
            share=Share(
                public=share.public and self.level is SharingLevel.PUBLIC,
                pii_attested=share.pii_attested,
                pii_cleared=share.pii_cleared,
                pii_redacted=share.pii_redacted,
                pending_review=share.pending_review,
                tags=share.tags if leaves.listing else (),
                **listing,
            ),
        )

    def spec(self, spec: StreamSpec) -> StreamSpec:
        """Return a stream's spec: known component names stay, others are numbered."""
        names = tuple(
            name if _KNOWN_NAME.fullmatch(name) else f"component_{number}"
            for number, name in enumerate(spec.names)
        )
        units = tuple(unit if unit in _UNITS else "unknown" for unit in spec.units)
        return attrs.evolve(
            spec, names=names, clock=self.clock(spec.clock), units=units
        )
