"""The figures of an evaluation: of valid steps alone, and unknown where they are."""

from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import HEIGHT, TINY, WIDTH, stripe_episodes
from continuon.errors import DataError

pytest.importorskip("jax")

from continuon import hope
from continuon.learn.evaluate import evaluate_params
from continuon.learn.proof import _scored

CONFIG = hope.preset("seed", image_height=HEIGHT, image_width=WIDTH, **TINY)
PARAMS = hope.init(0, CONFIG)


def test_a_step_that_is_not_valid_surprises_nobody():
    episodes = stripe_episodes(2)
    late = np.arange(len(episodes[0])) < 12
    spoilt = [
        attrs.evolve(
            e,
            valid=late,
            images=np.where(late[:, None, None, None], e.images, 255).astype(np.uint8),
        )
        for e in episodes
    ]
    report = evaluate_params(PARAMS, CONFIG, spoilt)
    seen = np.concatenate([t.surprise[:12] for t in report.traces])
    assert report.steps == 24
    assert report.surprise == pytest.approx(seen.mean())
    assert _scored(PARAMS, CONFIG, spoilt)[1] == pytest.approx(seen.mean())


def test_nothing_valid_is_no_evaluation_and_what_is_not_asked_is_unknown():
    episodes = stripe_episodes(2)
    nothing = [attrs.evolve(e, valid=np.zeros(len(e), bool)) for e in episodes]
    with pytest.raises(DataError, match="E-LEARN-EVAL-001"):
        evaluate_params(PARAMS, CONFIG, nothing)
    report = evaluate_params(PARAMS, CONFIG, episodes)
    assert report.mae_over_ridge is report.mae_over_mean is report.ridge_penalty is None
    halved = {"steering": 2 * report.mae["steering"], "throttle": 1.0}
    told = attrs.evolve(report, ridge_mae=halved, mean_mae={"steering": 0.0})
    assert told.as_dict()["mae_over_ridge"] == pytest.approx(0.5)
    assert told.mae_over_mean is None
