"""What an imported episode says of itself: its origin, and what it was made from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import continuon
from continuon.rlds.episode import (
    ActionSource,
    ControlRole,
    EpisodeMetadata,
    Origin,
    XrMode,
)
from continuon.rlds.file_sink import sha256_of
from continuon.rlds.importers.locate import Format
from continuon.rlds.importers.plain_json import spelt_out

__all__ = ["digest_of_files", "imported_metadata"]

_PREFIX = {
    Format.TUB: "tub",
    Format.TFDS: "rlds",
    Format.LEROBOT: "lerobot",
    Format.TUM: "tum",
    Format.RGBD: "rgbd",
    Format.ROSBAG1: "bag",
    Format.ROSBAG2: "bag",
    Format.MCAP: "mcap",
    Format.PLAN: "plan",
}


def imported_metadata(
    kind: Format,
    source_name: str,
    digest: str,
    ordinal: int,
    *,
    stamp_source: str,
    start_wall_ns: int = 0,
    task: str = "",
    robot_model: str = "unknown",
    frame_convention: str = "unknown",
    control_rate_hz: float | None = None,
    camera_rate_hz: float | None = None,
    facts: Mapping[str, str] | None = None,
) -> EpisodeMetadata:
    """Return the metadata of an episode that somebody else recorded.

    Its role is that of a demonstration by a person, for which foreign formats have no
    word; what the source does not say is "unknown", never guessed.

    `digest` is the SHA-256, as hex, of what it was made from, `ordinal` its number in
    the source. `stamp_source` says what its stamps are times of: "capture", "write",
    "conversion", or "nominal" where they were counted up and measure nothing. `facts`
    are more provenance.
    """
    name = re.sub(r"[^A-Za-z0-9_]+", "-", source_name).strip("-")[:40] or "unnamed"
    return EpisodeMetadata(
        episode_id=f"{_PREFIX[kind]}-{name}-{digest[:8]}-{ordinal:05d}",
        origin=Origin.IMPORTED,
        xr_mode=XrMode.TRAINER,
        control_role=ControlRole.HUMAN_TELEOP,
        action_source=ActionSource.HUMAN_TELEOP_XR,
        environment_id="unknown",
        robot_id="unknown",
        robot_model=robot_model,
        frame_convention=frame_convention,
        task=task,
        tags=("origin:imported", f"format:{kind}"),
        software={"continuon": continuon.__version__},
        start_wall_ns=start_wall_ns,
        control_rate_hz=control_rate_hz,
        camera_rate_hz=camera_rate_hz,
        provenance={
            "format": kind.value,
            "source_name": spelt_out(source_name),
            "source_sha256": digest,
            "stamp_source": stamp_source,
            **{spelt_out(k): spelt_out(v) for k, v in (facts or {}).items()},
        },
    )


def digest_of_files(files: Iterable[Path], root: Path) -> str:
    """Return one SHA-256 over the names and contents of files, in this order."""
    digest = hashlib.sha256()
    for file in files:
        line = f"{sha256_of(file)}  {file.relative_to(root)}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()
