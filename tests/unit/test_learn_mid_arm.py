"""The Mid loop on a robot that is no car: safety rules are found by their names."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import HEIGHT, TINY, WIDTH, stripe_episodes
from continuon.learn.mid_gate import ActionBounds
from continuon.learn.mid_guard import SENSORS, MidGuard, MidLimits
from continuon.pipeline.adapters import car_bounds

JOINTS = ("shoulder", "elbow", "wrist")


@pytest.mark.req("R-LEARN-51")
def test_a_rule_bounds_the_component_of_its_name_wherever_it_stands():
    told = car_bounds().of(("wrist", "throttle", "steering"))
    assert told.names == ("wrist", "throttle", "steering")
    assert told.low == (-1.0,) * 3
    assert told.high == (1.0,) * 3
    assert told.max_rate_per_s == (math.inf, 10.0, 20.0)
    assert told.of(("steering",)).max_rate_per_s == (20.0,)
    assert ActionBounds().of(JOINTS).max_rate_per_s == (math.inf,) * 3


def arm_episodes(count):
    """Return stripes as an arm's: three joints that follow what is seen."""
    return tuple(
        attrs.evolve(
            episode,
            action=np.stack([episode.action[:, 0] * k for k in (1, -0.5, 0.2)], 1),
            action_names=JOINTS,
        )
        for episode in stripe_episodes(count, seed=3)
    )


@pytest.mark.slow
@pytest.mark.req("R-LEARN-51")
def test_an_arm_learns_under_a_cars_rules(tmp_path):
    pytest.importorskip("jax")
    from continuon import hope
    from continuon.clock import ManualClock
    from continuon.learn.mid import learn_adapter

    size = {"image_height": HEIGHT, "image_width": WIDTH, "action": JOINTS}
    config = hope.preset("seed", **size, **TINY)
    path = tmp_path / "base.hope"
    hope.save_checkpoint(path, config, hope.init(0, config), metadata={})
    guard = MidGuard.of(
        MidLimits(max_steps=2, rank=2, max_memory_mib=1e9),
        clock=ManualClock(),
        battery=lambda: None,
        waived=SENSORS,
        root=tmp_path,
    )
    report = learn_adapter(
        hope.load_checkpoint(path),
        arm_episodes(8),
        tmp_path / "store",
        guard=guard,
        bounds=car_bounds(),
        wall_ns=1,
    )
    assert report.steps == 2
    assert report.figures.violations == 0
