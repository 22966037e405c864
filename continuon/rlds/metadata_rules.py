"""Rules about what an episode says of itself, consent and personal data included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from continuon.rlds.episode import EpisodeMetadata, role_problem
from continuon.rlds.findings import Finding, found
from continuon.rlds.sharing import rating_problems, share_problems

__all__ = ["looks_personal", "metadata_findings"]

_PERSONAL = re.compile(
    r"[\w.+-]+@[\w-]+\.\w+"  # an e-mail address
    r"|\b(user|operator|email|account|owner|phone|contact|session)[_ ]?(id)?:"
    r"|\+\d[\d ()/-]{7,}\d|\b0\d{2,4}[ /-]\d[\d /-]{4,}\d"  # a telephone number
    r"|\b(?:\d{1,3}\.){3}\d{1,3}\b"  # an address on a network
    r"|/home/|/Users/|[A-Z]:\\\\Users",
    re.IGNORECASE,
)


def looks_personal(texts: Iterable[str]) -> Iterator[str]:
    """Yield the texts that hold an address, a number or a name by their form.

    A form is all that can be seen here: a text that passes may still name somebody, so
    clearance is a person's word, and this only contradicts it.
    """
    return (text for text in texts if _PERSONAL.search(text))


def metadata_findings(metadata: EpisodeMetadata) -> Iterator[Finding]:
    """Yield what is wrong with an episode's metadata."""
    problem = role_problem(
        metadata.xr_mode, metadata.control_role, metadata.action_source
    )
    if problem:
        yield found("ROLE-001", "metadata", problem)
    required = ("environment_id", "robot_id", "robot_model", "frame_convention")
    for field in (*required, "software"):
        if not getattr(metadata, field):
            yield found("META-001", f"metadata.{field}", "empty")
    if not metadata.start_wall_ns:
        yield found("META-002", "metadata.start_wall_ns", "0")
    for problem in share_problems(metadata.share):
        yield found("SHARE-001", "metadata.share", problem)
    for problem in rating_problems(metadata.safety):
        yield found("META-003", "metadata.safety", problem)
    if metadata.share.public:
        yield from _public(metadata)


def _public(metadata: EpisodeMetadata) -> Iterator[Finding]:
    if metadata.owner:
        yield found("SHARE-002", "metadata.owner", "an owner")
    texts = [metadata.task, *metadata.tags, *metadata.share.tags]
    texts += [metadata.share.title or "", *metadata.provenance.values()]
    count = len(list(looks_personal(texts)))
    if count:
        yield found("SHARE-002", "metadata", f"{count} texts")
    if metadata.safety.content_rating is None:
        yield found("SHARE-003", "metadata.safety", "no content rating")
