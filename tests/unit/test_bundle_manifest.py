import importlib
import itertools
import json
from pathlib import Path

import attrs
import pytest

from continuon.bundle.manifest import (
    Artifact,
    Backend,
    Compat,
    Delta,
    HealthGate,
    Manifest,
    SafetyReference,
)
from continuon.bundle.manifest_codec import dump_manifest, parse_manifest
from continuon.bundle.manifest_legacy import legacy_view
from continuon.bundle.semver import parse_version
from continuon.errors import ContractError

D = "0" * 64
MANIFEST = Manifest(
    model_name="hope",
    version="1.0.0",
    release_counter=1,
    created_at_unix_ms=1_790_000_000_000,
    source="tests",
    origins=("imported",),
    compat=Compat(control_rate_hz=50.0),
    artifacts=(
        Artifact(path="golden.json", role="golden", backend=None, bytes=2, sha256=D),
        Artifact(path="policy.hef.json", role="placeholder", backend="hailo", bytes=2, sha256="1" * 64),
        Artifact(path="policy.tflite", role="policy", backend="litert", bytes=2, sha256="2" * 64),
        Artifact(path="safety.json", role="safety", backend=None, bytes=2, sha256="3" * 64),
    ),
    backends=(
        Backend(name="litert", artifact="policy.tflite", golden="golden.json", tolerance=1e-3, latency_budget_ms=20.0),
    ),
    safety=SafetyReference(path="safety.json", sha256="3" * 64, min_base_rule_version=1),
    health_gate=HealthGate(
        golden_max_error=1e-3, latency_p99_ms=20.0, soak_ticks=50, timeout_s=10.0, max_veto_fraction=0.0
    ),
)  # fmt: skip


def mutate(path, value):
    plain = json.loads(dump_manifest(MANIFEST))
    target = plain
    for key in path[:-1]:
        target = target[key]
    if value is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return json.dumps(plain).encode()


@pytest.mark.req("R-BUNDLE-01")
@pytest.mark.req("R-BUNDLE-03")
@pytest.mark.req("R-BUNDLE-04")
@pytest.mark.req("R-BUNDLE-07")
@pytest.mark.req("R-BUNDLE-22")
@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (["schema"], "continuon.edge-manifest/2", "MAN-003"),
        (["schema"], KeyError, "MAN-003"),
        (["model_name"], KeyError, "MAN-001"),
        (["release_counter"], "1", "MAN-001"),
        (["release_counter"], 1.5, "MAN-001"),
        (["artifacts", 0, "bytes"], None, "MAN-001"),
        (["verified"], True, "MAN-002"),
        (["extensions"], {}, "MAN-002"),
        (["compat", "boardz"], [], "MAN-002"),
        (["artifacts", 0, "signed"], True, "MAN-002"),
        (["artifacts", 0, "path"], "../golden.json", "MAN-004"),
        (["artifacts", 0, "path"], "/golden.json", "MAN-004"),
        (["artifacts", 0, "path"], "a//b", "MAN-004"),
        (["artifacts", 0, "path"], "a\\b", "MAN-004"),
        (["artifacts", 0, "path"], "a\u0000b", "MAN-004"),
        (["artifacts", 0, "path"], "gölden.json", "MAN-004"),
        (["artifacts", 0, "path"], ".", "MAN-004"),
        (["artifacts", 0, "path"], "POLICY.tflite", "MAN-005"),
        (["artifacts", 0, "path"], "model.sig", "MAN-005"),
        (["artifacts", 0, "path"], "Edge_Manifest.json", "MAN-005"),
        (["artifacts", 0, "path"], "policy.tflite/golden.json", "MAN-005"),
        (["backends", 0, "golden"], "other.json", "MAN-006"),
        (["safety", "path"], "other.json", "MAN-006"),
        (["release_counter"], -1, "MAN-007"),
        (["created_at_unix_ms"], 0, "MAN-007"),
        (["model_name"], "Hope Model", "MAN-007"),
        (["source"], "", "MAN-007"),
        (["compat", "control_rate_hz"], 0, "MAN-007"),
        (["compat", "senses"], ["smell"], "MAN-007"),
        (["compat", "senses"], ["depth", "depth"], "MAN-007"),
        (["backends"], [], "MAN-007"),
        (["backends", 0, "tolerance"], 0, "MAN-007"),
        (["backends", 0, "name"], "onnxruntime", "MAN-007"),
        (["health_gate", "soak_ticks"], 0, "MAN-007"),
        (["health_gate", "max_veto_fraction"], 1, "MAN-007"),
        (["health_gate", "max_shadow_mean"], 0, "MAN-007"),
        (["health_gate", "max_shadow_peak"], 2.5, "MAN-007"),
        (["safety", "min_base_rule_version"], 0, "MAN-007"),
        (["safety", "sha256"], "4" * 64, "MAN-007"),
        (["backends", 0, "artifact"], "policy.hef.json", "MAN-008"),
        (["artifacts", 0, "sha256"], "A" * 64, "MAN-009"),
        (["artifacts", 0, "sha256"], "", "MAN-009"),
        (["compat", "action_sha256"], "x", "MAN-009"),
        (["origins"], [], "MAN-010"),
        (["origins"], ["real", "real"], "MAN-010"),
        (["origins"], ["unknown"], "MAN-010"),
        (["version"], "v2.0.0", "VER-001"),
        (["compat", "library_min"], "1.0", "VER-001"),
        (
            ["deltas"],
            [
                {
                    "path": "golden.json",
                    "from_sha256": D,
                    "codec": "bsdiff",
                    "bytes": 1,
                    "sha256": D,
                }
            ],
            "MAN-007",
        ),
    ],
)
def test_an_illegal_manifest_is_refused_with_its_code(path, value, code):
    with pytest.raises(ContractError) as caught:
        parse_manifest(mutate(path, value))
    assert caught.value.code == f"E-BUNDLE-{code}"


@pytest.mark.req("R-BUNDLE-03")
def test_an_extension_survives_the_round_trip():
    manifest = parse_manifest(mutate(["x-note"], {"a": [1, 2]}))
    assert parse_manifest(dump_manifest(manifest)).extensions == {
        "x-note": {"a": [1, 2]}
    }


def test_an_extension_needs_its_prefix_when_written():
    with pytest.raises(ContractError, match="MAN-002"):
        dump_manifest(attrs.evolve(MANIFEST, extensions={"note": 1}))


def test_a_delta_stands_for_a_listed_file():
    delta = Delta(path="other", from_sha256=D, codec="zstd-prefix", bytes=1, sha256=D)
    with pytest.raises(ContractError, match="MAN-006"):
        dump_manifest(attrs.evolve(MANIFEST, deltas=(delta,)))


@pytest.mark.req("R-BUNDLE-20")
def test_the_view_for_older_readers_has_their_names():
    view = legacy_view(MANIFEST)
    assert view["artifacts"]["cpu_bundle"] == "policy.tflite"
    assert view["checksums"]["cpu_bundle_sha256"] == "2" * 64
    assert view["artifacts"]["hailo_bundle"] == "policy.hef.json"
    assert view["hailo_is_placeholder"] is True
    assert "signature" not in view


@pytest.mark.req("R-BUNDLE-05")
@pytest.mark.parametrize(
    "text",
    ["v2.0.0", "1.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0-a..b", "1.0.0+", " 1.0.0", "1.0.0\n", "", "1.0.0-é", "٣.0.0", "9" * 200 + ".0.0"],
)  # fmt: skip
def test_what_is_no_semver_is_refused(text):
    with pytest.raises(ContractError, match="VER-001"):
        parse_version(text)


@pytest.mark.req("R-BUNDLE-05")
def test_precedence_is_that_of_the_specification():
    order = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 2.0.0 2.1.0 2.1.1"
    versions = [parse_version(text) for text in order.split()]
    assert sorted(versions, reverse=True)[::-1] == versions
    assert all(one < two for one, two in itertools.pairwise(versions))
    assert parse_version("1.0.0+a") == parse_version("1.0.0+b")


@pytest.mark.req("R-BUNDLE-01")
def test_the_written_schema_is_that_of_the_parser():
    module = importlib.import_module("continuon._specs.bundle.schema")
    path = Path(module.__file__).with_name("edge_manifest.schema.json")
    assert path.read_text() == module.render()
    top = module.manifest_schema()["$defs"]["Manifest"]
    assert set(json.loads(dump_manifest(MANIFEST))) <= set(top["properties"])
