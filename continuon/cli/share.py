"""`continuon export` and the check of what was exported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from continuon.cli.render import Result
from continuon.environment import read_environment
from continuon.home import Home

if TYPE_CHECKING:
    from continuon.bundle.keys import SigningKey
    from continuon.rlds.redact import FindBoxes

__all__ = ["export", "verify"]


def export(
    *,
    episodes_dir: Path | None = None,
    output_dir: Path | None = None,
    level: Literal["training", "partner", "public"] = "training",
    redact: Literal["nothing", "faces"] = "nothing",
    key: Path | None = None,
    home: Path | None = None,
) -> Result:
    """Write anonymised episodes that may leave the robot, signed.

    Parameters
    ----------
    episodes_dir
        Folder of recordings or of the plan's directories; default rlds/episodes below
        the home.
    output_dir
        Where the export goes; default rlds/export below the home.
    level
        Who will read it: numbers and pictures for training; words and sound too for a
        partner, where cleared; what its owner listed for the public.
    redact
        Make faces unreadable in every picture (needs the `faces` extra).
    key
        Private key that signs the manifest; default keys/export.pem below the home,
        made on first use.
    home
        Whose secret and key these are; default CONTINUON_HOME, else
        /opt/continuonos/brain.
    """
    from continuon.pipeline.secret import export_secret, export_signer
    from continuon.rlds.export import export_episodes
    from continuon.rlds.sharing_level import SharingLevel

    place = Home(home) if home is not None else Home.from_environment()
    find_boxes: FindBoxes | None = None
    if redact == "faces":
        from continuon.rlds.faces import face_finder

        find_boxes = face_finder()
    report = export_episodes(
        episodes_dir or place.episodes,
        output_dir or place.export,
        secret=export_secret(place),
        origin_tag=read_environment().export_origin,
        level=SharingLevel(level),
        signer=export_signer(place) if key is None else _key(key),
        find_boxes=find_boxes,
    )
    return Result(data=report, exit_code=report.exit_code)


def _key(path: Path) -> SigningKey:
    from continuon.bundle.keyfiles_io import load_private_key

    return load_private_key(path, password=os.environ.get("CONTINUON_KEY_PASSWORD"))


def verify(folder: Path, *, key: Path | None = None) -> Result:
    """Check an export's signature and every file of it.

    Parameters
    ----------
    folder
        The export.
    key
        Public key of who made it; default keys/export.pub.pem below the home.
    """
    from continuon.bundle.public_key_io import load_public_key
    from continuon.rlds.export_manifest import verify_export

    path = key or Home.from_environment().keys / "export.pub.pem"
    return Result(data=verify_export(folder, load_public_key(path)))
