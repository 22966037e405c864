"""What an importer keeps beside the episodes: losses by code, notes, its options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import attrs

from continuon.errors import UsageError
from continuon.rlds.importers.report import Loss
from continuon.rlds.importers.write import ImportedEpisode, ImportedPlan

__all__ = ["LOSSES", "Harvest", "ImportOptions", "Importer", "Located"]

LOSSES: Mapping[str, str] = {
    "E-RLDS-TUB-010": "the catalog is named by the manifest but absent",
    "E-RLDS-TUB-011": "rows in catalogs that the manifest does not name (stale)",
    "E-RLDS-TUB-012": "rows that are no JSON object or lack their index or time",
    "E-RLDS-TUB-013": "rows whose image a later session overwrote (index used twice)",
    "E-RLDS-TUB-014": "rows that the autopilot drove, or whose driver is not known",
    "E-RLDS-TUB-015": "rows whose steering or throttle is absent, not finite or > 1",
    "E-RLDS-TUB-016": "rows whose image is missing",
    "E-RLDS-TUB-017": "rows whose image is no whole JPEG",
    "E-RLDS-TUB-018": "images that no record names",
    "E-RLDS-TUB-019": "rows at which time runs backwards: the episode is cut there",
    "E-RLDS-LOSS-001": "members of the archive that are no plain files of it",
    "E-RLDS-LOSS-002": "files that the source's tables name and that are absent",
    "E-RLDS-LOSS-003": "files that cannot be read, or only up to their damage",
    "E-RLDS-LOSS-004": "episodes without steps, or whose fields contradict each other",
    "E-RLDS-LOSS-005": "steps whose action is not finite: the episode is cut there",
    "E-RLDS-LOSS-006": "steps whose main picture is missing or not whole: cut there",
    "E-RLDS-LOSS-007": "pictures that are missing or not whole, left out",
    "E-RLDS-LOSS-008": "fields of a kind that no stream of an episode holds",
    "E-RLDS-LOSS-009": "numbers that float32 cannot hold exactly, rounded",
    "E-RLDS-LOSS-010": "pictures compressed again as JPEG, not as they were",
    "E-RLDS-LOSS-011": "steps whose time does not advance: the episode is cut there",
    "E-RLDS-LOSS-012": "files beside the recording that belong to no stream of it",
    "E-RLDS-LOSS-013": "lines of a table that cannot be read",
    "E-RLDS-LOSS-014": "samples that no picture, number or text of ours can hold",
    "E-RLDS-LOSS-015": "pictures of a film that has fewer frames than its table rows",
    "E-RLDS-LOSS-016": "samples stamped before the sample that they follow",
    "E-RLDS-LOSS-017": "episodes that broke off while they were written, left out",
    "E-RLDS-LOSS-018": "samples behind the place where a film breaks off, left out",
    "E-RLDS-LOSS-019": "texts with half a character in them, spelt out as an escape",
    "E-RLDS-LOSS-020": "steps that the source itself masked: the episode is cut there",
}
"""Code -> what is lost. A source whose every entry is zero imports with exit 0."""


@attrs.frozen(kw_only=True)
class ImportOptions:
    """What a person may say about a source that it does not say itself.

    Attributes:
        episode_steps: a longer drive of a tub is cut; other formats have episodes.
        rate_hz: nominal rate of steps that carry no time at all.
        camera: the picture field or topic that becomes `rgb`; None for the first.
        action: the topic of a bag that holds the commands; None for the one of a
            usual type, if there is one.
        state: the topic of a bag that holds the robot's state; None likewise.
        jpeg_quality: films and raw pictures become JPEG of this quality; None for PNG,
            which loses nothing.
        depth_unit_m: metres of one count of depth; None for what the format says.
    """

    episode_steps: int = 50
    rate_hz: float = 10.0
    camera: str | None = None
    action: str | None = None
    state: str | None = None
    jpeg_quality: int | None = None
    depth_unit_m: float | None = None

    def __attrs_post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.episode_steps < 1:
            raise UsageError(
                "E-RLDS-IMPORT-005",
                "an episode has at least one step",
                seen=self.episode_steps,
                allowed="1 or more",
            )
        if not 0 < self.rate_hz <= 1000:
            raise UsageError(
                "E-RLDS-IMPORT-011",
                "a nominal rate is above 0 and at most 1000 Hz",
                seen=self.rate_hz,
            )
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise UsageError(
                "E-RLDS-JPEG-005",
                "no such JPEG quality",
                seen=self.jpeg_quality,
                allowed="1 to 100",
            )
        if self.depth_unit_m is not None and not 0 < self.depth_unit_m <= 1:
            raise UsageError(
                "E-RLDS-IMPORT-012",
                "a count of depth is above 0 and at most 1 m",
                seen=self.depth_unit_m,
            )

    def check_named(self, option: str, among: Iterable[str]) -> None:
        """Refuse a field or topic that the source does not have.

        The first one in its place would be another camera than the one asked for.

        Raises:
            UsageError: E-RLDS-IMPORT-013.
        """
        named, known = getattr(self, option), sorted(among)
        if named is not None and named not in known:
            raise UsageError(
                "E-RLDS-IMPORT-013",
                f"the source holds nothing of this name that could be the {option}",
                where=f"--{option}",
                seen=named,
                allowed=", ".join(known) or "none is here",
            )


@attrs.frozen(kw_only=True)
class Located:
    """A source that was found: its root, and the name by which episodes call it."""

    root: Path
    name: str
    where: Path


@attrs.define
class Harvest:
    """Losses and notes, collected while episodes are read."""

    losses: Counter[str] = attrs.field(factory=Counter)
    details: dict[str, list[str]] = attrs.field(factory=dict)
    notes: list[str] = attrs.field(factory=list)

    def lose(self, code: str, detail: str = "", count: int = 1) -> None:
        """Count a loss; the first five different details are shown with it."""
        if not count:
            return
        self.losses[code] += count
        shown = self.details.setdefault(code, [])
        if detail and detail not in shown:
            shown.append(detail)

    def note(self, text: str) -> None:
        """Keep what a person should know, once."""
        if text not in self.notes:
            self.notes.append(text)

    def named(self) -> tuple[Loss, ...]:
        """Return the losses with their texts, by code."""
        named = []
        for code, count in sorted(self.losses.items()):
            shown = ", ".join(name[:80] for name in self.details.get(code, ())[:5])
            text = LOSSES[code] + (f": {shown}" if shown else "")
            named.append(Loss(code, text, count))
        return tuple(named)


Importer = Callable[
    [Located, Harvest, ImportOptions], Iterator[ImportedEpisode | ImportedPlan]
]
"""Reads a source episode by episode, and says into the harvest what it lost."""
