"""A codebook's tokens as a sense: the right ones are felt, all others refused."""

from __future__ import annotations

import attrs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from continuon import hope
from continuon._specs.hope.examples import (
    QUICK,
    TINY,
    TOLD,
    at,
    furthest,
    observations,
    parameters,
    sequence_of,
    step_of,
)
from continuon.edge.network import NumpyEngine
from continuon.errors import ContractError
from continuon.export.compile import compile_checkpoint
from continuon.hope.checkpoint import flatten
from continuon.hope.codebook import (
    CodebookConfig,
    init_codebook,
    load_codebook,
    save_codebook,
    tokens_of,
)
from continuon.hope.encoder import encode

pytestmark = pytest.mark.req("R-HOPE-86")
BOOK = CodebookConfig(image_height=8, image_width=12, codes=5, size=3, channels=4)


def codebook(path, seed=0):
    save_codebook(path, BOOK, init_codebook(seed, BOOK), metadata={})
    return load_codebook(path)


def encoded(tokens):
    obs = at(observations(TOLD, batch=1), 0) | {"tokens": jnp.asarray([tokens])}
    motion = jnp.zeros((1, TOLD.motion_bands))
    return np.asarray(encode(parameters(TOLD), TOLD, obs, motion))[0]


@pytest.mark.slow
def test_pictures_become_the_tokens_that_sequence_and_step_take(tmp_path):
    book = codebook(tmp_path / "book")
    config = attrs.evolve(TINY, **hope.token_fields(book))
    assert (config.token_places, config.token_codes) == (6, 5)
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 8, 12, 3), np.uint8)
    tokens = hope.observed_tokens(config, book, images)
    assert tokens.shape == (2, 4, 6)
    one = tokens_of(book.params, jnp.asarray(images[1, 2:3]))
    assert np.array_equal(tokens[1, 2], np.ravel(one))
    assert len(np.unique(tokens)) > 1
    obs = observations(config, ticks=4) | {"tokens": tokens}
    params, state = parameters(config), hope.init_state(config, 2)
    told = sequence_of(config)(params, state, obs)[1]
    now = {**at(obs, 0), "tokens": hope.observed_tokens(config, book, images[:, 0])}
    stepped = step_of(config)(params, state, now)[1]
    assert furthest(told.action[:, 0], stepped.action) < 1e-5


def test_tokens_of_another_codebook_or_of_no_picture_are_refused(tmp_path):
    book, other = codebook(tmp_path / "a"), codebook(tmp_path / "b", seed=1)
    config = attrs.evolve(TINY, **hope.token_fields(book))
    images = np.zeros((1, 8, 12, 3), np.uint8)
    for known, images_seen, number in (
        (TINY, images, 1),
        (config, images / 255.0, 3),
        (config, images[:, :4], 3),
        (config, images[0, 0], 3),
    ):
        with pytest.raises(ContractError, match=f"E-HOPE-TOKENS-00{number}"):
            hope.observed_tokens(known, book, images_seen)
    with pytest.raises(ContractError, match="E-HOPE-TOKENS-002") as caught:
        hope.observed_tokens(config, other, images)
    assert other.id in caught.value.seen
    assert book.id in caught.value.allowed


@pytest.mark.req("R-HOPE-20")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda tokens: tokens.astype(np.float32), "E-HOPE-OBS-002"),
        (lambda tokens: tokens > 0, "E-HOPE-OBS-002"),
        (lambda tokens: tokens[:, 1:], "E-HOPE-OBS-002"),
        (lambda tokens: tokens[..., None], "E-HOPE-OBS-002"),
        (lambda tokens: tokens * 0 - 1, "E-HOPE-OBS-003"),
        (lambda tokens: tokens * 0 + TOLD.token_codes, "E-HOPE-OBS-003"),
    ],
)
def test_tokens_of_the_wrong_shape_type_or_range_are_refused(change, code):
    obs = at(observations(TOLD), 0)
    obs["tokens"] = change(obs["tokens"])
    with pytest.raises(ContractError) as caught:
        hope.step(parameters(TOLD), TOLD, hope.init_state(TOLD, 2), obs)
    assert (caught.value.code, caught.value.where) == (code, "tokens")


@pytest.mark.slow
@pytest.mark.parametrize("token", [-1, -3, TOLD.token_codes, 2**31 - 1])
def test_inside_jit_a_token_that_is_no_code_is_never_taken_for_one(token):
    obs = at(observations(TOLD), 0)
    obs["tokens"] = obs["tokens"].copy()
    obs["tokens"][0, 3] = token
    params, state = parameters(TOLD), hope.init_state(TOLD, 2)
    _, out = step_of(TOLD)(params, state, obs)
    assert np.isnan(out.action[0]).all()
    assert np.isfinite(out.action[1]).all()


def test_what_a_token_tells_depends_on_where_it_stands():
    first = encoded([0, 1, 2, 3, 4, 0])
    assert np.array_equal(first, encoded([0, 1, 2, 3, 4, 0]))
    seen = [first]
    for place in range(6):
        tokens = [0, 1, 2, 3, 4, 0]
        tokens[place] = (tokens[place] + 1) % 5
        seen.append(encoded(tokens))
    # the same tokens in other places: a sum over the places could not tell
    seen += [encoded([1, 0, 2, 3, 4, 0]), encoded([0, 0, 4, 3, 2, 1])]
    for index, x in enumerate(seen):
        assert all(np.abs(x - y).max() > 1e-3 for y in seen[:index])


@pytest.mark.slow
def test_many_networks_side_by_side_are_each_one_alone():
    obs, state = observations(TOLD, ticks=4), hope.init_state(TOLD, 2)
    several = [parameters(TOLD, seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *several)

    def run(params):
        return hope.sequence(params, TOLD, state, obs)[1]

    together = jax.jit(jax.vmap(run), compiler_options=QUICK)(stacked)
    for index, params in enumerate(several):
        alone = sequence_of(TOLD)(params, state, obs)[1]
        mine = jax.tree.map(lambda leaf, index=index: leaf[index], together)
        assert furthest(mine, alone) < 1e-5


def test_the_sense_adds_two_arrays_and_moves_no_other_of_the_encoder():
    plain, told = (flatten(hope.init(0, config)) for config in (TINY, TOLD))
    assert set(told) - set(plain) == {"encoder/token_codes", "encoder/tokens"}
    assert told["encoder/token_codes"].shape == (5, 8)
    assert told["encoder/tokens"].shape == (6 * 8, TOLD.d)
    for name in (name for name in plain if name.startswith("encoder/")):
        assert np.array_equal(plain[name], told[name])


def test_the_robot_and_its_compiler_refuse_a_network_that_is_told_tokens(tmp_path):
    path, out = tmp_path / "m.hope", tmp_path / "policy"
    hope.save_checkpoint(path, TOLD, parameters(TOLD), metadata={})
    again = hope.load_checkpoint(path)
    assert again.config == TOLD
    with pytest.raises(ContractError, match="E-EXPORT-SENSE-001"):
        compile_checkpoint(path, out, control_rate_hz=20.0)
    assert not out.exists()
    with pytest.raises(ContractError, match="E-EDGE-SENSE-001"):
        NumpyEngine(TOLD.as_dict(), flatten(again.params))
