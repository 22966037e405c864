"""What is a version is what the expression in the specification matches."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from continuon.bundle.semver_text import split_version
from continuon.errors import ContractError

OFFICIAL = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
    r"(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)
"""The expression suggested by semver.org/spec/v2.0.0.html."""


@pytest.mark.law
@pytest.mark.req("R-BUNDLE-05")
@given(
    st.text("0127aZ.-+v é٣\n", max_size=14) | st.from_regex(OFFICIAL, fullmatch=True)
)
@example("1.0.0-")
@example("1.0.0+")
@example("1.0.0-01")
@example("1.0.0-0a+00.-")
@example("1.0.0+a+b")
@example("1.0.0\n")
def test_the_reader_agrees_with_the_expression_of_the_specification(text):
    match = OFFICIAL.fullmatch(text) if len(text) <= 128 else None
    if match is None:
        with pytest.raises(ContractError, match="E-BUNDLE-VER-001"):
            split_version(text)
        return
    numbers, before, after = split_version(text)
    assert numbers == match.groups()[:3]
    assert ".".join(before) == (match.group(4) or "")
    assert ".".join(after) == (match.group(5) or "")
