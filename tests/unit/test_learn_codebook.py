"""The VQ-VAE: it learns pictures, its id is its content, the robot reads it alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from continuon._specs.learn.examples import HEIGHT, WIDTH, stripe_episodes
from continuon.edge.codebook import Tokeniser
from continuon.errors import ContractError, DataError
from continuon.hope.codebook import (
    CodebookConfig,
    decode,
    init_codebook,
    load_codebook,
    save_codebook,
    tokens_of,
    vectors_of,
    vq_losses,
)
from continuon.learn.codebook import _revive, train_codebook
from continuon.tensorfile import write_tensors

CONFIG = CodebookConfig(
    image_height=HEIGHT, image_width=WIDTH, codes=16, size=4, channels=4
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("codebook") / "images.codebook"
    episodes = stripe_episodes(6)
    return episodes, train_codebook(
        episodes, path, config=CONFIG, num_steps=120, learning_rate=1e-2
    )


@pytest.mark.slow
@pytest.mark.req("R-HOPE-71")
def test_unseen_pictures_are_told_by_more_than_a_few_codes(trained):
    _, report = trained
    assert report.error < 0.5 * report.error_of_mean
    assert report.codes_used >= 4
    assert 2.0 < report.perplexity <= report.codes_used
    assert report.origin == "synthetic"


@pytest.mark.slow
@pytest.mark.req("R-HOPE-71")
def test_it_is_judged_on_the_last_episodes_alone(trained):
    episodes, report = trained
    params = load_codebook(report.path).params
    seen = episodes[-1].images
    error = vq_losses(params, CONFIG, jnp.asarray(seen)).reconstruction
    assert report.error == pytest.approx(float(error), rel=1e-5)
    mean = np.concatenate([e.images for e in episodes[:-1]]).mean(0) / 255
    assert report.error_of_mean == pytest.approx(np.square(seen / 255 - mean).mean())


@pytest.mark.req("R-HOPE-71")
def test_a_code_that_nobody_chose_is_put_where_a_picture_is():
    params = init_codebook(0, CONFIG)
    pictures = stripe_episodes(1)[0].images[:3]
    used = np.arange(CONFIG.codes) % 2 == 0
    moved = _revive(params, pictures, used, np.random.default_rng(0))["codes"]
    assert np.array_equal(moved[used], params["codes"][used])
    there = np.asarray(vectors_of(params, jnp.asarray(pictures)))
    there = there.reshape(-1, CONFIG.size)
    far = np.abs(np.asarray(moved)[~used][:, None] - there).max(-1).min(1)
    assert far.max() < 1e-6


@pytest.mark.slow
@pytest.mark.req("R-HOPE-70")
@pytest.mark.req("R-HOPE-72")
def test_the_file_is_the_id_and_the_robot_sees_the_same_tokens(trained, tmp_path):
    episodes, report = trained
    loaded = load_codebook(report.path)
    assert loaded.id == report.id
    assert loaded.config == CONFIG
    robot = Tokeniser.from_file(report.path)
    assert robot.id == report.id
    images = episodes[-1].images[:4]
    seen = np.asarray(tokens_of(loaded.params, jnp.asarray(images)))
    assert seen.shape == (4, *CONFIG.cells)
    np.testing.assert_array_equal([robot(image) for image in images], seen)
    painted = np.asarray(decode(loaded.params, CONFIG, jnp.asarray(seen)))
    assert np.square(painted - images / 255.0).mean() < 2 * report.error
    again = save_codebook(
        tmp_path / "same", loaded.config, loaded.params, metadata=loaded.metadata
    )
    assert again == report.id
    torn = tmp_path / "torn"
    torn.write_bytes(report.path.read_bytes()[:-3])
    with pytest.raises(DataError):
        load_codebook(torn)


@pytest.mark.req("R-HOPE-70")
def test_another_kind_of_file_is_refused(tmp_path):
    write_tensors(tmp_path / "other", {"a": np.zeros(1)}, {"kind": "else"})
    with pytest.raises(DataError, match="E-HOPE-VQ-002"):
        load_codebook(tmp_path / "other")
    with pytest.raises(DataError, match="E-EDGE-VQ-001"):
        Tokeniser.from_file(tmp_path / "other")
    with pytest.raises(ContractError, match="E-HOPE-VQ-001"):
        CodebookConfig(codes=0)


@pytest.mark.slow
@pytest.mark.req("R-HOPE-71")
def test_every_parameter_gets_gradient():
    image = jnp.asarray(stripe_episodes(1)[0].images[:4])
    slope = jax.grad(lambda p: vq_losses(p, CONFIG, image).total)(
        init_codebook(0, CONFIG)
    )
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(slope))
