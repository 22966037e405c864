"""Depth and instruction: read from recordings when asked for, and reach the network."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import (
    HEIGHT,
    TINY,
    WIDTH,
    record_episode,
    stripe_episodes,
)
from continuon.errors import ContractError, DataError
from continuon.hope import digest, init, load_checkpoint, preset, save_checkpoint
from continuon.instruction import embed_instruction
from continuon.learn.augment import augment
from continuon.learn.data import digest_of, load_arrays
from continuon.learn.losses import observe
from continuon.learn.proof import run_proof
from continuon.learn.recipe import Recipe
from continuon.learn.resources import ResourceMonitor
from continuon.learn.senses import NO_SENSES, Senses
from continuon.learn.windows import WindowSampler, cut
from continuon.pipeline.held_out import task_episodes
from continuon.rlds.tfds_write import convert

BOTH = Senses(depth_height=3, depth_width=4, instruction_size=8)
RECIPE = attrs.evolve(
    Recipe().plain(), image_height=HEIGHT, image_width=WIDTH, window=4, batch_size=2
)


def record(folder, *, task="turn left", depth=True, count=2):
    for index, episode in enumerate(stripe_episodes(count, seed=3)):
        names = ("images", "proprio", "action", "stamp_ns", "valid")
        short = attrs.evolve(episode, **{n: getattr(episode, n)[:6] for n in names})
        record_episode(
            folder,
            short,
            start_wall_ns=1 + index,
            task=task,
            depth=picture if depth else None,
        )
    return folder


def picture(tick):
    """Return 6 x 8 counts of 1 mm: a ramp along the rows, and the tick."""
    return (np.arange(48).reshape(6, 8) * 10 + 1000 + tick).astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    return record(tmp_path)


def load(folder, senses):
    return load_arrays(
        folder, image_height=HEIGHT, image_width=WIDTH, proprio=(), senses=senses
    )


@pytest.mark.req("R-LEARN-59")
def test_both_are_off_unless_asked_for_one_by_one(folder):
    assert load(folder, NO_SENSES)[0].extra == {}
    assert list(load(folder, Senses(instruction_size=8))[0].extra) == ["instruction"]
    assert list(load(folder, Senses(3, 4))[0].extra) == ["depth"]
    plain, both = (load(folder, senses) for senses in (NO_SENSES, BOTH))
    assert digest_of(plain) != digest_of(both)


@pytest.mark.req("R-LEARN-59")
def test_the_columns_of_a_recording_reach_the_network(folder):
    episodes = load(folder, BOTH)
    first = episodes[0]
    assert first.extra["depth"].shape == (6, 3, 4)
    ticks = first.valid.nonzero()[0]
    expected = picture(int(ticks[-1]))[1::2, 1::2] * 1e-3
    np.testing.assert_allclose(first.extra["depth"][ticks[-1]], expected, atol=2e-3)
    told = embed_instruction("turn left", 8)
    assert np.array_equal(first.extra["instruction"], np.tile(told, (6, 1)))
    config = preset(
        "seed",
        image_height=HEIGHT,
        image_width=WIDTH,
        action=first.action_names,
        **BOTH.as_fields,
    )
    batch = WindowSampler(episodes, RECIPE, 0).batch(0)
    seen = observe(config, batch)
    assert seen["depth"].shape == (2, 4, 3, 4)
    assert np.array_equal(seen["instruction"][1, 2], told)
    # a network that senses them, and episodes that were read without
    blind = WindowSampler(load(folder, NO_SENSES), RECIPE, 0).batch(0)
    with pytest.raises(ContractError, match="E-LEARN-SENSE-001") as caught:
        observe(config, blind)
    assert caught.value.seen == "depth, instruction"


@pytest.mark.req("R-LEARN-59")
def test_a_converted_data_set_says_the_unit_of_its_depth_too(folder):
    convert(folder, folder / "tfds")
    here, there = load(folder, BOTH), load(folder / "tfds", BOTH)
    assert len(here) == len(there) == 2
    for one, two in zip(here, there, strict=True):
        for name in one.extra:
            np.testing.assert_array_equal(one.extra[name], two.extra[name])


@pytest.mark.parametrize(
    ("missing", "senses", "code"),
    [
        ({"depth": False}, Senses(3, 4), "E-LEARN-SENSE-002"),
        ({"task": " "}, Senses(instruction_size=8), "E-LEARN-SENSE-003"),
    ],
)
def test_a_recording_without_what_was_asked_for_is_one_clear_error(
    tmp_path, missing, senses, code
):
    record(tmp_path, **missing)
    with pytest.raises(DataError, match=code) as caught:
        load(tmp_path, senses)
    assert caught.value.where == "made-000"
    assert load(tmp_path, NO_SENSES)


@pytest.mark.req("R-LEARN-59")
def test_a_mirror_turns_depth_and_never_what_is_told_a_side(folder):
    always = attrs.evolve(RECIPE, flip=1.0)
    for senses, mirrored in ((Senses(3, 4), True), (BOTH, False)):
        window = cut(load(folder, senses)[0], 1, 4)
        names = {"proprio_names": (), "action_names": ("steering", "throttle")}
        told = augment(window, always, np.random.default_rng(0), **names)
        wanted = window.extra["depth"][..., ::-1] if mirrored else window.extra["depth"]
        assert np.array_equal(told.extra["depth"], wanted)
        sign = -1.0 if mirrored else 1.0
        assert np.array_equal(told.action[:, 0], sign * window.action[:, 0])


def sensing(**changes):
    names = {"proprio": (), "action": ("steering", "throttle")}
    size = {"image_height": HEIGHT, "image_width": WIDTH}
    return preset("seed", **size, **names, **TINY, **BOTH.as_fields, **changes)


@pytest.mark.req("R-LEARN-59")
def test_the_episodes_that_judge_an_artifact_hold_what_it_senses(folder):
    for episode in task_episodes(folder, sensing()):
        assert set(episode.inputs) == {"image", "depth", "instruction"}
        assert episode.inputs["depth"].shape == (len(episode.action), 3, 4)


@pytest.mark.slow
@pytest.mark.req("R-LEARN-59")
def test_sanity_takes_steps_with_what_was_asked_for(folder, tmp_path, monkeypatch):
    import continuon.learn.sanity as room

    whole = room.sanity_of

    def smaller(arrays, *, overrides, **given):
        return whole(arrays, overrides=TINY | overrides, **given)

    monkeypatch.setattr(room, "sanity_of", smaller)
    report = room.run_sanity(
        folder,
        arch_preset="seed",
        max_steps=8,
        batch_size=2,
        learning_rate=3e-3,
        minimum_episodes=2,
        recipe=attrs.evolve(RECIPE, window=8),
        senses=BOTH,
        checkpoint_dir=tmp_path / "made",
        monitor=ResourceMonitor(tmp_path / "unreadable"),
    )
    assert report.passed, report.reasons
    assert report.obs_dim == HEIGHT * WIDTH * 3 + 3 * 4 + 8
    made = load_checkpoint(tmp_path / "made/sanity.hope").config
    assert Senses.of(made) == BOTH


@pytest.mark.slow
@pytest.mark.req("R-LEARN-59")
def test_a_proof_and_a_student_sense_what_was_asked_for(tmp_path):
    from continuon.learn.distil import distil

    folder = record(tmp_path / "seen", count=4)
    report = run_proof(
        folder,
        output=tmp_path / "proof.json",
        num_steps=0,
        seeds=(0, 1, 2),
        minimum_episodes=4,
        recipe=RECIPE,
        senses=BOTH,
        overrides=TINY,
    )
    assert report.config_digest == digest(sensing())
    path = tmp_path / "teacher.hope"
    save_checkpoint(path, sensing(), init(0, sensing()), metadata={})
    made = distil(
        load_checkpoint(path),
        load(folder, BOTH),
        tmp_path / "student.hope",
        student="seed",
        num_steps=1,
        batch_size=2,
        **TINY | {"d": 8, "head_size": 4},
    )
    assert Senses.of(load_checkpoint(made.checkpoint).config) == BOTH
