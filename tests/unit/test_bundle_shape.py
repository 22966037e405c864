"""The plain tables and the typed values describe one and the same JSON."""

import copy
import json
import typing
from types import UnionType

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon.bundle.manifest import Manifest
from continuon.bundle.manifest_shape import MANIFEST_SHAPE, SAFETY_SHAPE
from continuon.bundle.safety import (
    CAR_BASE_RULES,
    EStopAction,
    SafetyManifest,
    dump_safety,
)
from continuon.bundle.shape import Many, Maybe, OneOf, check_shape
from continuon.bundle.structure import structure
from continuon.errors import ContractError


def shape_of(kind):
    """Return the table that the typed class `kind` stands for."""
    if attrs.has(kind):
        hints = typing.get_type_hints(kind)
        return {
            field.name: (shape_of(hints[field.name]), *_default(field))
            for field in attrs.fields(kind)
        }
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return Many(shape_of(inner[0]))
    if origin in (UnionType, typing.Union):
        return Maybe(shape_of(next(one for one in inner if one is not type(None))))
    if kind is EStopAction:
        return OneOf(tuple(EStopAction))
    return object if origin is dict else kind


def _default(field):
    if field.default is attrs.NOTHING:
        return ()
    return ({},) if isinstance(field.default, attrs.Factory) else (field.default,)


@pytest.mark.parametrize(
    ("shape", "kind"), [(MANIFEST_SHAPE, Manifest), (SAFETY_SHAPE, SafetyManifest)]
)
def test_a_table_has_the_keys_kinds_and_defaults_of_its_class(shape, kind):
    assert shape == shape_of(kind)


def _spots(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else ()
    for key, item in [*items, *(enumerate(value) if isinstance(value, list) else ())]:
        yield from _spots(item, (*path, key))


D = "0" * 64
FILE = {"path": "policy.tflite", "bytes": 2, "sha256": D}
MANIFEST = {
    "schema": "continuon.edge-manifest/1",
    "model_name": "hope",
    "version": "1.0.0",
    "release_counter": 1,
    "created_at_unix_ms": 1,
    "source": "tests",
    "origins": ["real"],
    "compat": {
        "boards": ["pi5"],
        "accelerators": [{"name": "a", "runtime_min": "1", "runtime_below": "2"}],
        "control_rate_hz": 50.0,
        "base_bundle": None,
    },
    "artifacts": [{**FILE, "role": "policy", "backend": "litert"}],
    "backends": [
        {
            "name": "litert",
            "artifact": "policy.tflite",
            "golden": "policy.tflite",
            "tolerance": 0.1,
            "latency_budget_ms": 20,
        }
    ],
    "safety": {"path": "policy.tflite", "sha256": D, "min_base_rule_version": 1},
    "health_gate": {
        "golden_max_error": 0.1,
        "latency_p99_ms": 20.0,
        "soak_ticks": 50,
        "timeout_s": 10.0,
        "max_veto_fraction": 0.0,
    },
    "evidence": [{**FILE, "kind": "proof"}],
    "deltas": [{**FILE, "from_sha256": D, "codec": "zstd-prefix"}],
    "safety_critical": True,
}
PLAIN = {
    Manifest: MANIFEST,
    SafetyManifest: json.loads(dump_safety(CAR_BASE_RULES)),
}
SHAPES = {Manifest: MANIFEST_SHAPE, SafetyManifest: SAFETY_SHAPE}
ODD = [None, True, 0, -1, 1.5, "x", "neutral", [], {}, [1], ["a"], [{}], {"a": 1}]


@pytest.mark.law
@settings(deadline=None)
@given(st.data(), st.sampled_from([Manifest, SafetyManifest]), st.sampled_from(ODD))
def test_the_table_and_the_class_refuse_the_same_changes(data, kind, odd):
    value = {"top": copy.deepcopy(PLAIN[kind])}
    path = ("top", *data.draw(st.sampled_from(list(_spots(PLAIN[kind])))))
    target = value
    for key in path[:-1]:
        target = target[key]
    if isinstance(target, dict) and path[1:] and data.draw(st.booleans()):
        del target[path[-1]]
    else:
        target[path[-1]] = odd
    assert _verdict(lambda: check_shape(value["top"], SHAPES[kind], where="law")) == (
        _verdict(lambda: structure(value["top"], kind, where="law"))
    )


def _verdict(read):
    try:
        read()
    except ContractError as error:
        return error.code
    return "accepted"
