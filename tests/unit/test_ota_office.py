import json
import shutil
import socket
import subprocess
import sys
import threading

import attrs
import pytest

from continuon.bundle import generate_key
from continuon.clock import ManualClock
from continuon.errors import BudgetError, ContractError, TrustError, UsageError
from continuon.ota import office_client
from continuon.ota.grant import MAX_NAMED, Ask, open_grant
from continuon.ota.office import MAX_CLAIM_TRIES, MAX_OWNER_GUESSES, GrantOffice
from continuon.ota.office_base import open_base
from continuon.ota.office_rollouts import start_rollout
from continuon.ota.record import Failure, Record
from continuon.ota.requests import (
    GrantRequest,
    Outcome,
    new_claim_code,
    outcomes_of,
    robot_name,
    seal_enrolment,
    seal_request,
)
from continuon.ota.robot_files import RobotFiles
from continuon.ota.rollout import Rollout, in_rollout, should_halt
from continuon.ota.service import grant_app
from continuon.ota.throttle import Throttle, network_of

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
    owned.add_owner("bob")
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


def test_an_owner_cannot_work_through_a_fleet_of_codes(office):
    for number in range(MAX_OWNER_GUESSES):
        office.register(f"r{number}", generate_key().public, "ABCD2345")
        with pytest.raises(TrustError, match="OFFICE-002"):
            office.claim(f"r{number}", "WRONG", "eve")
    with pytest.raises(BudgetError, match="OFFICE-011"):
        office.claim("robot-7", "ABCDEFGH", "eve")
    assert office.claim("robot-7", "ABCDEFGH", "ada") == 1
    office.clock.advance_ns(3600 * 10**9)
    assert office.claim("r1", "ABCD2345", "eve") == 1
    with pytest.raises(UsageError, match="OFFICE-404"):
        office.claim("none", "ABCD2345", "eve")


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
    return testclient.TestClient(grant_app(office))


@pytest.mark.slow
@pytest.mark.req("R-OTA-19")
@pytest.mark.filterwarnings("ignore")
def test_the_companion_apps_way_from_claim_to_grant(office, web):
    ada = {"Authorization": f"Bearer {office.add_owner('ada')}"}
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
    bob = {"Authorization": f"Bearer {office.add_owner('bob')}"}
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


@pytest.mark.filterwarnings("ignore")
def test_an_address_that_asks_too_often_waits(office):
    testclient = pytest.importorskip("starlette.testclient")
    app = grant_app(office, throttle=Throttle(burst=3, per_minute=60))
    web = testclient.TestClient(app)
    codes = [web.get(f"/v1/rollouts/{BUNDLE}").status_code for _ in range(4)]
    assert codes == [404, 404, 404, 429]
    refused = web.post("/v1/robots", content=b"")
    assert refused.json()["code"] == "E-OTA-OFFICE-012"
    assert refused.headers["retry-after"] == "60"
    office.clock.advance_ns(10**9)
    assert web.get(f"/v1/rollouts/{BUNDLE}").status_code == 404


def test_a_throttle_forgets_the_oldest_and_counts_a_network_as_one():
    throttle = Throttle(burst=1, per_minute=60, most=2)
    assert [throttle.take(who, 0) for who in "aab"] == [0.0, 1.0, 0.0]
    assert throttle.take("b", 500_000_000) == 0.5
    assert throttle.take("c", 500_000_000) == 0.0
    assert throttle.take("a", 500_000_000) == 0.0, "a was forgotten"
    assert throttle.take("c", 0) > 0, "a clock that steps back gives nothing"
    assert (
        network_of("2001:db8::1") == network_of("2001:db8::ffff:1") != network_of("::1")
    )
    assert network_of("10.0.0.1") == "10.0.0.1" != network_of("testclient")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--host", "0.0.0.0"], "OFFICE-002"),
        (["--tls-cert", "c.pem"], "OFFICE-001"),
        (["--host", "0.0.0.0", "--forwarded-allow", "*"], "OFFICE-003"),
    ],
)
def test_the_office_never_shows_tokens_to_a_network(words, code, capsys):
    from continuon.cli.program import run

    assert run(["ota", "serve", *words]) == 2
    assert f"E-CLI-{code}" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_office_answers_with_tls(tmp_path):
    pytest.importorskip("uvicorn")
    import ssl
    import urllib.error
    import urllib.request

    from continuon.bundle import new_key

    new_key(tmp_path / "keys" / "grant.pem")
    cert, secret = tls_pair(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-c", "from continuon.cli import main; main()"]
    words = ["ota", "serve", "--port", str(port), "--home", str(tmp_path)]
    tls = ["--tls-cert", str(cert), "--tls-key", str(secret)]
    server = subprocess.Popen([*program, *words, *tls], stderr=subprocess.PIPE)
    try:
        for _ in range(1000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, server.stderr.read()
            threading.Event().wait(0.02)
        context = ssl.create_default_context(cafile=str(cert))
        url = f"https://localhost:{port}/v1/rollouts/{BUNDLE}"
        with pytest.raises(urllib.error.HTTPError) as answer:
            urllib.request.urlopen(url, context=context, timeout=10)
        assert answer.value.code == 404
        assert "server" not in answer.value.headers
        answer.value.close()
    finally:
        server.terminate()
        server.communicate(timeout=10)


def tls_pair(folder):
    """Write a certificate for localhost that signs itself, and its key."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    day = timedelta(days=1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(now - day).not_valid_after(now + day)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    certificate = made.add_extension(names, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(certificate.public_bytes(pem))
    plain = serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    (folder / "tls.pem").write_bytes(secret)
    return folder / "cert.pem", folder / "tls.pem"


@pytest.mark.req("R-OTA-19")
def test_a_robot_makes_itself_known_under_a_name_that_nobody_else_can_have(office):
    name = office.enrol(seal_enrolment(OTHER, "abcd-2345"))
    assert name == robot_name(OTHER.public) != robot_name(ROBOT.public)
    assert office.claim(name, "ABCD2345", "eve") == 1
    with pytest.raises(TrustError, match="OFFICE-001"):
        office.enrol(seal_enrolment(OTHER, "WXYZ2345"))
    request = seal_request(GrantRequest(robot_id=name, nonce=NONCE), OTHER)
    with pytest.raises(TrustError, match="OFFICE-004"):
        office.enrol(request)
    with pytest.raises(TrustError, match="OFFICE-004"):
        office.grant(seal_enrolment(OTHER, "ABCD2345"))


@pytest.mark.req("R-OTA-19")
def test_an_enrolment_proves_that_its_sender_holds_the_key(office):
    from continuon.bundle.canonical import canonical_json
    from continuon.bundle.structure import unstructure
    from continuon.ota.requests import ENROLMENT_TYPE, Enrolment, _seal

    stolen = Enrolment(public_key_pem=ROBOT.public.pem.decode(), claim_hash="0" * 64)
    forged = _seal(canonical_json(unstructure(stolen)), ENROLMENT_TYPE, OTHER)
    with pytest.raises(TrustError, match="E-BUNDLE-SIG"):
        office.enrol(forged)


@pytest.mark.req("R-OTA-19")
def test_a_rollout_that_was_halted_holds_its_bundle_back_from_every_new_grant(owned):
    owned.start_rollout(BUNDLE, Rollout(percent=100.0, min_reports=1))
    assert ask(owned).held == ()
    failed = Outcome(bundle=BUNDLE, ok=False, code="E-OTA-GATE-001")
    assert ask(owned, outcomes=(failed,)).held == (BUNDLE,)
    owned.start_rollout(BUNDLE, Rollout(percent=100.0))
    assert ask(owned).held == (BUNDLE,)
    owned.resume_rollout(BUNDLE)
    assert ask(owned).held == ()
    owned.start_rollout(BUNDLE, Rollout(percent=0.0))
    assert ask(owned).held == (BUNDLE,)


@pytest.mark.parametrize("heir", ["bbo", "ada", ""])
def test_a_robot_is_never_passed_on_to_nobody_nor_to_its_owner(owned, heir):
    owned.add_owner("ada")
    with pytest.raises(UsageError, match="OFFICE-015"):
        owned.transfer("robot-7", "ada", heir)
    facts = owned.describe("robot-7", "ada")
    assert (facts["owner_epoch"], facts["paid_until_s"] > NOW_S) == (1, True)


@pytest.mark.parametrize(
    ("bundle", "bounds"),
    [
        (BUNDLE, {"percent": 101.0}),
        (BUNDLE, {"percent": float("nan")}),
        (BUNDLE, {"min_reports": 0}),
        (BUNDLE, {"max_failure_fraction": 1.0}),
        (BUNDLE, {"max_failure_fraction": float("nan")}),
        (BUNDLE[:8], {}),
    ],
)
def test_a_rollout_that_could_never_halt_is_refused(office, bundle, bounds):
    with pytest.raises(UsageError, match="OFFICE-014"):
        office.start_rollout(bundle, Rollout(**bounds))
    assert office.rollout(bundle) is None


def test_new_bounds_of_a_rollout_take_the_place_of_the_old(office):
    office.start_rollout(BUNDLE, Rollout(percent=10.0, min_reports=5))
    office.start_rollout(
        BUNDLE, Rollout(percent=50.0, min_reports=9, max_failure_fraction=0.01)
    )
    found = office.rollout(BUNDLE)
    assert (found.percent, found.min_reports) == (50.0, 9)
    assert found.max_failure_fraction == 0.01


@pytest.mark.req("R-OTA-19")
def test_a_failure_that_a_person_has_settled_halts_nothing_again(owned):
    owned.start_rollout(BUNDLE, Rollout(percent=100.0, min_reports=1))
    failed = Outcome(bundle=BUNDLE, ok=False, code="E-OTA-GATE-001")
    ask(owned, outcomes=(failed,))
    assert owned.rollout(BUNDLE).halted
    owned.resume_rollout(BUNDLE)
    ask(owned, outcomes=(failed,))  # a robot tells of it at every request
    assert not owned.rollout(BUNDLE).halted
    ask(owned, outcomes=(attrs.evolve(failed, code="E-OTA-TRIAL-001"),))
    assert owned.rollout(BUNDLE).halted
    owned.resume_rollout(BUNDLE)
    ask(owned)  # it tries anew, and its record has forgotten the failure
    ask(owned, outcomes=(failed,))
    assert owned.rollout(BUNDLE).halted


@pytest.mark.req("R-OTA-19")
def test_a_halted_bundle_is_held_back_however_many_rollouts_came_after_it(owned):
    owned.start_rollout(BUNDLE, Rollout(percent=100.0, min_reports=1))
    ask(owned, outcomes=(Outcome(bundle=BUNDLE, ok=False),))
    with open_base(owned.database) as base:
        for number in range(MAX_NAMED):
            start_rollout(base, f"{number:064x}", Rollout(percent=0.0))
    held = ask(owned).held
    assert BUNDLE in held
    assert len(held) == MAX_NAMED


@pytest.mark.req("R-OTA-19")
def test_a_robot_outside_a_rollout_has_no_say_in_it(owned):
    owned.start_rollout(BUNDLE, Rollout(percent=0.0, min_reports=1))
    ask(owned, outcomes=(Outcome(bundle=BUNDLE, ok=False),))
    found = owned.rollout(BUNDLE)
    assert (found.reports, found.halted) == (0, False)


def test_a_robot_that_nobody_owns_has_no_say_in_a_rollout(office):
    office.start_rollout(BUNDLE, Rollout(percent=100.0, min_reports=1))
    failed = Outcome(bundle=BUNDLE, ok=False)
    with pytest.raises(TrustError, match="OFFICE-005"):
        ask(office, outcomes=(failed,))
    assert office.rollout(BUNDLE).reports == 0


def test_a_token_is_kept_as_a_digest_and_opens_nothing_when_unknown(office):
    token = office.add_owner("ada")
    assert office.owner_of(token) == "ada"
    assert token.encode() not in office.database.read_bytes()
    for wrong in ("", "ada", token[:-1]):
        with pytest.raises(TrustError, match="OFFICE-008"):
            office.owner_of(wrong)


# -- the robot's side


@pytest.fixture
def files(tmp_path, office):
    files = RobotFiles(tmp_path / "keys", tmp_path / "state")
    files.keys_dir.mkdir()
    files.office_key_path.write_bytes(OFFICE_KEY.public.pem)
    return files


@pytest.mark.req("R-OTA-19")
@pytest.mark.req("R-OTA-15")
def test_a_robot_enrols_shows_its_code_and_keeps_the_grant_that_answers_it(
    files, office
):
    code = files.enrol(office)
    assert files.claim_code() == code
    name = files.identity().robot_id
    with pytest.raises(TrustError, match="OFFICE-005"):
        files.request(office, Record())
    office.claim(name, code, "ada")
    office.subscribe(name, until_s=NOW_S + DAY_S)
    grant = files.request(office, Record())
    assert (grant.robot_id, files.claim_code()) == (name, None)
    told = files.entitlement().describe(Record(), wall_ns=NOW_S * 10**9)
    assert told.startswith("grant 1 for robot-")
    files.entitlement().admit(
        Record(),
        Ask(bundle=BUNDLE, release_counter=1, channel="stable"),
        wall_ns=NOW_S * 10**9,
    )


@pytest.mark.req("R-OTA-15")
def test_an_answer_to_another_request_is_not_kept(files, office):
    files.enrol(office)
    name = files.identity().robot_id
    office.claim(name, files.claim_code(), "ada")
    office.subscribe(name, until_s=NOW_S + DAY_S)
    first = files.request(office, Record())
    old = files.grant_path.read_bytes()

    class Replayer:
        def grant(self, _):
            return old

    with pytest.raises(TrustError, match="GRANT-008"):
        files.request(Replayer(), Record())
    assert files.grant_path.read_bytes() == old
    assert files.request(office, Record()).grant_seq == first.grant_seq + 1


def test_a_device_asks_for_grants_from_the_day_it_knows_an_office(tmp_path):
    files = RobotFiles(tmp_path / "keys", tmp_path / "state")
    ask_for = Ask(bundle=BUNDLE, release_counter=1, channel="stable")
    assert files.entitlement().admit(Record(), ask_for, wall_ns=0) is None
    files.keys_dir.mkdir()
    files.office_key_path.write_bytes(OFFICE_KEY.public.pem)
    with pytest.raises(TrustError, match="GRANT-011"):
        files.entitlement().admit(Record(), ask_for, wall_ns=0)
    with pytest.raises(UsageError, match="GRANT-013"):
        RobotFiles(tmp_path / "none", tmp_path / "s").request(None, Record())


def test_a_robot_tells_how_bundles_did_from_its_own_record():
    record = Record(
        active="a" * 64,
        good="a" * 64,
        failed=(Failure(bundle=BUNDLE, code="E-OTA-GATE-001", reason="slow"),),
    )
    assert outcomes_of(record) == (
        Outcome(bundle=BUNDLE, ok=False, code="E-OTA-GATE-001"),
        Outcome(bundle="a" * 64, ok=True),
    )


# -- the program


@pytest.fixture
def beside(files, office, tmp_path, monkeypatch, capsys):
    """Run `grant request` on the robot of `files`, the office in this process."""
    from continuon.cli.program import run

    monkeypatch.setattr(office_client, "OfficeClient", lambda _: office)

    def request():
        argv = ["grant", "request", "--office", "here", "--home", str(tmp_path)]
        code = run([*argv, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return request


def test_a_robot_whose_code_is_spent_shows_a_new_one(beside, office):
    _, first = beside()
    for _ in range(MAX_CLAIM_TRIES):
        with pytest.raises(TrustError, match="OFFICE-002"):
            office.claim(first["robot_id"], "WRONG", "eve")
    status, second = beside()
    assert (status, second["claim_code"] != first["claim_code"]) == (4, True)
    assert office.claim(first["robot_id"], second["claim_code"], "ada") == 1


def test_a_robot_that_lost_its_code_in_a_power_cut_shows_a_new_one(
    beside, office, files
):
    _, first = beside()
    assert beside()[1] == first
    (files.state_dir / "claim_code").unlink()
    status, second = beside()
    assert status == 4
    assert office.claim(first["robot_id"], second["claim_code"], "ada") == 1


@pytest.mark.slow
@pytest.mark.req("R-OTA-19")
def test_the_program_serves_an_office_and_a_robot_is_claimed_with_it(
    tmp_path, capsys, monkeypatch
):
    pytest.importorskip("uvicorn")
    from continuon.bundle import new_key
    from continuon.cli.program import run

    shop, robot = tmp_path / "shop", tmp_path / "robot"
    new_key(shop / "keys" / "grant.pem")
    (robot / "keys").mkdir(parents=True)
    shutil.copy(shop / "keys" / "grant.pub.pem", robot / "keys" / "grant.pub.pem")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-c", "from continuon.cli import main; main()"]
    words = ["ota", "serve", "--port", str(port), "--home", str(shop)]
    server = subprocess.Popen([*program, *words], stderr=subprocess.PIPE)
    url = f"http://127.0.0.1:{port}"

    def call(*argv, status=0):
        capsys.readouterr()
        code = run([*argv, "--json"])
        captured = capsys.readouterr()
        assert code == status, captured.err
        return json.loads(captured.out)

    try:
        for _ in range(400):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None
            threading.Event().wait(0.02)
        where = ["--home", str(robot)]
        shown = call("grant", "request", "--office", url, *where, status=4)
        name, code = shown["robot_id"], shown["claim_code"]
        assert call("grant", "show", *where, status=4) == shown
        token = call("grant", "owner", "ada", "--home", str(shop))["token"]
        monkeypatch.setenv("CONTINUON_OWNER_TOKEN", token)
        assert call("grant", "claim", name, code, "--office", url)["owner_epoch"] == 1
        refused = call("grant", "request", "--office", url, *where, status=5)
        assert refused["error"]["code"] == "E-OTA-OFFICE-006"
        call("grant", "subscribe", name, "--days", "30", "--home", str(shop))
        grant = call("grant", "request", "--office", url, *where)
        assert (grant["robot_id"], grant["owner_epoch"]) == (name, 1)
        assert call("grant", "show", name, "--office", url)["grant_seq"] == 1
        assert "fresh" in call("grant", "show", *where)["grant"]
        lost = call("grant", "transfer", name, "bob", "--office", url, status=2)
        assert lost["error"]["code"] == "E-OTA-OFFICE-015"
        call("grant", "owner", "bob", "--home", str(shop))
        passed = call("grant", "transfer", name, "bob", "--office", url)
        assert passed["owner_epoch"] == 2
        call("grant", "show", name, "--office", url, status=5)
        started = ["--percent", "10", "--home", str(shop)]
        begun = call("grant", "rollout", BUNDLE, *started, "--min-reports", "9")
        assert begun["halted"] is False
        wider = ["--percent", "20", "--max-failure-fraction", "0.2"]
        wider = call("grant", "rollout", BUNDLE, *wider, "--home", str(shop))
        assert (wider["percent"], wider["min_reports"]) == (20.0, 9)
        assert wider["max_failure_fraction"] == 0.2
    finally:
        server.terminate()
        server.communicate()
    closed = call("grant", "request", "--office", url, *where, status=1)
    assert closed["error"]["code"] == "E-OTA-OFFICE-013"
