"""What is on the device: its slots, verified or described, and never changed here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from continuon.bundle.keys import VerifyingKey
from continuon.bundle.manifest import MANIFEST_NAME
from continuon.bundle.manifest_codec import MAX_MANIFEST_BYTES, parse_manifest
from continuon.bundle.tree_io import read_file
from continuon.bundle.verify import VerifiedBundle, verify_bundle
from continuon.errors import ContinuonError, TrustError, UsageError
from continuon.ota.device_facts import triage_facts
from continuon.ota.disk import DiskStore, drop_page_cache
from continuon.ota.plans import INCOMING, SLOTS, TRIAGE
from continuon.ota.record import Record
from continuon.ota.reports import SlotFacts, StatusReport
from continuon.ota.slots import Slots

__all__ = ["Installed"]

_CHANNELS = "channels"
_MAX_CHANNEL_BYTES = 256


class Installed:
    """The bundles below `model_dir`, judged by `public_keys` with `threshold`."""

    def __init__(
        self, model_dir: Path, public_keys: Sequence[VerifyingKey], *, threshold: int
    ) -> None:
        self.model_dir = model_dir
        self.public_keys = tuple(public_keys)
        self.threshold = threshold
        self.slots = Slots(DiskStore(model_dir), self._check_slot, facts=triage_facts)

    def verify(self, directory: Path, *, expected: str | None = None) -> VerifiedBundle:
        """Return the verified bundle of a directory, which is `expected` if given.

        Raises:
            TrustError: E-BUNDLE-..., E-OTA-SLOT-002 for another bundle than expected.
        """
        bundle = verify_bundle(directory, self.public_keys, threshold=self.threshold)
        if expected is not None and bundle.bundle_id != expected:
            raise TrustError(
                "E-OTA-SLOT-002",
                "a slot holds another bundle than its name says",
                seen=bundle.bundle_id,
                allowed=expected,
                where=directory,
            )
        return bundle

    def slot_dir(self, bundle: str) -> Path:
        """Return the directory of a bundle's slot, there or not."""
        return self.model_dir / SLOTS / bundle

    def slot_dirs(self) -> list[Path]:
        """Return the directories of all slots."""
        return [self.slot_dir(name) for name in self.slots.store.entries(SLOTS)]

    def triage_dir(self, bundle: str) -> Path:
        """Return the directory of what tells why a bundle failed, there or not."""
        return self.model_dir / TRIAGE / bundle

    def note_channel(self, bundle: str, channel: str | None) -> None:
        """Remember the channel that a bundle was fetched from; None: it came by hand.

        Not durable by itself: staging flushes it with the bundle. What was forgotten
        counts as come by hand, for which grants must name the bundle.
        """
        store = self.slots.store
        kept = {*store.entries(SLOTS), *store.entries(INCOMING)}
        for name in store.entries(_CHANNELS):
            if name == bundle or name not in kept:
                store.remove(f"{_CHANNELS}/{name}")
        if channel is not None:
            store.make_directory(_CHANNELS)
            store.write(f"{_CHANNELS}/{bundle}", channel.encode("utf-8"))

    def channel_of(self, bundle: str) -> str | None:
        """Return where a bundle was fetched from, None if it came by hand."""
        path = f"{_CHANNELS}/{bundle}"
        if not self.slots.store.exists(path):
            return None
        data = self.slots.store.read(path, max_bytes=_MAX_CHANNEL_BYTES)
        return data.decode("utf-8", "replace") or None

    def roles(self) -> frozenset[str]:
        """Return the bundles that the record refers to."""
        return frozenset(self.slots.load().roles)

    def fetched(self) -> Path:
        """Return the directory of the one bundle that was fetched and not staged.

        Raises:
            UsageError: E-OTA-STATE-006, there is none.
        """
        names = self.slots.store.entries(INCOMING)
        ready = [name for name in names if not name.startswith("parts")]
        if len(ready) != 1:
            raise UsageError(
                "E-OTA-STATE-006",
                "there is no fetched bundle to stage",
                seen=f"{len(ready)} in {INCOMING}/",
                hint="continuon ota fetch, or give a bundle directory",
            )
        return self.model_dir / INCOMING / ready[0]

    def staged(self, record: Record) -> SlotFacts | None:
        """Return the newest spare slot that is newer than what was committed."""
        newer = [
            facts
            for facts in map(self.facts, self.slots.spare())
            if facts.release_counter > record.release_high
        ]
        return max(newer, key=lambda item: item.release_counter, default=None)

    def facts(self, bundle: str) -> SlotFacts:
        """Return what a slot's manifest says; for people, never for deciding."""
        directory = self.slot_dir(bundle)
        try:
            data = read_file(directory / MANIFEST_NAME, max_bytes=MAX_MANIFEST_BYTES)
            manifest = parse_manifest(data)
        except (ContinuonError, OSError):
            return SlotFacts(
                bundle=bundle,
                model_name="unreadable slot",
                version="?",
                release_counter=-1,
                directory=directory,
                origins=("unknown",),
                freeze_protection=False,
            )
        return SlotFacts(
            bundle=bundle,
            model_name=manifest.model_name,
            version=manifest.version,
            release_counter=manifest.release_counter,
            directory=directory,
            origins=manifest.origins,
            freeze_protection=self.channel_of(bundle) is not None,
        )

    def status(self, record: Record, *, entitlement: str) -> StatusReport:
        """Return what runs, what is good, what failed and why, and what comes next."""
        staged = self.staged(record)
        last = record.failed[-1] if record.failed else None
        triage = self.triage_dir(last.bundle) if last else None
        roles = (record.active, record.good, record.previous)
        active, good, previous = (self.facts(b) if b else None for b in roles)
        return StatusReport(
            active=active,
            good=good,
            previous=previous,
            staged=staged,
            on_trial=record.trial is not None,
            tries_left=record.trial.tries_left if record.trial else None,
            failed=record.failed,
            triage=triage if triage is not None and triage.is_dir() else None,
            release_high=record.release_high,
            entitlement=entitlement,
            next_step=_next_step(
                record,
                staged,
                newest_failed=last is not None
                and last.counts
                and self.facts(last.bundle).release_counter > record.release_high,
            ),
        )

    def _check_slot(self, path: str, bundle: str) -> None:
        """Verify from the medium, not from what was just written to memory."""
        directory = self.model_dir / path
        if directory.is_dir():
            drop_page_cache(directory)
        self.verify(directory, expected=bundle)


def _next_step(record: Record, staged: SlotFacts | None, *, newest_failed: bool) -> str:
    if record.trial is not None:
        return "drive the soak, then commit or roll back"
    if staged is not None:
        return f"activate {staged.version}"
    if newest_failed:
        return "check for a repaired bundle; the failed one waits for --retry"
    if record.active is None:
        return "stage a first bundle"
    return "check for a newer bundle"
