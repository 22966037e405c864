"""Configs and presets are refused by name when they make no sense."""

from __future__ import annotations

import subprocess
import sys

import attrs
import numpy as np
import pytest

from continuon import hope
from continuon._specs.hope.examples import CONFIG_MUTATIONS, TINY, TOLD
from continuon.errors import ContractError, UsageError


@pytest.mark.req("R-HOPE-31")
def test_a_misspelt_preset_is_an_error_that_lists_the_real_ones():
    with pytest.raises(UsageError) as caught:
        hope.preset("pi6")
    assert caught.value.code == "E-HOPE-PRESET-001"
    assert caught.value.seen == "pi6"
    assert "pi5" in caught.value.allowed


@pytest.mark.req("R-HOPE-31")
@pytest.mark.parametrize(("field", "value"), CONFIG_MUTATIONS)
def test_an_inconsistent_field_is_named(field, value):
    with pytest.raises(ContractError) as caught:
        attrs.evolve(TINY, **{field: value})
    assert caught.value.code == "E-HOPE-CONFIG-001"
    assert caught.value.where == field


@pytest.mark.req("R-HOPE-31")
def test_units_that_turn_are_pairs():
    with pytest.raises(ContractError, match="even, with mid_turns") as caught:
        attrs.evolve(TINY, mid_turns=True, mid_units=15)
    assert caught.value.where == "mid_units"
    attrs.evolve(TINY, mid_units=15)


@pytest.mark.req("R-HOPE-31")
def test_a_network_without_any_sense_is_refused():
    with pytest.raises(ContractError, match="proprio"):
        hope.HopeConfig(image_height=0, image_width=0)


@pytest.mark.req("R-HOPE-31")
def test_an_override_or_a_stored_field_that_does_not_exist_is_named():
    with pytest.raises(ContractError, match="widht"):
        hope.preset("nano", widht=3)
    with pytest.raises(ContractError, match="widht"):
        hope.config_from_dict({**TINY.as_dict(), "widht": 3})


@pytest.mark.parametrize("name", hope.PRESETS)
def test_a_config_survives_its_own_json(name):
    config = hope.preset(name, proprio=["speed_mps"])
    again = hope.config_from_dict(config.as_dict())
    assert again == config
    assert hash(again) == hash(config)
    assert hope.digest(again) == hope.digest(config)


@pytest.mark.req("R-HOPE-84")
def test_parts_that_are_off_change_no_digest_of_before():
    assert hope.digest(hope.preset("nano")).startswith("374aa80f3be5713a")
    assert hope.digest(hope.preset("pi5")).startswith("bcf257f81ba5f8d4")
    for change in (
        {"action_chunk": 2},
        {"unit_keys": True},
        {"mid_turns": True},
        {"straight_action": True},
        {"action_levels": ["throttle"]},
        {"token_places": 6, "token_codes": 5, "codebook_id": "ab" * 32},
    ):
        rich = hope.preset("nano", **change)
        assert hope.digest(rich) != hope.digest(hope.preset("nano"))
        assert hope.config_from_dict(rich.as_dict()) == rich


@pytest.mark.req("R-HOPE-83")
def test_an_instruction_is_one_fixed_vector_of_length_one():
    left, right = (
        hope.embed_instruction(f"Turn {side} at the box", 256)
        for side in ("left", "right")
    )
    assert left.dtype == np.float32
    assert np.linalg.norm(left) == pytest.approx(1.0, abs=1e-6)
    assert 0.3 < left @ right < 0.95
    assert np.array_equal(left, hope.embed_instruction("turn LEFT at the box!", 256))
    near, far = (hope.embed_instruction(w, 256) for w in ("turning", "stop"))
    turn = hope.embed_instruction("turn", 256)
    assert turn @ near > turn @ far + 0.2
    assert not hope.embed_instruction("", 16).any()
    # the table is part of what was trained: it must never move
    assert np.flatnonzero(hope.embed_instruction("go", 16)).tolist() == [3, 6, 8]
    with pytest.raises(ContractError, match="E-TEXT-004"):
        hope.embed_instruction("go", 0)


def test_the_digest_tells_configs_apart():
    assert hope.digest(TINY) != hope.digest(attrs.evolve(TINY, latent=9))


def test_observation_names_follow_the_config():
    assert TINY.observation_names == ("image", "proprio", "previous_action")
    blind = attrs.evolve(TINY, image_height=0, image_width=0, use_previous_action=False)
    assert blind.observation_names == ("proprio",)
    told = ("image", "tokens", "proprio", "previous_action")
    assert TOLD.observation_names == told
    for wrong in ("", "ab", "AB" * 32, 7):
        with pytest.raises(ContractError, match="codebook_id"):
            attrs.evolve(TOLD, codebook_id=wrong)


@pytest.mark.slow
def test_importing_the_room_does_not_load_jax():
    code = "import continuon.hope, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_name_that_the_room_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        hope.nothing  # noqa: B018
