"""What our own LeRobot data sets say beside the tables: `meta/continuon.json`.

LeRobot has no words for who drove, where, and whether it was a simulation. What this
library once wrote there is taken back, so that an episode that a policy drove does not
return as a person's, nor a simulated one without a word of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import attrs
import msgspec

from continuon.rlds.episode import EndReason, EpisodeMetadata
from continuon.rlds.importers.harvest import Harvest

__all__ = ["OWN_FILE", "OwnWords", "own_words"]

OWN_FILE = Path("meta", "continuon.json")
_KEPT = (
    "schema_version",
    "xr_mode",
    "control_role",
    "action_source",
    "environment_id",
    "robot_id",
    "robot_model",
    "frame_convention",
    "owner",
    "safety",
    "share",
    "start_wall_ns",
    "duration_ns",
)


@attrs.frozen(kw_only=True)
class OwnWords:
    """What was written of one episode.

    Attributes:
        depth_unit_m: metres of one count of depth; None where there is none.
    """

    metadata: EpisodeMetadata
    end_reason: EndReason
    depth_unit_m: Annotated[float, msgspec.Meta(gt=0)] | None = None

    def taken_into(self, made: EpisodeMetadata) -> EpisodeMetadata:
        """Return an import's metadata with these words, its origin `imported` still.

        The origin that the source had is kept as `source_origin` and as a tag.
        """
        own = self.metadata
        said = f"source-origin:{own.origin}"
        provenance = {
            **own.provenance,
            **made.provenance,
            "source_origin": own.origin.value,
            "source_episode_id": own.episode_id,
        }
        return attrs.evolve(
            made,
            **{name: getattr(own, name) for name in _KEPT},
            tags=tuple(dict.fromkeys((*made.tags, *own.tags, said))),
            software={**own.software, **made.software},
            provenance=provenance,
        )


@attrs.frozen
class _File:
    episodes: tuple[OwnWords, ...]


def own_words(root: Path, harvest: Harvest) -> Mapping[int, OwnWords]:
    """Return what was written of each episode, by its index; nothing in others' sets.

    A file that is there and damaged is a named loss.
    """
    path = root / OWN_FILE
    if not path.is_file():
        return {}
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        harvest.lose("E-RLDS-LOSS-003", f"{OWN_FILE} ({str(error)[:80]})")
        return {}
    return dict(enumerate(found.episodes))
