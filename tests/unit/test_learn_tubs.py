"""Peers that steer by a picture are of HOPE's size; one of them has no memory."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from continuon import hope
from continuon._specs.hope.examples import QUICK
from continuon._specs.learn import tubs
from continuon._specs.learn.examples import TINY
from continuon._specs.learn.peers import scalars


@pytest.mark.parametrize("name", [n for n in tubs.MODELS if n != "hope"])
def test_a_peer_sees_what_hope_sees_and_has_as_many_parameters(name):
    config = hope.preset("nano")
    peer = tubs.seer(config, name)
    params = jax.eval_shape(lambda: peer.init(0))
    size = scalars(jax.eval_shape(lambda: hope.init(0, config)))
    seen = (np.zeros((2, 5, *config.image_shape), np.uint8), np.ones((2, 5), bool))
    told = jax.eval_shape(peer.run, params, seen)
    assert told.shape == (2, 5, len(config.action))
    if name == "cnn":
        assert scalars(params) < size
    else:
        assert scalars(params) == pytest.approx(size, rel=0.05)


def test_the_network_without_memory_tells_of_this_picture_alone():
    config = hope.preset("seed", image_height=8, image_width=12, **TINY)
    peer = tubs.seer(config, "cnn")
    images = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 12, 3), np.uint8)
    other = images.copy()
    other[:, 0] = 255 - other[:, 0]
    run = jax.jit(peer.run, compiler_options=QUICK)
    params, follows = peer.init(0), np.zeros((1, 3), bool)
    one, two = (np.asarray(run(params, (seen, follows))) for seen in (images, other))
    np.testing.assert_allclose(one[:, 1:], two[:, 1:], atol=1e-6)
    assert np.abs(one[:, 0] - two[:, 0]).max() > 1e-6
