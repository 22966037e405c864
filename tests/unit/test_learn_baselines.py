from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import (
    episode_of,
    noise_episodes,
    stripe_episodes,
)
from continuon.errors import DataError
from continuon.learn.baselines import fit_mean, fit_ridge, grey_features
from continuon.learn.scores import score


@pytest.mark.req("R-LEARN-20")
def test_ridge_reads_a_stripe_and_the_mean_does_not():
    episodes = stripe_episodes(12, ticks=30)
    train, held_out = episodes[:9], episodes[9:]
    ridge, mean = fit_ridge(train), fit_mean(train)
    near = score(held_out, [ridge.predict(e) for e in held_out])
    far = score(held_out, [mean.predict(e) for e in held_out])
    assert near.mae["steering"] < 0.3 * far.mae["steering"]
    assert near.sign_accuracy["steering"] > 0.95


@pytest.mark.req("R-LEARN-10")
def test_ridge_learns_nothing_from_labels_that_are_noise():
    episodes = noise_episodes(12, ticks=30)
    train, held_out = episodes[:9], episodes[9:]
    ridge, mean = fit_ridge(train), fit_mean(train)
    near = score(held_out, [ridge.predict(e) for e in held_out])
    far = score(held_out, [mean.predict(e) for e in held_out])
    assert near.mae["steering"] > 0.9 * far.mae["steering"]


@pytest.mark.req("R-LEARN-20")
def test_the_bias_is_not_penalised():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (40, 8, 12, 3), np.uint8)
    constant = episode_of(0, images, np.full((40, 2), 0.8))
    told = fit_ridge([constant]).predict(constant)
    np.testing.assert_allclose(told, 0.8, atol=1e-6)


@pytest.mark.req("R-LEARN-02")
def test_invalid_steps_do_not_move_the_baselines():
    episode = stripe_episodes(1, ticks=30)[0]
    wild = episode.action.copy()
    wild[10:] = -1.0
    masked = attrs.evolve(episode, action=wild, valid=np.arange(30) < 10)
    np.testing.assert_allclose(fit_mean([masked]).mean, episode.action[:10].mean(0))
    nothing = attrs.evolve(episode, valid=np.zeros(30, bool))
    with pytest.raises(DataError, match="E-LEARN-DATA-006"):
        fit_mean([nothing])


@pytest.mark.req("R-LEARN-20")
def test_ridge_over_episodes_is_ridge_over_all_their_steps_at_once():
    rng = np.random.default_rng(3)
    images = rng.integers(0, 255, (90, 8, 12, 3), np.uint8)
    lit = images.mean((1, 3)) / 255 - 0.5
    action = np.stack([lit[:, :4].mean(1), lit[:, 8:].mean(1)], 1).astype(np.float32)
    valid = rng.random(90) < 0.8
    whole = attrs.evolve(episode_of(0, images, action), valid=valid)
    cuts = [slice(0, 30), slice(30, 31), slice(31, 90)]
    parts = [
        attrs.evolve(episode_of(k, images[cut], action[cut]), valid=valid[cut])
        for k, cut in enumerate(cuts)
    ]
    told = fit_ridge(parts)
    X = grey_features(images)[valid]
    y = action[valid].astype(np.float64)
    first = int(len(X) * 0.8)

    def solved(n, penalty):
        A = X[:n] - X[:n].mean(0)
        gram = A.T @ A + penalty * np.eye(800)
        return np.linalg.solve(gram, A.T @ (y[:n] - y[:n].mean(0)))

    def late_error(penalty):
        guess = (X[first:] - X[:first].mean(0)) @ solved(first, penalty)
        return np.abs(np.clip(guess + y[:first].mean(0), -1, 1) - y[first:]).mean()

    best = min((1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0), key=late_error)
    assert told.penalty == best < 1000.0
    np.testing.assert_allclose(told.weights, solved(len(X), best), atol=1e-9)
    np.testing.assert_allclose(told.centre, X.mean(0), atol=1e-12)
    np.testing.assert_allclose(told.bias, y.mean(0), atol=1e-12)
    np.testing.assert_allclose(
        told.predict(whole)[valid],
        np.concatenate([told.predict(e)[e.valid] for e in parts]),
        atol=1e-6,
    )


def test_grey_features_are_box_means_of_luma():
    images = np.zeros((1, 40, 80, 3), np.uint8)
    images[0, :2, :2, 1] = 255
    features = grey_features(images)
    assert features.shape == (1, 800)
    np.testing.assert_allclose(features[0, 0], 0.587, rtol=1e-6)
    assert features[0, 1:].max() == 0.0


def test_sign_accuracy_looks_only_at_clear_steering():
    episode = episode_of(
        0, np.zeros((4, 8, 12, 3)), [[0.5, 0], [-0.5, 0], [0.05, 0], [0.1, 0]]
    )
    told = np.array([[0.1, 0], [0.1, 0], [-1, 0], [-1, 0]], np.float32)
    scores = score([episode], [told])
    assert scores.sign_accuracy == {"steering": 0.5, "throttle": None}
    assert scores.mae["steering"] == pytest.approx((0.4 + 0.6 + 1.05 + 1.1) / 4)
