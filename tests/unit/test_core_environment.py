"""The plan's environment variables keep their names, defaults and meaning."""

from __future__ import annotations

import pytest

from continuon.environment import read_environment
from continuon.errors import UsageError


def test_the_defaults_are_the_plan_s():
    env = read_environment({})
    assert env.headless
    assert not env.background_trainer
    assert env.prefer_jax
    assert env.export_origin == "pi5"


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("on", True), ("0", False), ("No", False)]
)
def test_a_switch_takes_the_usual_words(text, value):
    assert read_environment({"CONTINUON_PREFER_JAX": text}).prefer_jax is value


def test_a_switch_that_is_neither_on_nor_off_is_refused():
    with pytest.raises(UsageError, match="E-ENV-SWITCH-001"):
        read_environment({"CONTINUON_HEADLESS": "maybe"})


def test_what_this_release_does_not_have_is_refused_not_ignored():
    with pytest.raises(UsageError, match="E-ENV-JAX-002"):
        read_environment({"CONTINUON_PREFER_JAX": "0"}).require_jax()
    with pytest.raises(UsageError, match="E-ENV-SCREEN-003"):
        read_environment({"CONTINUON_HEADLESS": "0"}).require_headless()
    trainer = read_environment({"CONTINUON_ENABLE_BACKGROUND_TRAINER": "1"})
    trainer.require_headless()
    assert trainer.background_trainer
    read_environment({}).require_jax()
    read_environment({}).require_headless()
