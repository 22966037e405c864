"""Consent: what the owner allows, and what a reader should be warned of."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

__all__ = [
    "AUDIENCES",
    "LANGUAGES",
    "VIOLENCE",
    "ContentRating",
    "Safety",
    "Share",
    "rating_problems",
    "share_problems",
]

AUDIENCES = ("general", "teen", "adult")
VIOLENCE = ("none", "mild", "graphic")
LANGUAGES = ("clean", "some", "strong")


@attrs.frozen(kw_only=True)
class ContentRating:
    """What is to be seen and heard, by the plan's words."""

    audience: str = "general"
    violence: str = "none"
    language: str = "clean"


@attrs.frozen(kw_only=True)
class Safety:
    """What somebody judged of the content; None where nobody did."""

    content_rating: ContentRating | None = None
    intended_audience: str | None = None


@attrs.frozen(kw_only=True)
class Share:
    """What the owner allows. Nothing is public unless this says so.

    Attributes:
        pii_attested: the owner says that no personal data is in it.
        pii_cleared: a review found none, or it was redacted.
        pii_redacted: personal data was taken out.
        pending_review: the review is not over.
    """

    public: bool = False
    pii_attested: bool = False
    pii_cleared: bool = False
    pii_redacted: bool = False
    pending_review: bool = True
    license: str | None = None
    slug: str | None = None
    title: str | None = None
    tags: tuple[str, ...] = ()


def share_problems(share: Share) -> Iterator[str]:
    """Yield what stands against an episode being public; nothing if it is not."""
    if not share.public:
        return
    if not share.pii_attested:
        yield "the owner has not attested that no personal data is in it"
    if not share.pii_cleared:
        yield "it is not cleared of personal data"
    if share.pending_review:
        yield "its review is pending"
    if not share.license:
        yield "it names no license"


def rating_problems(safety: Safety) -> Iterator[str]:
    """Yield the words of a content rating that are not the plan's."""
    rating = safety.content_rating
    if rating is None:
        return
    for name, value, allowed in (
        ("audience", rating.audience, AUDIENCES),
        ("violence", rating.violence, VIOLENCE),
        ("language", rating.language, LANGUAGES),
    ):
        if value not in allowed:
            yield f"{name} {value!r} is not one of {', '.join(allowed)}"
