"""The updater: what a command line or a robot calls.

It holds the writer's lock for each change, verifies with the keys it was given, and
lets every reason through verbatim. What runs is changed by `activate`, `rollback` and
`recover` alone, and by them only in the record: the control loop switches by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import continuon
from continuon.bundle.keys import VerifyingKey
from continuon.bundle.manifest import Manifest
from continuon.bundle.safety import SafetyManifest, merge_safety
from continuon.clock import Clock, SystemClock
from continuon.errors import GateMissedError, UsageError
from continuon.ota.channel import reason_to_wait
from continuon.ota.clearance import ask_for, note_uptime
from continuon.ota.compat import Device, check_fit
from continuon.ota.disk import plain_io
from continuon.ota.download import Downloader
from continuon.ota.entitlement import Entitlement, OpenEntitlement
from continuon.ota.gate import GateReport, gate_of, judge
from continuon.ota.grant import Ask
from continuon.ota.installed import Installed
from continuon.ota.lock_io import hold_lock
from continuon.ota.plans import INCOMING
from continuon.ota.reports import (
    ActivateReport,
    CheckReport,
    CommitReport,
    FetchReport,
    RecoverReport,
    RollbackReport,
    StageReport,
    StatusReport,
)
from continuon.ota.slots import Slots, require_active
from continuon.ota.stager import Contact

__all__ = ["Updater"]


class Updater:
    """One device's bundles below `model_dir`.

    `public_keys` with `threshold` sign bundles; `repository` brings new ones and may be
    None on a device that is only updated by hand. `entitlement` says whether this robot
    may have a bundle; it never touches what runs.
    """

    def __init__(
        self,
        model_dir: Path,
        public_keys: Sequence[VerifyingKey],
        *,
        threshold: int = 1,
        clock: Clock | None = None,
        device: Device | None = None,
        repository: Downloader | None = None,
        entitlement: Entitlement | None = None,
    ) -> None:
        self.installed = Installed(model_dir, public_keys, threshold=threshold)
        self.clock = clock or SystemClock()
        self.device = device or Device(library_version=continuon.__version__)
        self.repository = repository
        self.entitlement: Entitlement = entitlement or OpenEntitlement()

    @property
    def model_dir(self) -> Path:
        """Return the folder of the record and its slots."""
        return self.installed.model_dir

    @property
    def public_keys(self) -> tuple[VerifyingKey, ...]:
        """Return the keys that sign bundles."""
        return self.installed.public_keys

    @property
    def threshold(self) -> int:
        """Return how many of the keys must have signed."""
        return self.installed.threshold

    @property
    def slots(self) -> Slots:
        """Return the slots and their record."""
        return self.installed.slots

    def active_slot(self) -> Path | None:
        """Return the directory of the bundle that is to run, None before the first.

        `recover` has verified it at start; `activate` has before it went on trial.
        """
        active = self.slots.load().active
        return None if active is None else self.installed.slot_dir(active)

    def safety(self) -> SafetyManifest:
        """Return the base rules tightened by the active bundle's own limits."""
        base = self.device.base_rules
        active = self.active_slot()
        return (
            base
            if active is None
            else merge_safety(base, self.installed.verify(active).safety)
        )

    def status(self) -> StatusReport:
        """Return what runs, what is good, what failed and why, and what comes next."""
        record = self.slots.load()
        told = self.entitlement.describe(record, wall_ns=self.clock.wall_ns())
        return self.installed.status(record, entitlement=told)

    def check(
        self, *, model_name: str | None = None, retry: bool = False
    ) -> CheckReport:
        """Ask the repository for the newest bundle on offer; change no role.

        One that failed here is nothing new, unless `retry` asks for it again.

        Raises:
            UsageError: E-OTA-REPO-003, no repository. TrustError: E-OTA-TUF-...
        """
        repository = self._repository()
        record = self.slots.load()
        offer = repository.newest(model_name, t_floor_ns=record.t_floor_ns)
        why_not = reason_to_wait(offer, record, retry=retry)
        return CheckReport(
            repository=repository.name,
            channel=repository.channel,
            bundle=offer.bundle if offer else None,
            version=offer.version if offer else None,
            release_counter=offer.release_counter if offer else None,
            total_bytes=offer.total_bytes if offer else None,
            newer=why_not is None,
            why_not=why_not,
        )

    def fetch(
        self,
        *,
        model_name: str | None = None,
        allow_full: bool = True,
        retry: bool = False,
    ) -> FetchReport:
        """Bring the newest bundle on offer to the device, whole and verified.

        With `allow_full` false, a file that cannot be had as a patch or from an
        installed slot is refused instead of being downloaded whole.

        Raises:
            UsageError: E-OTA-REPO-003. TrustError: E-OTA-TUF-..., E-OTA-GRANT-...,
            E-OTA-RELEASE-..., E-BUNDLE-... ContractError: E-OTA-COMPAT-...
            BudgetError: E-OTA-SPACE-001, E-OTA-FETCH-003 and -006.
        """
        repository = self._repository()
        with hold_lock(self.model_dir), plain_io(self.model_dir):
            self.slots.prepare()
            record = self.slots.load()
            offer = repository.newest(model_name, t_floor_ns=record.t_floor_ns)
            if offer is None:
                raise UsageError(
                    "E-OTA-REPO-004",
                    "the repository offers nothing that this robot may fetch",
                    seen=repository.channel,
                    exit_code=1,
                )
            self.slots.admit(offer.bundle, offer.release_counter, retry=retry)
            offered = repository.statement(
                offer, self.public_keys, threshold=self.threshold
            )
            self._ask_for(offer.bundle, offered.manifest, repository.channel)
            check_fit(offered.manifest, self.device, installed=self.installed.roles())
            self.slots.make_room(
                offered.manifest.total_bytes,
                min_free_bytes=offered.manifest.compat.min_free_bytes,
            )
            target = self.model_dir / INCOMING / offer.bundle
            known = self.installed.slot_dirs()
            cost = repository.fetch(offered, target, known=known, allow_full=allow_full)
            self.installed.verify(target, expected=offer.bundle)
            self.installed.note_channel(offer.bundle, repository.channel)
            return FetchReport(
                bundle=offer.bundle,
                version=offered.manifest.version,
                release_counter=offered.manifest.release_counter,
                fetched_bytes=cost.fetched_bytes,
                reused_bytes=cost.reused_bytes,
                resumed_bytes=cost.resumed_bytes,
                patched_files=cost.patched_files,
            )

    def stage(self, source: Path | None = None, *, retry: bool = False) -> StageReport:
        """Make a slot from what was fetched, or from a bundle directory at hand.

        A directory at hand (a USB stick) has no freeze protection, and the report says
        so.

        Raises:
            TrustError: E-BUNDLE-..., E-OTA-RELEASE-..., E-OTA-STATE-004.
            ContractError: E-OTA-COMPAT-... BudgetError: E-OTA-SPACE-001.
        """
        with hold_lock(self.model_dir), plain_io(self.model_dir):
            self.slots.prepare()
            found = self.installed.fetched() if source is None else source
            bundle = self.installed.verify(found)
            manifest = bundle.manifest
            check_fit(manifest, self.device, installed=self.installed.roles())
            merge_safety(self.device.base_rules, bundle.safety)
            self.slots.admit(bundle.bundle_id, manifest.release_counter, retry=retry)
            removed: tuple[str, ...] = ()
            files = None
            if source is not None:
                names = (*bundle.files, "model.sig")
                files = {name: str(source.absolute() / name) for name in names}
                self.installed.note_channel(bundle.bundle_id, None)
                removed = self.slots.make_room(
                    bundle.total_bytes, min_free_bytes=manifest.compat.min_free_bytes
                )
            self.slots.stage(
                bundle.bundle_id, manifest.release_counter, files, retry=retry
            )
            return StageReport(
                bundle=bundle.bundle_id,
                version=manifest.version,
                release_counter=manifest.release_counter,
                directory=self.installed.slot_dir(bundle.bundle_id),
                origins=manifest.origins,
                freeze_protection=source is None,
                removed=removed,
            )

    def activate(
        self, bundle: str | None = None, *, tries: int = 3, retry: bool = False
    ) -> ActivateReport:
        """Put the staged bundle on trial, in the record only.

        Its bytes are verified again from the medium and the entitlement is asked
        again. The control loop then switches to `active_slot()`.

        Raises:
            UsageError: E-OTA-STATE-006 nothing is staged, -001 another trial.
            TrustError: E-BUNDLE-..., E-OTA-GRANT-..., E-OTA-RELEASE-...
        """
        with hold_lock(self.model_dir), plain_io(self.model_dir):
            record = self.slots.load()
            staged = None if bundle else self.installed.staged(record)
            chosen = bundle or (staged.bundle if staged else None)
            if chosen is None:
                raise UsageError(
                    "E-OTA-STATE-006",
                    "no bundle is staged",
                    hint="continuon ota stage",
                )
            verified = self.installed.verify(
                self.installed.slot_dir(chosen), expected=chosen
            )
            manifest = verified.manifest
            check_fit(manifest, self.device, installed=self.installed.roles())
            channel = self.installed.channel_of(chosen)
            step = self.slots.activate(
                chosen,
                manifest.release_counter,
                tries=tries,
                retry=retry,
                learned=self._ask_for(chosen, manifest, channel),
            )
            trial = step.record.trial
            return ActivateReport(
                bundle=chosen,
                directory=self.installed.slot_dir(chosen),
                previous=step.record.good,
                tries_left=trial.tries_left if trial else 0,
            )

    def commit(self, report: GateReport) -> CommitReport:
        """Make the bundle on trial the good one, if the gate's figures allow it.

        Raises:
            GateMissedError: E-OTA-GATE-001, with every bound that was missed; nothing
                is changed, and the caller rolls back.
            UsageError: E-OTA-STATE-003, that bundle is not on trial.
        """
        with hold_lock(self.model_dir), plain_io(self.model_dir):
            record = self.slots.load()
            manifest = self.installed.verify(
                self.installed.slot_dir(require_active(record))
            ).manifest
            misses = judge(gate_of(manifest, report.backend), report)
            if misses:
                raise GateMissedError(
                    "E-OTA-GATE-001",
                    "the trial missed its health gate",
                    seen="; ".join(map(str, misses)),
                    hint="continuon ota rollback; the failed bundle is kept",
                )
            staged = self.installed.staged(record)
            step = self.slots.commit(report.bundle)
            self.slots.collect(keep={staged.bundle} if staged else ())
            return CommitReport(
                bundle=report.bundle,
                version=manifest.version,
                release_counter=manifest.release_counter,
                previous=step.record.previous,
            )

    def rollback(
        self,
        reason: str,
        *,
        code: str = "E-OTA-GATE-001",
        evidence: Mapping[str, bytes] | None = None,
    ) -> RollbackReport:
        """Return to the good bundle, or from a committed one to the previous.

        `evidence` are small files (gate report, last ticks, log) for the triage folder;
        the failed bundle itself stays on the device.

        Raises:
            UsageError: E-OTA-STATE-002, there is nothing to return to.
        """
        with hold_lock(self.model_dir), plain_io(self.model_dir):
            failed = require_active(self.slots.load())
            record = self.slots.rollback(code, reason, evidence).record
            triage = self.installed.triage_dir(failed)
            active = record.active
            return RollbackReport(
                failed=failed,
                code=code,
                reason=reason,
                active=active,
                active_directory=self.installed.slot_dir(active) if active else None,
                triage=triage if record.failed[-1].triage else None,
            )

    def recover(self) -> RecoverReport:
        """Decide what runs; every start of the robot calls this first.

        Consumes one start of a trial; falls back when none is left or when a slot no
        longer verifies.

        Raises:
            DataError: E-OTA-RECORD-..., the record cannot be read; a person must act.
        """
        with hold_lock(self.model_dir), plain_io(self.model_dir):
            found = self.slots.recover()
            known = {item.bundle for item in found.before.failed}
            fresh = [item for item in found.after.failed if item.bundle not in known]
            trial = found.after.trial
            return RecoverReport(
                active=found.after.active,
                on_trial=trial is not None,
                tries_left=trial.tries_left if trial else None,
                rolled_back=fresh[-1] if fresh else None,
                lost=found.lost,
            )

    def note_uptime(self, powered_on_s: float) -> None:
        """Let powered-on time raise the time floor, and count it as time offline.

        The robot calls this now and then with the monotonic time since its last call.
        """
        with hold_lock(self.model_dir), plain_io(self.model_dir):
            note_uptime(self.slots, powered_on_s)

    def _ask_for(
        self, bundle: str, manifest: Manifest, channel: str | None
    ) -> Contact | None:
        ask = Ask(
            bundle=bundle,
            release_counter=manifest.release_counter,
            channel=channel,
            safety_critical=manifest.safety_critical,
        )
        wall_ns = self.clock.wall_ns()
        return ask_for(self.slots, self.entitlement, ask, wall_ns=wall_ns)

    def _repository(self) -> Downloader:
        if self.repository is None:
            raise UsageError(
                "E-OTA-REPO-003",
                "this device knows no repository",
                hint="give one, or stage a bundle directory at hand",
            )
        return self.repository
