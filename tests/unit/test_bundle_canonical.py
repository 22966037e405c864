import json
from pathlib import Path

import pytest

from continuon.bundle.canonical import canonical_json, parse_strict
from continuon.errors import ContractError

VECTORS = Path(__file__).parents[3] / "shared" / "data" / "crypto-vectors" / "jcs"


@pytest.mark.req("R-BUNDLE-18")
@pytest.mark.skipif(not VECTORS.is_dir(), reason="the RFC 8785 vectors are not here")
@pytest.mark.parametrize(
    "name", ["arrays", "french", "structures", "unicode", "values", "weird"]
)
def test_output_equals_the_rfc_8785_vector(name):
    value = json.loads((VECTORS / "input" / f"{name}.json").read_bytes())
    expected = bytes.fromhex((VECTORS / "outhex" / f"{name}.txt").read_text())
    assert canonical_json(value) == expected


@pytest.mark.req("R-BUNDLE-18")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (1e21, "1e+21"), (1e20, "100000000000000000000"),
        (1e-6, "0.000001"), (1e-7, "1e-7"), (1.5e-9, "1.5e-9"), (123.456, "123.456"),
        (5e-324, "5e-324"), (1.7976931348623157e308, "1.7976931348623157e+308"),
        (-2.5, "-2.5"), (333333333.33333329, "333333333.3333333"), (1e23, "1e+23"),
    ],
)  # fmt: skip
def test_numbers_are_written_as_ecmascript_writes_them(value, text):
    assert canonical_json(value) == text.encode()


@pytest.mark.req("R-BUNDLE-02")
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'"' + b"x" * (1 << 20) + b'"', "E-BUNDLE-JSON-001"),
        (b"[" * 17 + b"]" * 17, "E-BUNDLE-JSON-002"),
        (b"[" * 200_000, "E-BUNDLE-JSON-002"),
        (b"\xff", "E-BUNDLE-JSON-003"),
        (b"{", "E-BUNDLE-JSON-003"),
        (b"", "E-BUNDLE-JSON-003"),
        (b'{"a":1} x', "E-BUNDLE-JSON-003"),
        (b'"\\ud800"', "E-BUNDLE-JSON-003"),
        (b'{"a":1,"a":2}', "E-BUNDLE-JSON-004"),
        (b'{"o":{"a":1,"\\u0061":2}}', "E-BUNDLE-JSON-004"),
        (b"NaN", "E-BUNDLE-JSON-005"),
        (b"-Infinity", "E-BUNDLE-JSON-005"),
        (b"1e999", "E-BUNDLE-JSON-005"),
        (b"9007199254740993", "E-BUNDLE-JSON-005"),
        (b"9" * 5000, "E-BUNDLE-JSON-005"),
    ],
)
def test_what_readers_disagree_on_is_refused(data, code):
    with pytest.raises(ContractError) as caught:
        parse_strict(data, where="here")
    assert caught.value.code == code


def test_brackets_inside_text_are_no_depth():
    assert parse_strict(b'"[[[[[[[[[[[[[[[[[[[[[\\"["', where="here").endswith('"[')


@pytest.mark.parametrize("value", [float("nan"), 2**53, {1: 2}, {"a": {1}}, "\ud800"])
def test_what_canonical_json_cannot_say_is_refused(value):
    with pytest.raises(ContractError):
        canonical_json(value)
