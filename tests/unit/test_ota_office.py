import pytest

from continuon.bundle import generate_key
from continuon.clock import ManualClock
from continuon.errors import ContractError, TrustError, UsageError
from continuon.ota.grant import open_grant
from continuon.ota.office import (
    MAX_CLAIM_TRIES,
    GrantOffice,
    GrantRequest,
    Outcome,
    new_claim_code,
    seal_request,
)
from continuon.ota.rollout import Rollout, in_rollout, should_halt
from continuon.ota.service import grant_app, token_digest

NOW_S = 1_790_000_000
DAY_S = 86_400
OFFICE_KEY, ROBOT, OTHER = generate_key(), generate_key(), generate_key()
NONCE = "0123456789abcdef"
BUNDLE = "b" * 64


@pytest.fixture
def office(tmp_path):
    office = GrantOffice(
        tmp_path / "office.db",
        OFFICE_KEY,
        clock=ManualClock(wall_offset_ns=NOW_S * 10**9),
    )
    office.register("robot-7", ROBOT.public, "ABCD-EFGH")
    return office


@pytest.fixture
def owned(office):
    assert office.claim("robot-7", "abcdefgh", "ada") == 1
    office.subscribe("robot-7", until_s=NOW_S + 30 * DAY_S)
    return office


def ask(office, key=ROBOT, **changes):
    request = GrantRequest(**{"robot_id": "robot-7", "nonce": NONCE, **changes})
    return open_grant(office.grant(seal_request(request, key)), [OFFICE_KEY.public])


@pytest.mark.req("R-OTA-19")
def test_a_claimed_and_paid_robot_gets_a_grant_of_its_own(owned):
    grant = ask(owned)
    assert (grant.robot_id, grant.robot_key) == ("robot-7", ROBOT.public.fingerprint)
    assert (grant.owner_epoch, grant.grant_seq, grant.nonce) == (1, 1, NONCE)
    assert grant.not_after_s - grant.issued_at_s == DAY_S
    assert ask(owned).grant_seq == 2


@pytest.mark.req("R-OTA-19")
def test_a_grant_never_outlives_what_is_paid_for(owned):
    owned.subscribe("robot-7", until_s=NOW_S + 100)
    assert ask(owned).not_after_s == NOW_S + 100
    owned.clock.advance_ns(101 * 10**9)
    with pytest.raises(TrustError, match="OFFICE-006"):
        ask(owned)


@pytest.mark.req("R-OTA-19")
def test_a_transfer_raises_the_epoch_and_ends_the_old_owners_say(owned):
    assert owned.transfer("robot-7", "ada", "bob") == 2
    with pytest.raises(TrustError, match="OFFICE-003"):
        owned.transfer("robot-7", "ada", "ada")
    with pytest.raises(TrustError, match="OFFICE-003"):
        owned.describe("robot-7", "ada")
    with pytest.raises(TrustError, match="OFFICE-006"):
        ask(owned)
    owned.subscribe("robot-7", until_s=NOW_S + DAY_S)
    assert ask(owned).owner_epoch == 2


def test_a_claim_code_works_once_and_cannot_be_guessed(office):
    for _ in range(MAX_CLAIM_TRIES):
        with pytest.raises(TrustError, match="OFFICE-002"):
            office.claim("robot-7", "WRONG", "eve")
    with pytest.raises(TrustError, match="OFFICE-002"):
        office.claim("robot-7", "ABCDEFGH", "ada")
    office.register("robot-7", ROBOT.public, "NEWCODE2")
    assert office.claim("robot-7", "NEWCODE2", "ada") == 1
    with pytest.raises(TrustError, match="OFFICE-002"):
        office.claim("robot-7", "NEWCODE2", "eve")
    with pytest.raises(TrustError, match="OFFICE-001"):
        office.register("robot-7", ROBOT.public, "AGAIN222")
    assert len(new_claim_code()) == 8


def test_only_the_robot_itself_can_ask(owned):
    with pytest.raises(TrustError, match="E-BUNDLE-SIG"):
        ask(owned, key=OTHER)
    with pytest.raises(TrustError, match="OFFICE-001"):
        owned.register("robot-7", OTHER.public, "X")
    with pytest.raises(UsageError, match="OFFICE-404"):
        ask(owned, robot_id="robot-8")
    with pytest.raises(ContractError, match="JSON-003"):
        owned.grant(b"not json")


def test_a_robot_that_nobody_owns_gets_nothing(office):
    office.subscribe("robot-7", until_s=NOW_S + DAY_S)
    with pytest.raises(TrustError, match="OFFICE-005"):
        ask(office)


@pytest.mark.req("R-OTA-19")
def test_a_rollout_halts_by_itself_when_failures_pass_the_bound(owned):
    owned.start_rollout(
        BUNDLE, Rollout(percent=100.0, min_reports=4, max_failure_fraction=0.25)
    )
    assert ask(owned, bundle=BUNDLE).bundles == (BUNDLE,)
    for number in range(4):
        key = generate_key()
        owned.register(f"r{number}", key.public, "CODE")
        owned.claim(f"r{number}", "CODE", "ada")
        owned.subscribe(f"r{number}", until_s=NOW_S + DAY_S)
        outcome = Outcome(
            bundle=BUNDLE, ok=number > 1, code="E-OTA-GATE-001" if number < 2 else None
        )
        ask(owned, key=key, robot_id=f"r{number}", outcomes=(outcome,))
    state = owned.rollout(BUNDLE)
    assert (state.reports, state.failures, state.halted) == (4, 2, True)
    with pytest.raises(TrustError, match="OFFICE-007"):
        ask(owned, bundle=BUNDLE)
    assert ask(owned).bundles == ()


@pytest.mark.req("R-OTA-19")
def test_a_growing_rollout_keeps_whom_it_had_and_spreads_evenly():
    robots = [f"robot-{number}" for number in range(2000)]
    shares = [
        {robot for robot in robots if in_rollout(robot, BUNDLE, percent)}
        for percent in (0, 10, 50, 100)
    ]
    assert shares[0] == set()
    assert shares[1] < shares[2] < shares[3] == set(robots)
    assert 150 < len(shares[1]) < 250
    assert shares[1] != {robot for robot in robots if in_rollout(robot, "c" * 64, 10)}


def test_no_verdict_is_reached_before_enough_robots_reported():
    assert not should_halt(Rollout(min_reports=5, reports=4, failures=4))
    assert should_halt(
        Rollout(min_reports=5, reports=5, failures=1, max_failure_fraction=0.1)
    )
    assert not should_halt(
        Rollout(min_reports=5, reports=10, failures=1, max_failure_fraction=0.1)
    )


@pytest.fixture
def web(office):
    pytest.importorskip("starlette")
    testclient = pytest.importorskip("starlette.testclient")
    return testclient.TestClient(
        grant_app(
            office, {token_digest("ada-token"): "ada", token_digest("bob-token"): "bob"}
        )
    )


@pytest.mark.slow
@pytest.mark.req("R-OTA-19")
@pytest.mark.filterwarnings("ignore")
def test_the_companion_apps_way_from_claim_to_grant(office, web):
    ada = {"Authorization": "Bearer ada-token"}
    assert (
        web.post("/v1/robots/robot-7/claim", json={"code": "ABCDEFGH"}).status_code
        == 403
    )
    forged = {"Authorization": "Bearer x", "X-Owner": "ada"}
    assert (
        web.post(
            "/v1/robots/robot-7/claim", json={"code": "ABCDEFGH"}, headers=forged
        ).status_code
        == 403
    )
    claimed = web.post(
        "/v1/robots/robot-7/claim", json={"code": "ABCDEFGH"}, headers=ada
    )
    assert claimed.json() == {"robot_id": "robot-7", "owner_epoch": 1}
    request = seal_request(GrantRequest(robot_id="robot-7", nonce=NONCE), ROBOT)
    refused = web.post("/v1/grants", content=request)
    assert (refused.status_code, refused.json()["code"]) == (403, "E-OTA-OFFICE-006")
    office.subscribe("robot-7", until_s=NOW_S + DAY_S)
    answer = web.post("/v1/grants", content=request)
    assert open_grant(answer.content, [OFFICE_KEY.public]).owner_epoch == 1
    assert web.get("/v1/robots/robot-7", headers=ada).json()["grant_seq"] == 1
    bob = {"Authorization": "Bearer bob-token"}
    assert web.get("/v1/robots/robot-7", headers=bob).status_code == 403
    assert (
        web.post("/v1/robots/robot-7/transfer", json={"to": "bob"}, headers=ada).json()[
            "owner_epoch"
        ]
        == 2
    )
    assert web.get(f"/v1/rollouts/{BUNDLE}").status_code == 404
    office.start_rollout(BUNDLE, Rollout())
    assert web.get(f"/v1/rollouts/{BUNDLE}").json()["halted"] is False
    for body in (b"", b"[]", b'{"code": 1}', b"x" * (1 << 17)):
        assert (
            web.post("/v1/robots/robot-7/claim", content=body, headers=ada).status_code
            == 400
        )
