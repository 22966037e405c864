import json
import stat

import pytest

from continuon.clock import ManualClock
from continuon.errors import DataError, TrustError
from continuon.robot.access import (
    CODE_TTL_NS,
    Role,
    Token,
    decide_access,
    hash_token,
    is_loopback,
    names_this_host,
)
from continuon.robot.token_store import TokenStore

OWNER = Token(name="phone", role=Role.OWNER, sha256=hash_token("secret"))
VIEWER = Token(name="wall", role=Role.VIEWER, sha256=hash_token("look"))


def access(
    *, peer="127.0.0.1", host="localhost:8787", auth=None, tokens=(), names=(), own=None
):
    return decide_access(
        peer=peer,
        host_header=host,
        authorization=auth,
        tokens=tokens,
        own_names=names,
        local_sha256=own,
    )


@pytest.mark.req("R-API-01")
def test_before_pairing_a_person_at_the_robot_is_its_owner():
    assert access().role is Role.OWNER
    assert access(peer="::1", host="[::1]:8787").role is Role.OWNER


@pytest.mark.req("R-API-01")
@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("192.0.2.7", "localhost"),
        ("127.0.0.1", "evil.example"),
        ("127.0.0.1", "localhost.evil.example"),
        ("127.0.0.1", None),
        ("127.0.0.1", ""),
        (None, "localhost"),
        ("10.127.0.1", "localhost"),
    ],
)
def test_before_pairing_nobody_else_is_answered(peer, host):
    assert access(peer=peer, host=host).role is Role.NOBODY


@pytest.mark.req("R-API-01")
def test_once_paired_being_on_the_robot_is_not_enough():
    assert access(tokens=(OWNER,)).role is Role.NOBODY
    assert access(tokens=(OWNER,), auth="Bearer secret").role is Role.OWNER


@pytest.mark.req("R-API-03")
@pytest.mark.parametrize(
    "auth", ["secret", "Basic secret", "Bearer wrong", "Bearer ", "Bearer secret x"]
)
def test_only_the_whole_token_counts(auth):
    assert access(tokens=(OWNER, VIEWER), auth=auth).role is Role.NOBODY


@pytest.mark.req("R-API-01")
def test_a_wrong_token_is_worse_than_none_before_pairing():
    assert access(auth="Bearer guess").role is Role.NOBODY


@pytest.mark.req("R-API-03")
def test_a_token_gives_its_own_role():
    seen = access(
        tokens=(OWNER, VIEWER),
        auth="bearer look",
        peer="192.0.2.7",
        host="car.local",
        names=("car.local",),
    )
    assert (seen.role, seen.name) == (Role.VIEWER, "wall")


@pytest.mark.req("R-API-01")
def test_the_secret_in_this_machines_file_counts_on_this_machine_only():
    own = hash_token("mine")
    near = access(tokens=(VIEWER,), auth="Bearer mine", own=own)
    assert (near.role, near.name) == (Role.OWNER, "local")
    far = {"peer": "192.0.2.7", "host": "car.local", "names": ("car.local",)}
    assert access(tokens=(VIEWER,), auth="Bearer mine", own=own, **far).role == 0
    assert access(tokens=(VIEWER,), auth="Bearer other", own=own).role is Role.NOBODY


def test_addresses_and_names_of_this_machine():
    assert is_loopback("127.9.9.9")
    assert not is_loopback("128.0.0.1")
    assert names_this_host("[::1]:80")
    assert not names_this_host("[::2]:80")


@pytest.fixture
def store(tmp_path):
    store = TokenStore(tmp_path / "tokens.json", ManualClock())
    store.load()
    return store


@pytest.mark.req("R-API-03")
def test_the_right_code_gives_a_token_of_which_only_the_hash_is_kept(store):
    code = store.open_window().code
    secret, role = store.pair(code, "phone")
    assert role is Role.OWNER
    text = store._path.read_text()
    assert secret not in text
    assert json.loads(text)[0]["sha256"] == hash_token(secret)
    assert stat.S_IMODE(store._path.stat().st_mode) == 0o600
    again = TokenStore(store._path, ManualClock())
    assert again.load() == store.tokens


@pytest.mark.req("R-API-02")
def test_a_code_works_once(store):
    code = store.open_window().code
    store.pair(code, "phone")
    with pytest.raises(TrustError, match="E-ROBOT-PAIR-001"):
        store.pair(code, "another")


def wrong(code):
    return f"{(int(code) + 1) % 1_000_000:06d}"


@pytest.mark.req("R-API-02")
def test_five_wrong_codes_end_the_pairing(store):
    code = store.open_window().code
    for _ in range(5):
        with pytest.raises(TrustError, match="E-ROBOT-PAIR-002"):
            store.pair(wrong(code), "x")
    with pytest.raises(TrustError, match="E-ROBOT-PAIR-001"):
        store.pair(code, "x")
    assert store.tokens == ()


@pytest.mark.req("R-API-02")
def test_a_code_expires(store):
    code = store.open_window().code
    store._clock.advance_ns(CODE_TTL_NS)
    with pytest.raises(TrustError, match="E-ROBOT-PAIR-001"):
        store.pair(code, "x")


def test_without_a_window_no_code_is_right(store):
    with pytest.raises(TrustError, match="E-ROBOT-PAIR-001"):
        store.pair("000000", "x")


@pytest.mark.parametrize("damage", ["", "{", '[{"name": 1}]', '[{"role": 9}]'])
def test_a_damaged_file_of_clients_does_not_unpair_the_robot(store, damage):
    store._path.write_text(damage)
    with pytest.raises(DataError, match="E-ROBOT-TOKENS-001"):
        store.load()
