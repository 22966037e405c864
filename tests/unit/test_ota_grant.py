import attrs
import pytest

from continuon.bundle import build_bundle, generate_key, sign_bundle
from continuon.bundle.canonical import canonical_json
from continuon.bundle.envelope import seal
from continuon.bundle.structure import unstructure
from continuon.clock import ManualClock
from continuon.errors import TrustError
from continuon.ota import GateReport, Updater
from continuon.ota.entitlement import GrantEntitlement
from continuon.ota.grant import (
    GRANT_TYPE,
    Ask,
    Grant,
    RobotIdentity,
    check_grant,
    open_grant,
    seal_grant,
)
from continuon.ota.record import Record

OFFICE, ROBOT, STRANGER = generate_key(), generate_key(), generate_key()
NOW_S = 1_790_000_000
DAY_S = 86_400
A, B = "a" * 64, "b" * 64
IDENTITY = RobotIdentity("robot-7", ROBOT.public.fingerprint)
GRANT = Grant(
    robot_id="robot-7", robot_key=ROBOT.public.fingerprint, owner_epoch=3, channel="stable", grant_seq=10,
    issued_at_s=NOW_S, not_after_s=NOW_S + DAY_S, offline_grace_s=7 * DAY_S, nonce="0123456789abcdef",
)  # fmt: skip
ASK = Ask(bundle=A, release_counter=5, channel="stable")
RECORD = Record(owner_epoch=3, grant_seq=10, t_floor_ns=NOW_S * 10**9)


def check(grant=GRANT, ask=ASK, record=RECORD, now_s=NOW_S):
    check_grant(grant, ask, IDENTITY, record, wall_ns=now_s * 10**9)


@pytest.mark.req("R-OTA-15")
def test_a_grant_survives_its_envelope_and_admits():
    grant = open_grant(seal_grant(GRANT, [OFFICE]), [OFFICE.public])
    assert grant == GRANT
    check(grant)
    check(attrs.evolve(GRANT, channel=None, bundles=(A,)))
    check(attrs.evolve(GRANT, max_release_counter=5))
    check(attrs.evolve(GRANT, held=(B,)))
    check(now_s=NOW_S + 8 * DAY_S)


@pytest.mark.req("R-OTA-15")
@pytest.mark.parametrize(
    ("grant", "ask", "record", "now_s", "code"),
    [
        ({"robot_id": "robot-8"}, {}, {}, 0, "002"),
        ({"robot_key": STRANGER.public.fingerprint}, {}, {}, 0, "003"),
        ({"owner_epoch": 2}, {}, {}, 0, "004"),
        ({}, {}, {"owner_epoch": 4}, 0, "004"),
        ({"grant_seq": 9}, {}, {}, 0, "005"),
        ({}, {}, {"grant_seq": 11}, 0, "005"),
        ({"channel": "beta"}, {}, {}, 0, "006"),
        ({"channel": None}, {"channel": None}, {}, 0, "006"),
        ({"channel": None, "bundles": (B,)}, {}, {}, 0, "006"),
        ({"max_release_counter": 4}, {}, {}, 0, "006"),
        ({"bundles": (A,), "max_release_counter": 4}, {}, {}, 0, "006"),
        ({"held": (A,)}, {}, {}, 0, "012"),
        ({"bundles": (A,), "held": (B, A)}, {"safety_critical": True}, {}, 0, "012"),
        ({}, {}, {}, 8 * DAY_S + 1, "007"),
        ({}, {}, {}, 14 * 365 * DAY_S, "007"),
        ({"offline_grace_s": 0}, {}, {}, DAY_S + 1, "007"),
        ({}, {}, {"t_floor_ns": (NOW_S + 9 * DAY_S) * 10**9}, 0, "007"),
        ({}, {}, {"t_floor_ns": (NOW_S + 9 * DAY_S) * 10**9}, -NOW_S, "007"),
        ({}, {"nonce": "fedcba9876543210"}, {}, 0, "008"),
        ({}, {}, {"offline_ns": (8 * DAY_S + 1) * 10**9}, 0, "009"),
        ({}, {}, {"offline_ns": (8 * DAY_S + 1) * 10**9}, -NOW_S, "009"),
    ],
)
def test_a_grant_that_was_made_for_something_else_is_refused(
    grant, ask, record, now_s, code
):
    with pytest.raises(TrustError, match=f"E-OTA-GRANT-{code}"):
        check(
            attrs.evolve(GRANT, **grant),
            attrs.evolve(ASK, **ask),
            attrs.evolve(RECORD, **record),
            NOW_S + now_s,
        )


@pytest.mark.req("R-OTA-16")
def test_a_clock_at_1970_neither_locks_out_nor_prolongs():
    check(now_s=0)
    with pytest.raises(TrustError, match="GRANT-007"):
        check(
            record=attrs.evolve(RECORD, t_floor_ns=(NOW_S + 9 * DAY_S) * 10**9), now_s=0
        )


def test_a_safety_critical_bundle_needs_the_owners_robot_but_no_subscription():
    ask = attrs.evolve(ASK, safety_critical=True)
    check(ask=ask, now_s=NOW_S + 400 * DAY_S)
    with pytest.raises(TrustError, match="GRANT-004"):
        check(attrs.evolve(GRANT, owner_epoch=1), ask)


@pytest.mark.req("R-OTA-15")
@pytest.mark.parametrize(
    "changes",
    [
        {"not_after_s": NOW_S}, {"not_after_s": NOW_S + 500 * DAY_S}, {"offline_grace_s": -1}, {"grant_seq": -1},
        {"robot_id": ""}, {"nonce": "short"}, {"issued_at_s": 0}, {"schema": "x"}, {"bundles": ("x",)},
    ],
)  # fmt: skip
def test_a_signed_grant_out_of_range_is_refused(changes):
    payload = canonical_json(unstructure(attrs.evolve(GRANT, **changes)))
    data = canonical_json(seal(payload, GRANT_TYPE, [OFFICE]).as_dict())
    with pytest.raises(TrustError, match="GRANT-001"):
        open_grant(data, [OFFICE.public])


@pytest.mark.req("R-OTA-15")
def test_only_the_offices_key_and_only_grants_count():
    payload = canonical_json(unstructure(GRANT))
    for data in (
        seal_grant(GRANT, [STRANGER]),
        canonical_json(
            seal(payload, "application/vnd.in-toto+json", [OFFICE]).as_dict()
        ),
        b"",
        b"{}",
        seal_grant(GRANT, [OFFICE])[:-2],
    ):
        with pytest.raises(TrustError, match="GRANT-001"):
            open_grant(data, [OFFICE.public])


@pytest.fixture
def bundles(tmp_path):
    key = generate_key()
    found = []
    for number in (1, 2, 3):
        artifacts = tmp_path / f"a{number}"
        artifacts.mkdir()
        (artifacts / "policy.tflite").write_bytes(b"TFL3%d" % number)
        (artifacts / "golden.json").write_bytes(b"{}")
        info = build_bundle(
            tmp_path / f"b{number}", artifacts_dir=artifacts, model_name="hope", version=f"1.0.{number}",
            release_counter=number, source="tests", created_at_unix_ms=1, origins=["simulated"],
        )  # fmt: skip
        found.append((info.directory, sign_bundle(info.directory, [key]).bundle_id))
    return key.public, found


@pytest.fixture
def robot(tmp_path, bundles):
    public, found = bundles
    grant_path = tmp_path / "grant.json"
    clock = ManualClock(wall_offset_ns=NOW_S * 10**9)
    entitlement = GrantEntitlement.at(grant_path, [OFFICE.public], IDENTITY)
    updater = Updater(
        tmp_path / "model", [public], clock=clock, entitlement=entitlement
    )
    names = tuple(name for _, name in found)

    def give(**changes):
        grant = attrs.evolve(GRANT, channel=None, bundles=names, **changes)
        grant_path.write_bytes(seal_grant(grant, [OFFICE]))

    give()
    return updater, found, give, grant_path


def passed(bundle):
    return GateReport(
        bundle=bundle, golden_max_error=0.0, latency_p99_ms=1.0, ticks=999, veto_fraction=0.0,
        non_finite=0, missed_periods=0, elapsed_s=1.0,
    )  # fmt: skip


@pytest.mark.req("R-OTA-15")
@pytest.mark.req("R-OTA-16")
def test_activation_asks_again_and_remembers_what_was_signed(robot):
    updater, found, give, _ = robot
    updater.stage(found[0][0])
    updater.activate()
    record = updater.slots.load()
    assert (record.grant_seq, record.owner_epoch) == (10, 3)
    assert record.t_floor_ns == NOW_S * 10**9
    updater.commit(passed(found[0][1]))
    updater.stage(found[1][0])
    give(grant_seq=9)
    with pytest.raises(TrustError, match="GRANT-005"):
        updater.activate()


@pytest.mark.req("R-STAGER-09")
@pytest.mark.req("R-OTA-15")
@pytest.mark.parametrize("lapse", ["gone", "expired", "another owner", "garbage"])
def test_a_lapsed_grant_changes_nothing_that_runs_and_blocks_no_rollback(robot, lapse):
    updater, found, give, path = robot
    updater.stage(found[0][0])
    updater.activate()
    updater.commit(passed(found[0][1]))
    updater.stage(found[1][0])
    updater.activate()
    if lapse == "gone":
        path.unlink()
    elif lapse == "expired":
        updater.clock.advance_ns(99 * DAY_S * 10**9)
    elif lapse == "another owner":
        give(owner_epoch=1)
    else:
        path.write_bytes(b"garbage")
    assert updater.active_slot().name == found[1][1]
    assert updater.recover().active == found[1][1]
    assert (
        "E-OTA-GRANT" in updater.status().entitlement
        or "grant" in updater.status().entitlement
    )
    assert updater.rollback("gate").active == found[0][1]
    updater.stage(found[2][0])
    with pytest.raises(TrustError, match="E-OTA-GRANT-0"):
        updater.activate()
    assert updater.active_slot().name == found[0][1]


@pytest.mark.req("R-OTA-16")
def test_only_signed_times_and_powered_on_time_raise_the_floor(robot):
    updater, found, _, _ = robot
    updater.clock.advance_ns(3 * DAY_S * 10**9)
    updater.note_uptime(100.0)
    assert updater.slots.load().t_floor_ns == 0
    updater.stage(found[0][0])
    updater.activate()
    floor_ns = updater.slots.load().t_floor_ns
    assert floor_ns == NOW_S * 10**9
    updater.note_uptime(60.0)
    record = updater.slots.load()
    assert record.t_floor_ns == floor_ns + 60 * 10**9
    assert record.offline_ns == 60 * 10**9
    updater.note_uptime(-5.0)
    assert updater.slots.load().t_floor_ns == record.t_floor_ns
