import errno

import pytest

from continuon.errors import ContinuonError
from continuon.ota import plans, stager
from continuon.ota.effects import Rename, SyncAll, SyncFile
from continuon.ota.explore import (
    Explorer,
    Reported,
    check_invariants,
    full_life,
    one_update,
)
from continuon.ota.simfs import SimDisk
from continuon.ota.slots import Slots
from continuon.ota.toy import LAST, LAST_COUNTER, OUTSIDE, sim_slots, toy_files


def after(workload):
    disk = SimDisk(outside=OUTSIDE)
    reported = Reported()
    workload(sim_slots(disk), reported)
    return disk, reported


@pytest.fixture(scope="module")
def used_device():
    return after(one_update)[0].freeze()


def flush_sites():
    return sorted(
        {entry for entry in after(full_life)[0].log if entry[0].startswith("sync")}
    )


@pytest.mark.req("R-STAGER-01")
@pytest.mark.req("R-STAGER-02")
@pytest.mark.req("R-STAGER-03")
@pytest.mark.req("R-STAGER-04")
@pytest.mark.req("R-STAGER-10")
@pytest.mark.slow
def test_no_cut_in_a_whole_life_nor_in_its_recoveries_breaks_an_invariant():
    found = Explorer(depth=2).run(full_life)
    assert found.violations == []
    assert found.distinct > 1500


@pytest.mark.req("R-STAGER-05")
@pytest.mark.req("R-STAGER-17")
@pytest.mark.slow
def test_no_cut_in_any_three_operations_in_a_row_breaks_an_invariant():
    found = Explorer(depth=1, max_states=101_000).run_sequences(3)
    assert found.violations == []
    assert found.states > 100_000  # of 168,605; specs/stager/explore.py goes on
    assert found.distinct > 6_000


@pytest.mark.req("R-STAGER-11")
def test_the_flush_sites_are_those_that_the_mutants_cover():
    assert flush_sites() == [
        ("sync_all", "activate"),
        ("sync_all", "stage"),
        ("sync_all", "triage"),
        ("sync_directory", ""),
        ("sync_directory", "triage"),
        ("sync_file", "state.new"),
    ]


@pytest.mark.req("R-STAGER-11")
@pytest.mark.slow
@pytest.mark.parametrize("site", flush_sites(), ids=" ".join)
def test_leaving_out_any_flush_is_found(site, used_device):
    found = Explorer(
        depth=1, skip=frozenset([site]), stop_at_first=True, update_after=False
    )
    assert found.run(one_update, tree=used_device).violations


@pytest.mark.req("R-STAGER-18")
@pytest.mark.slow
def test_a_death_then_a_start_then_a_cut_breaks_no_invariant(used_device):
    found = Explorer(depth=1, update_after=False)
    found.run_deaths(one_update, tree=used_device)
    assert found.violations == []
    assert found.distinct > 500


@pytest.mark.req("R-STAGER-18")
@pytest.mark.slow
def test_believing_a_record_that_is_not_durable_is_found(monkeypatch, used_device):
    monkeypatch.setattr(Slots, "_settle", lambda _: None)
    found = Explorer(depth=1, update_after=False)
    assert found.run_deaths(one_update, tree=used_device).violations


@pytest.mark.req("R-STAGER-13")
def test_a_medium_that_refuses_to_flush_at_start_does_not_stop_what_runs():
    disk, reported = after(one_update)
    disk.fail_at = {disk.count: errno.EIO}
    device = sim_slots(disk)
    assert device.recover().after.good == reported.good
    device.stage(LAST, LAST_COUNTER, toy_files(LAST), retry=True)
    disk.fail_at = {disk.count: errno.EIO}
    with pytest.raises(OSError, match="injected"):
        sim_slots(disk).collect()


def swapped(original, first, second):
    def plan(*arguments):
        effects = list(original(*arguments))
        one = next(i for i, e in enumerate(effects) if isinstance(e, first))
        two = next(
            i for i, e in enumerate(effects) if i > one and isinstance(e, second)
        )
        effects[one], effects[two] = effects[two], effects[one]
        return tuple(effects)

    return plan


@pytest.mark.req("R-STAGER-11")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("record_plan", SyncFile),
        ("stage_plan", SyncAll),
        ("triage_plan", SyncAll),
    ],
    ids=["state renamed before its flush", "slot named before its flush", "triage named before its flush"],
)  # fmt: skip
def test_swapping_any_two_steps_that_matter_is_found(
    monkeypatch, used_device, name, first
):
    monkeypatch.setattr(stager, name, swapped(getattr(plans, name), first, Rename))
    found = Explorer(depth=1, stop_at_first=True)
    try:
        found.run(one_update, tree=used_device)
    except (ContinuonError, OSError) as error:
        found.violations.append(error)
    assert found.violations


@pytest.mark.req("R-STAGER-10")
@pytest.mark.slow
def test_rolling_back_before_the_triage_is_durable_is_found(monkeypatch, used_device):
    original = stager._leave

    def late(*arguments):
        step = original(*arguments)
        return stager.attrs.evolve(
            step, effects=step.effects + step.best_effort, best_effort=()
        )

    monkeypatch.setattr(stager, "_leave", late)
    found = Explorer(depth=1, stop_at_first=True).run(one_update, tree=used_device)
    assert found.violations


def suffer(disk, workload):
    reported = Reported()
    try:
        workload(sim_slots(disk), reported)
    except OSError as error:
        return reported, error
    return reported, None


def survives(disk, reported):
    device = sim_slots(disk)
    device.recover()
    check_invariants(device, reported)
    if device.load().trial is not None:
        device.rollback("E-TEST-000", "abandoned")
    device.stage(LAST, LAST_COUNTER, toy_files(LAST))
    device.activate(LAST, LAST_COUNTER)
    device.commit(LAST)
    assert device.load().good == LAST


@pytest.mark.req("R-STAGER-13")
@pytest.mark.slow
def test_a_full_disk_from_any_operation_on_leaves_a_device_that_works():
    count = after(full_life)[0].count
    refused = 0
    for number in range(count):
        disk = SimDisk(outside=OUTSIDE)
        disk.full_from = number
        reported, error = suffer(disk, full_life)
        refused += error is not None
        disk.full_from = None
        survives(disk, reported)
    assert refused > count // 2


@pytest.mark.req("R-STAGER-13")
@pytest.mark.slow
def test_one_failing_operation_anywhere_leaves_a_device_that_works():
    count = after(full_life)[0].count
    for number in range(count):
        disk = SimDisk(outside=OUTSIDE)
        disk.fail_at = {number: errno.EIO}
        reported, _ = suffer(disk, full_life)
        disk.fail_at = {}
        survives(disk, reported)


@pytest.mark.req("R-STAGER-10")
def test_a_full_disk_does_not_keep_a_bad_bundle_running():
    disk, _ = after(one_update)
    device = sim_slots(disk)
    device.stage(LAST, LAST_COUNTER, toy_files(LAST))
    device.activate(LAST, LAST_COUNTER)
    disk.fail_at = {disk.count + 1: errno.ENOSPC}
    record = device.rollback("E-TEST-GATE-001", "slow").record
    assert record.active != LAST
    assert record.failed[-1].triage is False
    assert device.load() == record


@pytest.mark.req("R-STAGER-06")
def test_room_is_never_made_from_the_active_or_the_good_slot():
    disk, _ = after(one_update)
    device = sim_slots(disk)
    device.stage(LAST, LAST_COUNTER, toy_files(LAST))
    record = device.load()
    disk.free_bytes = 256 << 20
    gone = device.make_room(20)
    assert gone[0] == f"slots/{LAST}"
    assert set(device.store.entries("slots")) >= {record.active, record.good}
    disk.free_bytes = 0
    with pytest.raises(ContinuonError, match="SPACE-001"):
        device.make_room(1 << 30)
    assert set(device.store.entries("slots")) >= {record.active, record.good}
