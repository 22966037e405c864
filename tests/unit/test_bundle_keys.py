import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from continuon.bundle import load_private_key, load_public_key, new_key
from continuon.bundle.keys import generate_key, verifying_key_from_pem
from continuon.bundle.token_io import TokenKeyName, load_token_key, parse_token_uri
from continuon.bundle.words import WORDS, spell
from continuon.errors import MissingPackageError, TrustError, UsageError

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
    with pytest.raises(TrustError, match="KEY-006"):
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


@pytest.mark.req("R-BUNDLE-23")
@pytest.mark.parametrize(
    "uri", ["release.pem", "pkcs11:", "pkcs11:token=t", "pkcs11:object=k", "pkcs11:;;"]
)
def test_a_name_that_is_no_key_on_a_token_is_refused(uri):
    with pytest.raises(UsageError, match="KEY-009"):
        parse_token_uri(uri)


@pytest.mark.req("R-BUNDLE-23")
def test_a_key_on_a_token_is_named_as_rfc_7512_names_it():
    name = parse_token_uri(
        "pkcs11:token=my%20card;object=release?module-path=/lib/x.so"
    )
    assert name == TokenKeyName("my card", "release", Path("/lib/x.so"))


@pytest.mark.req("R-BUNDLE-23")
def test_without_the_package_or_the_library_the_error_says_what_is_missing(
    monkeypatch, tmp_path
):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pkcs11", None)
        with pytest.raises(MissingPackageError, match=r"continuon\[hsm\]"):
            load_token_key("pkcs11:token=t;object=k", pin="1")
    pytest.importorskip("pkcs11")
    for module in (None, tmp_path / "none.so"):
        with pytest.raises(UsageError, match="KEY-010"):
            load_token_key("pkcs11:token=t;object=k", pin="1", default_module=module)


SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")


@pytest.mark.slow
@pytest.mark.req("R-BUNDLE-23")
@pytest.mark.skipif(not SOFTHSM.is_file(), reason="softhsm2 is not installed")
def test_a_key_on_a_token_signs_what_its_public_half_verifies(tmp_path, monkeypatch):
    pytest.importorskip("pkcs11")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm.conf").write_text(
        f"directories.tokendir = {tmp_path}/tokens\n"
    )
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm.conf"))
    words = ["--init-token", "--free", "--label", "card", "--so-pin", "4321"]
    made = ["softhsm2-util", *words, "--pin", "1234"]
    subprocess.run(made, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", TOKEN, str(SOFTHSM)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["verified", "E-BUNDLE-KEY-011", "E-BUNDLE-KEY-011"]


TOKEN = """
import sys, pkcs11
from pathlib import Path
from continuon.bundle.token_io import load_token_key
from continuon.errors import TrustError
module = Path(sys.argv[1])
library = pkcs11.lib(str(module))
token = library.get_token(token_label="card")
with token.open(rw=True, user_pin="1234") as session:
    curve = pkcs11.util.ec.encode_named_curve_parameters("secp256r1")
    domain = session.create_domain_parameters(
        pkcs11.KeyType.EC, {pkcs11.Attribute.EC_PARAMS: curve}, local=True)
    domain.generate_keypair(label="release", store=True)
key = load_token_key("pkcs11:token=card;object=release", pin="1234",
                     default_module=module)
key.public.verify(key.sign(b"message"), b"message")
print("verified")
for uri in ("pkcs11:token=card;object=other", "pkcs11:token=none;object=release"):
    try:
        load_token_key(uri, pin="1234", default_module=module)
    except TrustError as error:
        print(error.code)
"""


def test_a_missing_public_key_is_the_publisher_s_to_give_and_never_made_anew(tmp_path):
    """A new key would be one that nothing was signed with."""
    with pytest.raises(TrustError, match="the publisher's public key") as public:
        load_public_key(tmp_path / "release.pub.pem")
    with pytest.raises(UsageError, match="continuon keys new") as private:
        load_private_key(tmp_path / "release.pem")
    assert public.value.code == private.value.code == "E-BUNDLE-KEY-006"


def test_the_short_way_to_a_p256_key_is_the_library_s_way():
    from cryptography.hazmat.primitives import serialization

    key = generate_key()
    loaded = serialization.load_pem_public_key(key.public.pem)
    read = verifying_key_from_pem(key.public.pem)
    assert read == key.public
    assert read.handle.public_numbers() == loaded.public_numbers()
    windows = key.public.pem.replace(b"\n", b"\r\n")
    assert verifying_key_from_pem(windows) == key.public
    wrong = bytearray(b"".join(key.public.pem.splitlines()[1:-1]))
    wrong[-20] = ord("A") if wrong[-20] != ord("A") else ord("B")
    lines = [bytes(wrong[at : at + 64]) for at in range(0, len(wrong), 64)]
    head, *_, tail = key.public.pem.splitlines()
    with pytest.raises(TrustError, match="KEY-002"):
        verifying_key_from_pem(b"\n".join([head, *lines, tail]) + b"\n")
