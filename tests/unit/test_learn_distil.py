"""A student learns what its teacher would do, and is judged on what people did."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("jax")

from continuon import hope
from continuon._specs.learn.examples import HEIGHT, TINY, WIDTH, stripe_episodes
from continuon.errors import ContractError
from continuon.learn.distil import distil, student_of

SMALL = TINY | {"d": 8, "head_size": 4, "mid_units": 4, "slow_hidden": 8}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.hope"
    config = hope.preset("seed", image_height=HEIGHT, image_width=WIDTH, **TINY)
    hope.save_checkpoint(path, config, hope.init(0, config), metadata={})
    return hope.load_checkpoint(path)


@pytest.mark.slow
@pytest.mark.req("R-LEARN-55")
def test_a_student_comes_nearer_to_its_teacher_and_names_it(teacher, tmp_path):
    episodes = stripe_episodes(6, seed=2)
    # what the teacher does is the truth here: its error is nought
    from continuon.learn.rollout import predict

    told = predict(teacher.params, teacher.config, episodes)
    import attrs

    truth = tuple(
        attrs.evolve(e, action=np.clip(t.action, -1, 1))
        for e, t in zip(episodes, told, strict=True)
    )
    report = distil(
        teacher,
        truth,
        tmp_path / "student.hope",
        student="seed",
        num_steps=30,
        batch_size=4,
        **SMALL,
    )
    assert report.passed
    assert report.error_teacher < 1e-6
    assert report.error_after < report.error_before
    assert report.gap_to_teacher == pytest.approx(report.error_after, abs=1e-6)
    assert report.parameters < report.parameters_teacher
    made = hope.load_checkpoint(report.checkpoint)
    assert made.sha256 == report.sha256
    assert made.metadata["distilled_from"] == teacher.sha256
    assert report.origin == "synthetic"


def test_a_student_that_is_not_smaller_is_refused(teacher, tmp_path):
    with pytest.raises(ContractError, match="E-LEARN-DISTIL-001"):
        distil(
            teacher,
            stripe_episodes(4),
            tmp_path / "student.hope",
            student="seed",
            **TINY,
        )
    assert not (tmp_path / "student.hope").exists()


def test_a_student_senses_and_acts_as_its_teacher():
    seen = hope.preset(
        "pi5",
        depth_height=12,
        depth_width=16,
        depth_limit_m=1.5,
        proprio=("elbow",),
        action=("elbow",),
        instruction_size=8,
        use_previous_action=True,
        straight_action=True,
    )
    config = student_of(seen, "nano", d=32)
    for name in (
        "image_shape",
        "depth_height",
        "depth_width",
        "depth_limit_m",
        "proprio",
        "action",
        "instruction_size",
        "use_previous_action",
        "straight_action",
    ):
        assert getattr(config, name) == getattr(seen, name), name
    assert config.d == 32
