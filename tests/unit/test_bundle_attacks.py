import json
import shutil

import pytest

from continuon._specs.bundle.attacks import ATTACKS, World
from continuon.bundle import (
    build_bundle,
    generate_key,
    hef_placeholder,
    sign_bundle,
    verify_bundle,
)
from continuon.errors import TrustError


@pytest.fixture(scope="module")
def world():
    return World((generate_key(), generate_key("ed25519")), generate_key(), 2)


@pytest.fixture(scope="module")
def original(tmp_path_factory, world):
    root = tmp_path_factory.mktemp("bundle")
    artifacts = root / "artifacts"
    artifacts.mkdir()
    (artifacts / "policy.tflite").write_bytes(b"TFL3" * 64)
    (artifacts / "golden.json").write_bytes(b'{"a": 1}')
    (artifacts / "spec.json").write_bytes(b'{"b": 2}')
    (artifacts / "policy.hef.json").write_bytes(
        hef_placeholder(model_name="policy", source_artifact="policy.tflite")
    )
    proof = root / "proof_of_learning.json"
    proof.write_text(json.dumps({"improved": True}))
    info = build_bundle(
        root / "policy",
        artifacts_dir=artifacts,
        model_name="policy",
        version="1.0.0",
        release_counter=1,
        source="tests",
        created_at_unix_ms=1_790_000_000_000,
        origins=["simulated"],
        evidence=[proof],
    )
    sign_bundle(info.directory, world.publishers)
    return info.directory


@pytest.mark.req("R-BUNDLE-15")
@pytest.mark.req("R-BUNDLE-11")
@pytest.mark.req("R-BUNDLE-13")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_each_attack_is_refused_with_its_own_code(attack, original, world, tmp_path):
    bundle = tmp_path / "policy"
    shutil.copytree(original, bundle)
    attack.apply(bundle, world)
    with pytest.raises(TrustError) as caught:
        verify_bundle(
            bundle, [key.public for key in world.publishers], threshold=world.threshold
        )
    assert caught.value.code == attack.code
    assert caught.value.exit_code == 5


def test_the_bundle_that_the_attacks_start_from_is_accepted(original, world):
    keys = [key.public for key in world.publishers]
    assert verify_bundle(original, keys, threshold=2).threshold == 2


@pytest.mark.req("R-BUNDLE-15")
def test_there_are_at_least_25_attacks_and_each_has_its_name():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 25
