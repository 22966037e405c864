import errno
import json
import math
import os
import shutil

import attrs
import pytest

from continuon.bundle import Compat, build_bundle, generate_key, sign_bundle
from continuon.bundle.safety import CAR_BASE_RULES, ChannelLimit, at_least_as_tight
from continuon.clock import ManualClock
from continuon.errors import (
    BudgetError,
    ContractError,
    DataError,
    GateMissedError,
    TrustError,
    UsageError,
)
from continuon.ota import (
    Device,
    Downloader,
    GateReport,
    Updater,
    generate_repository_keys,
    publish,
)
from continuon.ota.disk import DiskStore
from continuon.ota.entitlement import Learned
from continuon.ota.lock_io import hold_lock

KEY = generate_key()
KEYS = generate_repository_keys()
NOW_NS = 1_790_000_000 * 10**9


@pytest.fixture
def make(tmp_path):
    def build(number, *, weights=b"weights", **changes):
        artifacts = tmp_path / f"artifacts-{number}"
        artifacts.mkdir()
        (artifacts / "policy.tflite").write_bytes(b"TFL3" + weights + bytes([number]))
        (artifacts / "policy.weights").write_bytes(b"the same in every release")
        (artifacts / "golden.json").write_bytes(b"{}")
        settings = {
            "model_name": "hope", "version": f"1.0.{number}", "release_counter": number, "source": "tests",
            "created_at_unix_ms": 1, "origins": ["simulated"], **changes,
        }  # fmt: skip
        info = build_bundle(
            tmp_path / f"bundle-{number}", artifacts_dir=artifacts, **settings
        )
        sign_bundle(info.directory, [KEY])
        return info.directory

    return build


@pytest.fixture
def updater(tmp_path):
    return Updater(
        tmp_path / "model", [KEY.public], clock=ManualClock(wall_offset_ns=NOW_NS)
    )


def healthy(bundle, **changes):
    figures = {
        "golden_max_error": 0.0, "latency_p99_ms": 5.0, "ticks": 250, "veto_fraction": 0.0,
        "non_finite": 0, "missed_periods": 0, "elapsed_s": 5.0, **changes,
    }  # fmt: skip
    return GateReport(bundle=bundle, **figures)


def install(updater, directory):
    updater.stage(directory)
    bundle = updater.activate().bundle
    updater.commit(healthy(bundle))
    return bundle


@pytest.mark.req("R-OTA-01")
@pytest.mark.req("R-OTA-06")
def test_a_bundle_at_hand_goes_through_all_steps(updater, make):
    assert updater.active_slot() is None
    staged = updater.stage(make(1))
    assert staged.freeze_protection is False
    assert staged.origins == ("simulated",)
    tried = updater.activate()
    assert updater.active_slot() == tried.directory == staged.directory
    assert updater.commit(healthy(tried.bundle)).version == "1.0.1"
    assert updater.recover().on_trial is False
    second = install(updater, make(2))
    assert updater.status().previous.bundle == tried.bundle
    assert updater.active_slot().name == second


@pytest.mark.req("R-OTA-18")
def test_status_says_in_five_lines_what_runs_what_failed_and_what_comes_next(
    updater, make
):
    assert updater.status().lines()[0] == "runs    nothing yet"
    install(updater, make(1))
    updater.stage(make(2))
    assert "activate 1.0.2" in updater.status().lines()[4]
    updater.activate()
    assert "on trial, 3 starts left" in updater.status().lines()[0]
    updater.rollback(
        "p99 31 ms, allowed 20",
        code="E-OTA-GATE-001",
        evidence={"gate_report.json": b"{}"},
    )
    lines = updater.status().lines()
    assert len(lines) == 5
    assert "1.0.1" in lines[0]
    assert "simulated" in lines[0]
    assert "E-OTA-GATE-001, p99 31 ms, allowed 20" in lines[3]
    assert "check for a repaired bundle" in lines[4]
    install(updater, make(3))
    assert "check for a newer bundle" in updater.status().lines()[4]


@pytest.mark.req("R-OTA-04")
def test_a_rolled_back_bundle_is_kept_with_its_triage_and_not_tried_again(
    updater, make
):
    good = install(updater, make(1))
    bad_dir = make(2)
    updater.stage(bad_dir)
    bad = updater.activate().bundle
    report = updater.rollback(
        "NaN action", evidence={"ticks.csv": b"1,nan\n", "big.log": b"x" * (2 << 20)}
    )
    assert report.active == good
    assert updater.active_slot().name == good
    names = {path.name: path.stat().st_size for path in report.triage.iterdir()}
    kernel = {name for name in names if name.startswith("kernel.log")}
    assert set(names) - kernel == {
        "reason.txt",
        "edge_manifest.json",
        "model.sig",
        "ticks.csv",
        "big.log",
        "versions.json",
    }
    assert len(kernel) == 1
    versions = json.loads((report.triage / "versions.json").read_bytes())
    assert {"continuon", "python", "kernel", "numpy"} <= set(versions)
    assert names["big.log"] <= 1 << 20
    assert (updater.model_dir / "slots" / bad).is_dir()
    with pytest.raises(TrustError, match="STATE-004"):
        updater.stage(bad_dir)
    updater.stage(bad_dir, retry=True)
    assert updater.activate(bad, retry=True).bundle == bad


@pytest.mark.req("R-OTA-03")
@pytest.mark.parametrize(
    "changes",
    [
        {"golden_max_error": 0.01}, {"golden_max_error": math.nan}, {"golden_max_error": None},
        {"latency_p99_ms": 20.1}, {"latency_p99_ms": math.inf}, {"ticks": 249}, {"veto_fraction": 0.06},
        {"veto_fraction": -1.0}, {"non_finite": 1}, {"missed_periods": None}, {"elapsed_s": 61.0},
    ],
)  # fmt: skip
def test_a_trial_that_missed_or_did_not_measure_a_bound_is_not_committed(
    updater, make, changes
):
    updater.stage(make(1))
    bundle = updater.activate().bundle
    with pytest.raises(GateMissedError, match=next(iter(changes))) as caught:
        updater.commit(healthy(bundle, **changes))
    assert caught.value.exit_code == 3
    assert updater.status().on_trial


@pytest.mark.req("R-OTA-05")
@pytest.mark.parametrize(
    ("compat", "device", "code"),
    [
        (Compat(library_min="9.0.0"), {}, "COMPAT-001"),
        (Compat(library_below="0.1.0"), {}, "COMPAT-001"),
        (Compat(boards=("raspberry-pi-5",)), {"board": "jetson"}, "COMPAT-002"),
        (
            Compat(observation_sha256="1" * 64),
            {"observation_sha256": "2" * 64},
            "COMPAT-003",
        ),
        (Compat(action_sha256="1" * 64), {"action_sha256": "2" * 64}, "COMPAT-003"),
        (Compat(control_rate_hz=50.0), {"control_rate_hz": 20.0}, "COMPAT-004"),
        (Compat(base_bundle="1" * 64), {}, "COMPAT-005"),
        (Compat(senses=("depth", "image")), {"senses": ("image",)}, "COMPAT-006"),
        (Compat(senses=("depth",)), {"senses": ()}, "COMPAT-006"),
    ],
)
def test_a_bundle_that_was_made_for_another_device_is_refused(
    updater, make, compat, device, code
):
    updater.device = Device(library_version="0.1.0", **device)
    with pytest.raises(ContractError, match=code):
        updater.stage(make(1, compat=compat))
    assert updater.status().staged is None


@pytest.mark.req("R-OTA-05")
@pytest.mark.req("R-STAGER-08")
def test_safety_limits_are_the_base_rules_tightened(updater, make):
    tight = attrs.evolve(
        CAR_BASE_RULES, channels=(ChannelLimit(name="throttle", min=0.0, max=0.3),)
    )
    assert updater.safety() == CAR_BASE_RULES
    install(updater, make(1, safety=tight))
    limits = updater.safety()
    assert at_least_as_tight(limits, CAR_BASE_RULES)
    assert limits.channel("throttle").max == 0.3
    newer = attrs.evolve(CAR_BASE_RULES, base_rule_version=2)
    with pytest.raises(TrustError, match="SAFE-002"):
        updater.stage(make(2, safety=newer))


@pytest.mark.req("R-OTA-02")
def test_the_verifiers_own_code_reaches_the_caller(updater, make):
    directory = make(1)
    (directory / "policy.weights").write_bytes(b"x")
    with pytest.raises(TrustError, match="E-BUNDLE-SET-007"):
        updater.stage(directory)
    stranger = Updater(updater.model_dir, [generate_key().public])
    with pytest.raises(TrustError, match="E-BUNDLE-SIG-004"):
        stranger.stage(make(2))


@pytest.mark.req("R-STAGER-07")
def test_a_slot_that_rots_is_refused_at_activation_and_left_at_start(updater, make):
    good = install(updater, make(1))
    staged = updater.stage(make(2))
    path = staged.directory / "policy.tflite"
    whole = path.read_bytes()
    path.write_bytes(b"rotten" + whole[6:])
    with pytest.raises(TrustError, match="SET-003"):
        updater.activate()
    path.write_bytes(whole)
    second = updater.activate().bundle
    updater.commit(healthy(second))
    path.write_bytes(b"rotten" + whole[6:])
    report = updater.recover()
    assert report.lost == (second,)
    assert report.rolled_back.code == "E-OTA-SLOT-001"
    assert updater.active_slot().name == good


def test_a_trial_is_given_up_when_its_starts_are_used_up(updater, make):
    good = install(updater, make(1))
    updater.stage(make(2))
    updater.activate(tries=2)
    assert updater.recover().tries_left == 1
    report = updater.recover()
    assert report.active == good
    assert report.rolled_back.code == "E-OTA-TRIAL-001"
    assert updater.recover().rolled_back is None


@pytest.mark.req("R-OTA-07")
def test_one_writer_at_a_time_and_readers_need_no_lock(updater, make):
    directory = make(1)
    install(updater, directory)
    with hold_lock(updater.model_dir):
        with pytest.raises(UsageError, match="LOCK-001"):
            updater.stage(directory)
        assert updater.status().active.version == "1.0.1"


def test_each_missing_step_is_named(updater, tmp_path):
    for call, code in [
        (updater.stage, "STATE-006"), (updater.activate, "STATE-006"), (updater.check, "REPO-003"),
        (updater.fetch, "REPO-003"), (lambda: updater.rollback("x"), "STATE-005"),
        (lambda: updater.commit(healthy("0" * 64)), "STATE-005"),
    ]:  # fmt: skip
        with pytest.raises((UsageError, Exception), match=code):
            call()


@pytest.fixture
def published(tmp_path, make, updater):
    def put(number, **changes):
        directory = make(number, **changes)
        clock = ManualClock(wall_offset_ns=NOW_NS)
        report = publish(
            directory,
            tmp_path / "repository",
            KEYS,
            bundle_keys=[KEY.public],
            clock=clock,
        )
        if updater.repository is None:
            root = report.root_path.read_bytes()
            updater.repository = Downloader(
                tmp_path / "repository",
                root,
                updater.model_dir / "tuf",
                clock=updater.clock,
            )
        return report

    return put


@pytest.mark.req("R-OTA-01")
@pytest.mark.req("R-OTA-14")
def test_a_published_bundle_is_checked_fetched_and_installed(updater, published):
    first = published(1)
    offer = updater.check()
    assert (offer.bundle, offer.newer) == (first.bundle, True)
    fetched = updater.fetch()
    assert fetched.reused_bytes == 0
    assert updater.stage().freeze_protection is True
    updater.commit(healthy(updater.activate().bundle))
    assert updater.check().why_not == "it is installed already"
    published(2)
    again = updater.fetch()
    assert again.reused_bytes > again.fetched_bytes
    updater.stage()
    assert updater.activate().bundle == again.bundle


@pytest.mark.req("R-OTA-12")
def test_what_was_fetched_is_not_fetched_again(updater, published):
    published(1)
    assert updater.fetch().fetched_bytes > 0
    assert updater.fetch().fetched_bytes == 0


@pytest.mark.req("R-OTA-17")
def test_a_whole_download_is_refused_where_it_is_not_allowed(updater, published):
    published(1)
    with pytest.raises(Exception, match="FETCH-006"):
        updater.fetch(allow_full=False)


@pytest.mark.req("R-OTA-08")
def test_a_release_that_is_not_newer_cannot_be_published(published, tmp_path):
    published(2)
    with pytest.raises(TrustError, match="REPO-002"):
        published(1)


@pytest.mark.req("R-OTA-05")
def test_a_misfit_is_refused_before_its_payload_is_fetched(
    updater, published, tmp_path
):
    published(1, compat=Compat(library_min="9.0.0"))
    shutil.rmtree(updater.repository.metadata_dir, ignore_errors=True)
    with pytest.raises(ContractError, match="COMPAT-001"):
        updater.fetch()
    assert not any((updater.model_dir / "incoming").rglob("policy*"))


def test_reports_are_plain_values(updater, make):
    import json

    report = updater.stage(make(1))
    assert json.loads(json.dumps(report.as_dict()))["version"] == "1.0.1"
    json.dumps(updater.status().as_dict())


@pytest.fixture
def patchable(updater, make, tmp_path):
    """Release 1 runs; the repository offers release 2, with a patch from release 1."""
    pytest.importorskip("backports.zstd", reason="no zstd here")
    import numpy as np

    from continuon.ota.delta import make_deltas

    weights = np.random.default_rng(1).standard_normal(20_000).astype(np.float32)
    first = make(1, weights=weights.tobytes())
    install(updater, first)
    tuned = (weights * np.float32(1.0001)).tobytes()
    artifacts = tmp_path / "artifacts-2"
    artifacts.mkdir()
    (artifacts / "policy.tflite").write_bytes(b"TFL3" + tuned + bytes([2]))
    deltas = make_deltas(artifacts, [first], tmp_path / "deltas")
    shutil.rmtree(artifacts)
    second = make(2, weights=tuned, deltas=deltas)
    report = publish(
        second,
        tmp_path / "r",
        KEYS,
        bundle_keys=[KEY.public],
        deltas_dir=tmp_path / "deltas",
        clock=ManualClock(wall_offset_ns=NOW_NS),
    )
    updater.repository = Downloader(
        tmp_path / "r",
        report.root_path.read_bytes(),
        updater.model_dir / "tuf",
        clock=updater.clock,
    )
    return updater, len(tuned)


@pytest.mark.req("R-OTA-17")
def test_a_patch_is_fetched_instead_of_the_file_and_its_result_is_verified(patchable):
    updater, whole_bytes = patchable
    fetched = updater.fetch(allow_full=False)
    assert fetched.patched_files == 1
    assert fetched.fetched_bytes < 0.7 * whole_bytes
    updater.stage()
    assert updater.activate().bundle == fetched.bundle


@pytest.mark.req("R-OTA-17")
@pytest.mark.parametrize("base", ["missing", "damaged", "unreadable", "too large"])
def test_without_a_sound_base_the_file_is_fetched_whole_if_that_is_allowed(
    patchable, monkeypatch, base
):
    updater, whole_bytes = patchable
    path = updater.active_slot() / "policy.tflite"
    if base == "missing":
        path.unlink()
    elif base == "damaged":
        path.write_bytes(b"x" * path.stat().st_size)
    elif base == "unreadable":  # a bad sector
        bad = OSError(errno.EIO, "input/output error")
        read = type(path).read_bytes

        def refuse(self):
            if self == path:
                raise bad
            return read(self)

        monkeypatch.setattr(type(path), "read_bytes", refuse)
    else:
        monkeypatch.setattr("continuon.ota.delta.MAX_PATCHED_BYTES", 100)
    with pytest.raises(BudgetError, match="FETCH-006"):
        updater.fetch(allow_full=False)
    fetched = updater.fetch()
    assert (fetched.patched_files, fetched.fetched_bytes > whole_bytes) == (0, True)


@pytest.mark.req("R-OTA-19")
def test_a_rollout_reaches_a_robot_when_its_turn_has_come(published, updater):
    from continuon.ota.channel import Channel, Offer
    from continuon.ota.rollout import in_rollout

    offer = Offer(
        bundle="b" * 64, model_name="hope", version="1.0.0", release_counter=1, total_bytes=1,
        manifest_sha256="c" * 64, target="t/model.sig", rollout_percent=50.0,
    )  # fmt: skip
    channel = Channel(name="stable", offers=(offer,))
    assert channel.newest() is None
    robots = [f"robot-{number}" for number in range(40)]
    served = {robot for robot in robots if channel.newest(robot_id=robot)}
    assert served == {
        robot for robot in robots if in_rollout(robot, offer.bundle, 50.0)
    }
    halted = attrs.evolve(
        channel, offers=(attrs.evolve(offer, rollout_percent=100.0, halted=True),)
    )
    assert halted.newest(robot_id="robot-1") is None


@pytest.mark.req("R-OTA-09")
def test_robots_follow_a_rotation_of_all_keys_and_refuse_the_old_ones_afterwards(
    published, updater, make, tmp_path
):
    from continuon.ota import rotate

    clock = ManualClock(wall_offset_ns=NOW_NS)
    published(1)
    assert updater.check().newer
    fresh = generate_repository_keys()
    assert rotate(tmp_path / "repository", KEYS, fresh, clock=clock)["root"] == 2
    assert updater.check().newer
    publish(
        make(2), tmp_path / "repository", fresh, bundle_keys=[KEY.public], clock=clock
    )
    assert updater.check().release_counter == 2
    publish(
        make(3), tmp_path / "repository", KEYS, bundle_keys=[KEY.public], clock=clock
    )
    with pytest.raises(TrustError, match="TUF-001"):
        updater.check()


@pytest.mark.req("R-OTA-08")
def test_a_withdrawn_bundle_is_no_longer_offered(published, updater, tmp_path):
    from continuon.ota import withdraw

    report = published(1)
    withdraw(
        report.bundle,
        tmp_path / "repository",
        KEYS,
        clock=ManualClock(wall_offset_ns=NOW_NS),
    )
    assert updater.check().why_not == "nothing is on offer"
    with pytest.raises(UsageError, match="REPO-004"):
        updater.fetch()


@pytest.mark.req("R-OTA-15")
@pytest.mark.req("R-OTA-06")
def test_a_grant_for_a_channel_opens_what_came_from_it_and_nothing_come_by_hand(
    updater, published, make
):
    class Channels:
        asked = ()

        def admit(self, record, ask, *, wall_ns):
            self.asked += (ask.channel,)

        def describe(self, record, *, wall_ns):
            return "watched"

    watched = updater.entitlement = Channels()
    published(1)
    updater.fetch()
    updater.stage()
    repository, updater.repository = updater.repository, None
    bundle = updater.activate().bundle
    updater.commit(healthy(bundle))
    assert watched.asked == ("stable", "stable")
    assert updater.status().active.freeze_protection is True
    updater.stage(make(2))
    updater.activate()
    assert watched.asked[2:] == (None,)
    assert updater.status().active.freeze_protection is False
    updater.repository = repository


@pytest.mark.req("R-OTA-04")
@pytest.mark.req("R-OTA-18")
def test_a_bundle_that_failed_here_is_not_offered_again_but_on_request(
    updater, published
):
    published(1)
    updater.fetch()
    updater.stage()
    failed = updater.activate().bundle
    updater.rollback("too slow", code="E-OTA-GATE-001")
    told = updater.check()
    assert (told.newer, told.bundle) == (False, failed)
    assert told.why_not == "it failed here: E-OTA-GATE-001, too slow"
    assert updater.check(retry=True).newer is True
    with pytest.raises(TrustError, match="STATE-004"):
        updater.fetch()
    published(2)
    assert updater.check().newer is True
    runs, good, staged, why, then = updater.status().lines()
    assert runs == "runs    nothing yet"
    assert good == "good    nothing yet"
    assert staged == "staged  nothing"
    assert why.startswith(f"failed  {failed[:12]}: E-OTA-GATE-001, too slow (kept in ")
    assert then == (
        "next    check for a repaired bundle; the failed one waits for --retry"
    )


@pytest.mark.req("R-STAGER-12")
def test_an_update_from_a_repository_takes_six_flushes_with_all_that_it_writes(
    updater, published, monkeypatch
):
    """Counted where they are made: whatever calls fsync or syncfs in this process."""
    published(1)
    updater.fetch()
    updater.stage()
    updater.commit(healthy(updater.activate().bundle))
    published(2)
    updater.entitlement = Signed()
    flushes = []
    monkeypatch.setattr(DiskStore, "sync_all", lambda _, why: flushes.append(why))
    monkeypatch.setattr(os, "fsync", lambda _: flushes.append("fsync"))
    monkeypatch.setattr(os, "sync", None)
    updater.fetch()
    updater.stage()
    updater.commit(healthy(updater.activate().bundle))
    assert flushes == ["metadata", "stage", "activate", "fsync", "fsync", "fsync"]
    assert updater.check().newer is False
    assert len(flushes) == 6
    record = updater.slots.load()
    assert (record.grant_seq, record.owner_epoch, record.offline_ns) == (7, 2, 0)


class Signed:
    """An entitlement that learns something new each time, as with a fresh grant."""

    def admit(self, record, ask, *, wall_ns):
        return Learned(t_floor_ns=wall_ns, grant_seq=7, owner_epoch=2, fresh=True)

    def describe(self, record, *, wall_ns):
        return "signed"


def test_the_kernels_newest_lines_are_kept_and_a_log_that_may_not_be_read_says_so(
    tmp_path, monkeypatch
):
    from continuon.ota import device_facts

    log = tmp_path / "kmsg"
    log.write_bytes(b"".join(b"6,%d,0,-;line %d\n" % (n, n) for n in range(500)))
    lines = device_facts.kernel_log(log).splitlines()
    assert len(lines) == 200
    assert lines[-1].endswith(b"line 499")
    monkeypatch.setattr(device_facts, "kernel_log", deny)
    assert device_facts.triage_facts()["kernel.log.unreadable"] == b"not for you\n"


def deny():
    raise PermissionError(1, "not for you")


ACME, RIVAL = generate_key(), generate_key()


@pytest.fixture
def acme(tmp_path, make):
    """Publish for a publisher, with the online keys and its own alone."""
    from continuon.ota import Publisher, RepositoryKeys, delegate

    clock = ManualClock(wall_offset_ns=NOW_NS)
    folder = tmp_path / "repository"
    delegate(folder, KEYS, "acme", [ACME.public], clock=clock)
    online = RepositoryKeys({"online": KEYS.keys["online"]})

    def put(number, *, keys=(ACME,), name="acme"):
        return publish(
            make(number),
            folder,
            online,
            bundle_keys=[KEY.public],
            publisher=Publisher(name, keys),
            clock=clock,
        )

    return put


def subscriber(updater, folder, channel):
    updater.repository = Downloader(
        folder,
        (folder / "metadata" / "1.root.json").read_bytes(),
        updater.model_dir / "tuf",
        channel=channel,
        clock=updater.clock,
    )


@pytest.mark.req("R-OTA-20")
def test_a_publisher_offers_bundles_with_its_own_keys(updater, acme, tmp_path):
    report = acme(1)
    assert report.channel == "acme/stable"
    subscriber(updater, tmp_path / "repository", "acme/stable")
    assert updater.check().bundle == report.bundle
    updater.fetch()
    updater.stage()
    assert updater.activate().bundle == report.bundle
    assert updater.installed.channel_of(report.bundle) == "acme/stable"
    second = acme(2)
    assert updater.check().bundle == second.bundle
    subscriber(updater, tmp_path / "repository", "stable")
    with pytest.raises(DataError, match="TUF-003"):
        updater.check()


@pytest.mark.req("R-OTA-20")
def test_nobody_else_signs_for_a_publisher_and_it_signs_nowhere_else(
    updater, acme, tmp_path
):
    from continuon.ota import delegate

    acme(1)
    with pytest.raises(UsageError, match="KEYS-001"):
        acme(2, keys=(RIVAL,))
    with pytest.raises(UsageError, match="REPO-008"):
        acme(3, name="rival")
    clock = ManualClock(wall_offset_ns=NOW_NS)
    folder = tmp_path / "repository"
    for name in ("targets", "Acme", "a/b", "..", ""):
        with pytest.raises(UsageError, match="REPO-006"):
            delegate(folder, KEYS, name, [ACME.public], clock=clock)
    with pytest.raises(UsageError, match="REPO-007"):
        delegate(folder, KEYS, "two", [ACME.public], threshold=2, clock=clock)
    delegate(folder, KEYS, "acme", [RIVAL.public], clock=clock)
    subscriber(updater, folder, "acme/stable")
    with pytest.raises(TrustError, match="TUF-001"):
        updater.check()
    replaced = acme(4, keys=(RIVAL,))
    assert updater.check().bundle == replaced.bundle


@pytest.mark.req("R-OTA-20")
def test_a_publisher_that_lists_another_channel_is_not_believed_there(
    updater, acme, tmp_path
):
    from continuon.ota.channel import Channel, channel_path, dump_channel
    from continuon.ota.repository_metadata import (
        Expiry,
        Publisher,
        RepositoryMetadata,
    )

    acme(1)
    folder = tmp_path / "repository"
    clock = ManualClock(wall_offset_ns=NOW_NS)
    metadata = RepositoryMetadata(
        folder, KEYS, Expiry(), clock, publisher=Publisher("acme", (ACME,))
    )
    metadata.open()
    metadata.set_target(channel_path("stable"), dump_channel(Channel(name="stable")))
    metadata.close()
    subscriber(updater, folder, "stable")
    with pytest.raises(DataError, match="TUF-003"):
        updater.check()


@pytest.mark.req("R-OTA-06")
def test_a_bundle_that_comes_again_by_hand_has_lost_its_channel(
    updater, published, make, tmp_path
):
    first = published(1)
    updater.fetch()
    assert updater.installed.channel_of(first.bundle) == "stable"
    shutil.rmtree(updater.model_dir / "incoming" / first.bundle)
    updater.stage(tmp_path / "bundle-1")
    assert updater.installed.channel_of(first.bundle) is None
    second = published(2)
    updater.fetch()
    notes = [path.name for path in (updater.model_dir / "channels").iterdir()]
    assert notes == [second.bundle]
