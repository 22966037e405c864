"""How far an episode may go, what consent that takes, and what goes with it."""

from __future__ import annotations

from enum import StrEnum

import attrs

from continuon.errors import DataError
from continuon.rlds.episode import EpisodeMetadata
from continuon.rlds.sharing import share_problems

__all__ = ["LEAVES", "Leaves", "SharingLevel", "check_may_leave"]


class SharingLevel(StrEnum):
    """Who will read it: the owner's own trainer, a named partner, or anybody."""

    TRAINING = "training"
    PARTNER = "partner"
    PUBLIC = "public"


@attrs.frozen(kw_only=True)
class Leaves:
    """What leaves beside numbers and pictures.

    Attributes:
        task: the language instruction.
        words: dialog, annotations, plans, tool calls, what the workstation showed.
        sound: audio blobs.
        listing: license, title, slug, tags and rating of the owner's own listing.
    """

    task: bool = False
    words: bool = False
    sound: bool = False
    listing: bool = False


LEAVES = {
    SharingLevel.TRAINING: Leaves(),
    SharingLevel.PARTNER: Leaves(task=True, words=True, sound=True),
    SharingLevel.PUBLIC: Leaves(task=True, listing=True),
}
"""Owner, host, paths, provenance and free metadata leave at no level."""


def check_may_leave(metadata: EpisodeMetadata, level: SharingLevel) -> None:
    """Return if the owner's consent covers a level.

    Raises:
        DataError: it does not; what is missing is named.
    """
    share = metadata.share
    if level is SharingLevel.PUBLIC:
        problems = list(share_problems(share))
        if not share.public:
            problems = ["the owner has not made it public"]
        elif metadata.safety.content_rating is None:
            problems.append("its content was never rated")
    elif level is SharingLevel.PARTNER or share.public:
        problems = [
            text
            for missing, text in (
                (not share.pii_cleared, "it is not cleared of personal data"),
                (share.pending_review, "its review is pending"),
            )
            if missing
        ]
    else:
        problems = []
    if problems:
        raise DataError(
            "E-RLDS-EXPORT-006",
            f"the owner's consent does not cover {level}: {'; '.join(problems)}",
            seen=f"public={share.public}, pii_cleared={share.pii_cleared}, "
            f"pending_review={share.pending_review}",
            hint="a person must clear it; training needs no clearance unless public",
        )
