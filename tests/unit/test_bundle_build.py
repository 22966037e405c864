import json
import shutil

import attrs
import pytest

from continuon.bundle import (
    build_bundle,
    generate_key,
    hef_placeholder,
    sign_bundle,
    verify_bundle,
)
from continuon.bundle.placeholder import check_placeholder
from continuon.bundle.safety import CAR_BASE_RULES
from continuon.bundle.sbom import installed_packages
from continuon.errors import ContractError, DataError, TrustError, UsageError

KEYS = (generate_key(), generate_key("ed25519"), generate_key("ml-dsa-65"))
PUBLIC = [key.public for key in KEYS]


@pytest.fixture
def inputs(tmp_path):
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    for name in (
        "policy.tflite",
        "policy.weights",
        "policy.stablehlo",
        "spec.json",
        "golden.json",
    ):
        (artifacts / name).write_bytes(name.encode() * 7)
    (artifacts / "spec.json").write_text('{"image_height": 6, "proprio": []}')
    (artifacts / "policy.hef.json").write_bytes(
        hef_placeholder(model_name="hope", source_artifact="policy.tflite")
    )
    evidence = tmp_path / "proof_of_learning.json"
    evidence.write_text("{}")
    return {
        "artifacts_dir": artifacts,
        "model_name": "hope",
        "version": "1.2.3-rc.1",
        "release_counter": 4,
        "source": "tests",
        "created_at_unix_ms": 1_790_000_000_000,
        "origins": ["simulated", "imported"],
        "evidence": [evidence],
    }


def tree(directory):
    return {
        p.relative_to(directory).as_posix(): p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file()
    }


@pytest.mark.req("R-BUNDLE-06")
def test_the_same_inputs_give_the_same_bytes(inputs, tmp_path):
    one = build_bundle(tmp_path / "one", **inputs)
    two = build_bundle(tmp_path / "elsewhere" / "two", **inputs)
    assert tree(one.directory) == tree(two.directory)
    assert one.manifest == two.manifest


@pytest.mark.req("R-BUNDLE-10")
def test_the_bundle_id_depends_on_no_directory_and_no_key(inputs, tmp_path):
    ids = set()
    for name, keys in (("one", KEYS[:1]), ("two", KEYS), ("three", (generate_key(),))):
        build_bundle(tmp_path / name, **inputs)
        ids.add(sign_bundle(tmp_path / name, keys).bundle_id)
    assert len(ids) == 1


@pytest.mark.req("R-BUNDLE-09")
@pytest.mark.req("R-BUNDLE-12")
def test_a_hybrid_bundle_verifies_at_any_threshold_that_it_meets(inputs, tmp_path):
    bundle = build_bundle(tmp_path / "b", **inputs).directory
    signed = sign_bundle(bundle, KEYS)
    assert signed.algorithms == ("ecdsa-p256", "ed25519", "ml-dsa-65")
    assert signed.signature_bytes < 8192
    for threshold in (1, 2, 3):
        verified = verify_bundle(bundle, PUBLIC, threshold=threshold)
        assert verified.bundle_id == signed.bundle_id
    assert verified.manifest.backends[0].name == "litert"
    assert [item.name for item in verified.manifest.backends] == ["litert", "numpy"]
    assert verified.safety == CAR_BASE_RULES
    sign_bundle(bundle, KEYS[:1])
    with pytest.raises(TrustError, match="SIG-004"):
        verify_bundle(bundle, [PUBLIC[0], PUBLIC[0], PUBLIC[1]], threshold=2)


@pytest.mark.req("R-BUNDLE-12")
@pytest.mark.parametrize("threshold", [0, 2, -1])
def test_a_threshold_that_cannot_be_met_is_a_mistake_of_the_caller(
    inputs, tmp_path, threshold
):
    bundle = build_bundle(tmp_path / "b", **inputs).directory
    sign_bundle(bundle, KEYS[:1])
    with pytest.raises(UsageError, match="SIG-012"):
        verify_bundle(bundle, [PUBLIC[0], PUBLIC[0]], threshold=threshold)
    with pytest.raises(UsageError, match="SIG-012"):
        verify_bundle(bundle, [])


@pytest.mark.req("R-BUNDLE-09")
def test_the_stock_tools_key_order_is_kept(inputs, tmp_path):
    bundle = build_bundle(tmp_path / "b", **inputs).directory
    with pytest.raises(UsageError, match="KEY-008"):
        sign_bundle(bundle, KEYS[::-1])
    with pytest.raises(UsageError, match="KEY-007"):
        sign_bundle(bundle, [])
    with pytest.raises(UsageError, match="KEY-007"):
        sign_bundle(bundle, [KEYS[0], KEYS[0]])


def test_an_illegal_manifest_is_never_signed(inputs, tmp_path):
    bundle = build_bundle(tmp_path / "b", **inputs).directory
    (bundle / "edge_manifest.json").write_text("{}")
    with pytest.raises(ContractError, match="MAN-003"):
        sign_bundle(bundle, KEYS[:1])
    assert not (bundle / "model.sig").exists()


@pytest.mark.req("R-BUNDLE-07")
def test_a_placeholder_is_listed_as_one_and_is_no_backend(inputs, tmp_path):
    manifest = build_bundle(tmp_path / "b", **inputs).manifest
    assert manifest.artifact("policy.hef.json").role == "placeholder"
    assert "hailo" not in [backend.name for backend in manifest.backends]


@pytest.mark.req("R-BUNDLE-07")
@pytest.mark.parametrize(
    ("data", "path", "code"),
    [
        (b"\x01HEF", "policy.hef.json", "HEF-002"),
        (b"", "policy.hef.json", "HEF-002"),
        (b"{" + b" " * (1 << 17), "policy.hef.json", "HEF-002"),
        (b"{}", "policy.hef.json", "HEF-001"),
        (b'{"placeholder":true,"loadable":true}', "policy.hef.json", "HEF-001"),
        (b'{"placeholder":true}', "policy.hef", "HEF-001"),
    ],
)
def test_what_is_no_placeholder_is_refused(data, path, code):
    with pytest.raises(ContractError, match=code):
        check_placeholder(data, path=path)


def test_a_directory_that_is_there_is_kept_unless_asked(inputs, tmp_path):
    build_bundle(tmp_path / "b", **inputs)
    with pytest.raises(UsageError, match="BUILD-001"):
        build_bundle(tmp_path / "b", **inputs)
    again = build_bundle(
        tmp_path / "b", **{**inputs, "release_counter": 5}, replace=True
    )
    assert (
        json.loads((again.directory / "edge_manifest.json").read_bytes())[
            "release_counter"
        ]
        == 5
    )


def test_artifacts_without_golden_vectors_are_refused(inputs, tmp_path):
    (inputs["artifacts_dir"] / "golden.json").unlink()
    with pytest.raises(DataError, match="BUILD-002"):
        build_bundle(tmp_path / "b", **inputs)
    assert not (tmp_path / "b").exists()


def test_a_refused_build_leaves_nothing_beside_the_bundle(inputs, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ContractError, match="VER-001"):
        build_bundle(tmp_path / "b", **{**inputs, "version": "v1"})
    assert sorted(tmp_path.rglob("*")) == before


def test_only_a_bundle_is_replaced(inputs, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    build_bundle(folder, **inputs, replace=True)
    build_bundle(folder, **inputs, replace=True)
    (folder / "edge_manifest.json").unlink()
    before = sorted(folder.rglob("*"))
    with pytest.raises(UsageError, match="BUILD-003"):
        build_bundle(folder, **inputs, replace=True)
    assert sorted(folder.rglob("*")) == before


def test_evidence_that_is_missing_or_named_twice_is_refused(inputs, tmp_path):
    (tmp_path / "again").mkdir()
    twin = tmp_path / "again" / "proof_of_learning.json"
    twin.write_text("{}")
    with pytest.raises(DataError, match="BUILD-002"):
        build_bundle(
            tmp_path / "b", **{**inputs, "evidence": [*inputs["evidence"], twin]}
        )
    with pytest.raises(DataError, match="BUILD-002"):
        build_bundle(tmp_path / "b", **{**inputs, "evidence": [tmp_path / "none.json"]})


@pytest.mark.req("R-BUNDLE-21")
@pytest.mark.slow
def test_a_large_file_is_hashed_in_constant_memory(inputs, tmp_path):
    import tracemalloc

    (inputs["artifacts_dir"] / "policy.tflite").write_bytes(
        bytes(range(256)) * (32 << 12)
    )
    bundle = build_bundle(tmp_path / "b", **inputs).directory
    sign_bundle(bundle, KEYS[:1])
    tracemalloc.start()
    verify_bundle(bundle, PUBLIC[:1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    path = bundle / "policy.tflite"
    with path.open("r+b") as file:
        file.seek(20 << 20)
        file.write(b"\x07")
    with pytest.raises(TrustError, match="SET-003"):
        verify_bundle(bundle, PUBLIC[:1])


def test_a_safety_file_and_its_manifest_name_one_version(inputs, tmp_path):
    safety = attrs.evolve(CAR_BASE_RULES, base_rule_version=2)
    bundle = build_bundle(tmp_path / "b", **inputs, safety=safety).directory
    sign_bundle(bundle, KEYS[:1])
    assert verify_bundle(bundle, PUBLIC[:1]).safety.base_rule_version == 2
    shutil.rmtree(bundle)


@pytest.mark.req("R-BUNDLE-24")
def test_the_bill_of_materials_names_every_file_and_package_and_is_signed(
    inputs, tmp_path
):
    packages = {"numpy": "2.4.1", "flax": "0.12"}
    trees = []
    for name in "ab":
        build_bundle(tmp_path / name, **inputs, packages=packages)
        trees.append(tree(tmp_path / name))
    assert trees[0] == trees[1]
    bill = json.loads(trees[0]["evidence/sbom.cdx.json"])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    kinds = [item["type"] for item in bill["components"]]
    assert kinds == sorted(kinds)
    files = {
        item["name"]: item["hashes"][0]["content"]
        for item in bill["components"]
        if item["type"] == "file"
    }
    sign_bundle(tmp_path / "a", KEYS[:1])
    verified = verify_bundle(tmp_path / "a", PUBLIC[:1])
    listed = {item.path: item.sha256 for item in verified.manifest.artifacts}
    assert files == listed
    found = {i["name"]: i["version"] for i in bill["components"] if "version" in i}
    assert found == packages
    assert ("sbom", "evidence/sbom.cdx.json") in [
        (item.kind, item.path) for item in verified.manifest.evidence
    ]
    own = tmp_path / "sbom.cdx.json"
    own.write_text("{}")
    with pytest.raises(DataError, match="BUILD-002"):
        build_bundle(tmp_path / "c", **{**inputs, "evidence": [own]}, packages=packages)


def test_installed_packages_are_named_as_indexes_name_them():
    found = installed_packages()
    assert found["numpy"]
    assert all(name == name.lower() and "_" not in name for name in found)


def test_the_manifest_says_what_the_policy_is_given(inputs, tmp_path):
    first = build_bundle(tmp_path / "one", **inputs).manifest
    assert first.compat.senses == ("image",)
    deep = {"image_height": 6, "depth_height": 3, "instruction_size": 8, "proprio": []}
    (inputs["artifacts_dir"] / "spec.json").write_text(json.dumps(deep))
    second = build_bundle(tmp_path / "two", **inputs).manifest
    assert second.compat.senses == ("depth", "image", "instruction")
    (inputs["artifacts_dir"] / "spec.json").write_text("[6, 3]")
    with pytest.raises(DataError, match="E-BUNDLE-SPEC-001"):
        build_bundle(tmp_path / "three", **inputs)
    assert not (tmp_path / "three").exists()


def test_every_policy_is_a_backend_floats_first_unless_its_maker_says(inputs, tmp_path):
    for name in ("policy.onnx", "policy.int8.tflite"):
        (inputs["artifacts_dir"] / name).write_bytes(b"x")
    made = build_bundle(tmp_path / "one", **inputs).manifest.backends
    names = ["litert", "onnxruntime", "numpy", "litert-int8"]
    assert [backend.name for backend in made] == names
    assert made[-1].tolerance == 0.02
    asked = ("litert-int8", "numpy")
    made = build_bundle(tmp_path / "two", backends=asked, **inputs).manifest.backends
    assert tuple(backend.name for backend in made) == asked
