"""The short lane of `bundle verify` says what the whole program says."""

import shutil
import subprocess
import sys

import pytest

from continuon._specs.bundle.attacks import ATTACKS, World
from continuon.bundle import build_bundle, generate_key, sign_bundle
from continuon.cli.program import run
from continuon.cli.verify_lane import verify_now


@pytest.fixture(scope="module")
def world():
    return World((generate_key(), generate_key("ed25519")), generate_key(), 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory, world):
    root = tmp_path_factory.mktemp("lane")
    artifacts = root / "artifacts"
    artifacts.mkdir()
    for name in ("policy.tflite", "policy.weights", "spec.json", "golden.json"):
        (artifacts / name).write_bytes(b"{}")
    info = build_bundle(
        root / "policy",
        artifacts_dir=artifacts,
        model_name="policy",
        version="1.0.0",
        release_counter=1,
        source="tests",
        created_at_unix_ms=1_790_000_000_000,
        origins=["simulated"],
    )
    sign_bundle(info.directory, world.publishers)
    for name, key in zip("ab", world.publishers, strict=True):
        (root / f"{name}.pub.pem").write_bytes(key.public.pem)
    (root / "torn.pub.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
    return root


def both(tokens, capsys):
    """Return (exit code, output, errors) of the lane and of the whole program."""
    code = verify_now(tokens, {})
    short = (code, *capsys.readouterr())
    whole = (run(["bundle", "verify", *tokens]), *capsys.readouterr())
    return short, whole


@pytest.mark.law
@pytest.mark.parametrize(
    "words",
    [
        "policy --key a.pub.pem",
        "--key a.pub.pem policy",
        "policy/ --key ./a.pub.pem",
        "./policy --key=a.pub.pem --key b.pub.pem --threshold 2",
        "policy --key a.pub.pem --threshold 2",
        "policy --key a.pub.pem --threshold 0",
        "policy --key a.pub.pem --key a.pub.pem --threshold=2",
        "policy --key torn.pub.pem",
        "policy --key absent.pub.pem",
        "absent --key a.pub.pem",
        "a.pub.pem --key a.pub.pem",
        "artifacts --key a.pub.pem",
        "policy/../policy --key a.pub.pem",
    ],
)
def test_a_plain_line_ends_the_same_in_both(words, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    short, whole = both(words.split(), capsys)
    assert short == whole
    assert short[0] in (0, 2, 5)


@pytest.mark.law
@pytest.mark.parametrize("attack", ATTACKS[::4], ids=lambda attack: attack.name)
def test_an_attack_is_refused_in_the_same_words(
    attack, place, world, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "policy"
    shutil.copytree(place / "policy", bundle)
    attack.apply(bundle, world)
    keys = [f"--key={place / name}.pub.pem" for name in "ab"]
    short, whole = both([str(bundle), *keys, "--threshold", "2"], capsys)
    assert short == whole
    assert short[0] == 5


@pytest.mark.parametrize(
    "words",
    [
        "policy",
        "--key a.pub.pem",
        "policy policy --key a.pub.pem",
        "policy --key",
        "policy --key=",
        "policy --key --threshold",
        "policy --key a.pub.pem --threshold 1 --threshold 1",
        "policy --key a.pub.pem --threshold one",
        "policy --key a.pub.pem --json",
        "policy --key a.pub.pem --help",
        "//policy --key a.pub.pem",
    ],
)
def test_what_is_not_plain_goes_to_the_whole_program(words, place, monkeypatch):
    monkeypatch.chdir(place)
    assert verify_now(words.split(), {}) is None


@pytest.mark.parametrize(
    "environ", [{"CONTINUON_CONFIG": "x"}, {"CONTINUON_BUNDLE_VERIFY_THRESHOLD": "2"}]
)
def test_configuration_goes_to_the_whole_program(environ, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = [str(place / "policy"), "--key", str(place / "a.pub.pem")]
    assert verify_now(line, environ) is None
    (tmp_path / "continuon.toml").touch()
    assert verify_now(line, {}) is None


@pytest.mark.slow
def test_the_lane_loads_none_of_the_libraries_that_it_can_spare(place, tmp_path):
    heavy = [
        "attrs",
        "attr",
        "msgspec",
        "inspect",
        "pathlib",
        "dataclasses",
        "cyclopts",
        "rich",
        "numpy",
        "base64",
        "cryptography.x509",
        "cryptography.hazmat.primitives.serialization",
        "cryptography.hazmat.backends.openssl.backend",
    ]
    code = (
        "import sys; from continuon.cli.verify_lane import verify_now; "
        f"print(verify_now({[str(place / 'policy'), f'--key={place}/a.pub.pem']}, {{}}),"
        f"[m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.splitlines()[-1] == "0 []"
