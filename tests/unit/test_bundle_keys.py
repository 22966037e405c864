import json
import stat
from pathlib import Path

import pytest

from continuon.bundle import load_private_key, load_public_key, new_key
from continuon.bundle.keys import generate_key, verifying_key_from_pem
from continuon.bundle.words import WORDS, spell
from continuon.errors import TrustError, UsageError

VECTORS = (
    Path(__file__).parents[3] / "shared" / "data" / "crypto-vectors" / "wycheproof"
)
needs_vectors = pytest.mark.skipif(
    not VECTORS.is_dir(), reason="the Wycheproof vectors are not here"
)


@pytest.mark.req("R-BUNDLE-16")
@pytest.mark.parametrize("algorithm", ["ecdsa-p256", "ed25519", "ml-dsa-65"])
def test_a_new_key_signs_and_its_public_half_verifies(tmp_path, algorithm):
    files = new_key(tmp_path / "keys" / "release.pem", algorithm=algorithm)
    assert stat.S_IMODE(files.private_path.stat().st_mode) == 0o600
    assert files.public_path.name == "release.pub.pem"
    key = load_private_key(files.private_path)
    public = load_public_key(files.public_path)
    assert public == key.public
    assert public.fingerprint == files.fingerprint
    public.verify(key.sign(b"m"), b"m")
    with pytest.raises(TrustError, match="KEY-001"):
        public.verify(key.sign(b"m"), b"n")


@pytest.mark.req("R-BUNDLE-16")
def test_a_password_is_needed_for_an_encrypted_key(tmp_path):
    files = new_key(tmp_path / "release.pem", password="correct horse")
    assert files.encrypted
    assert b"ENCRYPTED" in files.private_path.read_bytes()
    for wrong in (None, "wrong"):
        with pytest.raises(TrustError, match="KEY-002"):
            load_private_key(files.private_path, password=wrong)
    load_private_key(files.private_path, password="correct horse")


@pytest.mark.req("R-BUNDLE-16")
def test_no_key_file_is_ever_overwritten(tmp_path):
    new_key(tmp_path / "a.pem")
    with pytest.raises(UsageError, match="KEY-004"):
        new_key(tmp_path / "a.pem")
    (tmp_path / "b.pub.pem").write_text("mine")
    with pytest.raises(UsageError, match="KEY-004"):
        new_key(tmp_path / "b.pem")
    assert not (tmp_path / "b.pem").exists()


def test_a_private_key_that_others_can_read_is_refused(tmp_path):
    files = new_key(tmp_path / "a.pem")
    files.private_path.chmod(0o640)
    with pytest.raises(TrustError, match="KEY-005"):
        load_private_key(files.private_path)


def test_other_kinds_of_keys_and_bytes_are_refused(tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = other.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for data in (pem, b"", b"-----BEGIN PUBLIC KEY-----\n"):
        with pytest.raises(TrustError, match="KEY-002"):
            verifying_key_from_pem(data)
    with pytest.raises(UsageError, match="KEY-006"):
        load_public_key(tmp_path / "none.pem")
    with pytest.raises(UsageError, match="KEY-003"):
        generate_key("rsa")


def test_a_private_key_does_not_reach_its_repr():
    assert "PRIVATE" not in repr(generate_key())


@pytest.mark.req("R-BUNDLE-17")
def test_fingerprints_are_spelled_in_distinct_words():
    assert len(set(WORDS)) == 256
    assert len(spell(bytes(range(32))).replace(" - ", " ").split()) == 12
    one, two = generate_key().public, generate_key().public
    assert one.words != two.words


def judge(key, signature, message):
    try:
        key.verify(signature, message)
    except TrustError:
        return "invalid"
    return "valid"


@pytest.mark.req("R-BUNDLE-19")
@needs_vectors
@pytest.mark.slow
@pytest.mark.parametrize("name", ["ecdsa_secp256r1_sha256_test", "ed25519_test"])
def test_wycheproof_signatures_are_judged_as_published(name):
    suite = json.loads((VECTORS / f"{name}.json").read_bytes())
    count = 0
    for group in suite["testGroups"]:
        key = verifying_key_from_pem(group["publicKeyPem"].encode())
        for case in group["tests"]:
            seen = judge(key, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            assert seen == case["result"], case
            count += 1
    assert count == suite["numberOfTests"]
