import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from continuon._specs.bundle.strategies import manifests, safety_manifests, versions
from continuon.bundle import (
    build_bundle,
    generate_key,
    hef_placeholder,
    sign_bundle,
    verify_bundle,
)
from continuon.bundle.canonical import canonical_json, parse_strict
from continuon.bundle.manifest_codec import dump_manifest, parse_manifest
from continuon.bundle.safety import (
    at_least_as_tight,
    dump_safety,
    merge_safety,
    parse_safety,
)
from continuon.bundle.semver import parse_version
from continuon.bundle.verify import verify_signature
from continuon.errors import TrustError

pytestmark = pytest.mark.law
few = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e15, 1e15) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.mark.req("R-BUNDLE-18")
@few
@given(json_values)
def test_canonical_json_reads_back_equal_and_is_a_fixed_point(value):
    data = canonical_json(value)
    again = parse_strict(data, where="law")
    assert again == value
    assert canonical_json(again) == data


@pytest.mark.slow
@pytest.mark.req("R-BUNDLE-01")
@few
@given(manifests())
def test_a_manifest_survives_the_round_trip(manifest):
    data = dump_manifest(manifest)
    assert parse_manifest(data) == manifest
    assert dump_manifest(parse_manifest(data)) == data


@pytest.mark.req("R-BUNDLE-05")
@few
@given(versions, versions, versions)
def test_versions_are_totally_ordered(one, two, three):
    assert (one < two) + (one == two) + (one > two) == 1
    assert not (one < two and two < three) or one < three
    assert parse_version(str(one)) == one
    assert str(parse_version(str(one))) == str(one)
    assert one != two or hash(one) == hash(two)


@pytest.mark.req("R-BUNDLE-08")
@few
@given(safety_manifests(), safety_manifests())
def test_merging_only_ever_tightens(base, manifest):
    merged = merge_safety(base, manifest)
    assert at_least_as_tight(merged, base)
    assert at_least_as_tight(merged, manifest)
    assert merge_safety(base, merged) == merged
    assert merge_safety(merged, manifest) == merged
    assert parse_safety(dump_safety(merged)) == merged


@pytest.mark.slow
@pytest.mark.req("R-BUNDLE-08")
@few
@given(safety_manifests(), safety_manifests(2))
def test_a_bundle_that_needs_newer_base_rules_is_refused(base, manifest):
    with pytest.raises(TrustError, match="SAFE-002"):
        merge_safety(base, manifest)


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    root = tmp_path_factory.mktemp("law")
    (root / "a").mkdir()
    (root / "a" / "policy.tflite").write_bytes(b"weights")
    (root / "a" / "golden.json").write_bytes(b"{}")
    (root / "a" / "policy.hef.json").write_bytes(
        hef_placeholder(model_name="p", source_artifact="x")
    )
    (root / "proof.json").write_bytes(b"[]")
    keys = (generate_key(), generate_key("ed25519"))
    info = build_bundle(
        root / "b", artifacts_dir=root / "a", model_name="p", version="1.0.0", release_counter=1,
        source="law", created_at_unix_ms=1, origins=["synthetic"], evidence=[root / "proof.json"],
    )  # fmt: skip
    sign_bundle(info.directory, keys)
    files = sorted(path for path in info.directory.rglob("*") if path.is_file())
    return info.directory, files, [key.public for key in keys]


@pytest.mark.slow
@pytest.mark.req("R-BUNDLE-14")
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_changing_any_byte_of_any_file_is_refused(signed, data):
    directory, files, keys = signed
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    offset = data.draw(st.integers(0, len(original) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda byte: byte != original[offset]))
    try:
        path.write_bytes(original[:offset] + bytes([value]) + original[offset + 1 :])
        with pytest.raises(TrustError):
            verify_bundle(directory, keys, threshold=2)
    finally:
        path.write_bytes(original)
    verify_bundle(directory, keys, threshold=2)


@pytest.mark.req("R-BUNDLE-14")
@pytest.mark.slow
def test_no_byte_of_the_signature_file_is_free(signed):
    directory, _, keys = signed
    original = (directory / "model.sig").read_bytes()
    verify_signature(original, keys, threshold=2)
    accepted = []
    for offset, byte in enumerate(original):
        for value in {byte ^ 1, byte ^ 0x20}:
            data = original[:offset] + bytes([value]) + original[offset + 1 :]
            try:
                verify_signature(data, keys, threshold=2)
            except TrustError:
                continue
            accepted.append((offset, value))
    assert accepted == []
