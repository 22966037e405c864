"""The manipulation head: rigid motions, order, units; and the arm's kinematics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon.errors import ContractError
from continuon.hope.aina import AinaConfig, aina, init_aina
from continuon.hope.kinematics import Joint, forward, transform_points

SMALL = AinaConfig(fingertips=3, history=3, horizon=2, d=8, heads=2, layers=1)


def scene(seed=0, points=6, batch=1):
    rng = np.random.default_rng(seed)
    cloud = 0.05 * rng.standard_normal((batch, points, 3))
    tips = 0.1 * rng.standard_normal((batch, 1, 3, 3))
    walk = np.cumsum(0.005 * rng.standard_normal((batch, 3, 3, 3)), 1)
    return cloud.astype(np.float32), (tips + walk).astype(np.float32)


def rotation(seed):
    matrix, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    return (matrix * np.sign(np.linalg.det(matrix))).astype(np.float32)


def told(cloud, tips, params=None):
    return np.asarray(
        aina(
            params or init_aina(0, SMALL), SMALL, jnp.asarray(cloud), jnp.asarray(tips)
        )
    )


@pytest.mark.slow
@pytest.mark.req("R-HOPE-60")
@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.floats(-2.0, 2.0))
def test_a_motion_of_the_scene_moves_the_answer_by_the_same_motion(seed, away_m):
    cloud, tips = scene(seed)
    turn, shift = rotation(seed), np.float32([away_m, -away_m, 0.3])
    moved = told(cloud @ turn.T + shift, tips @ turn.T + shift)
    np.testing.assert_allclose(moved, told(cloud, tips) @ turn.T + shift, atol=2e-5)


@pytest.mark.slow
@pytest.mark.req("R-HOPE-61")
def test_the_order_of_the_points_does_not_matter_but_that_of_the_fingers_does():
    cloud, tips = scene(1)
    np.testing.assert_allclose(told(cloud[:, ::-1], tips), told(cloud, tips), atol=1e-6)
    other = told(cloud, tips[:, :, ::-1])[:, :, ::-1]
    assert np.abs(other - told(cloud, tips)).max() > 1e-6


@pytest.mark.slow
@pytest.mark.req("R-HOPE-62")
def test_a_few_steps_of_training_fit_a_grasp_and_every_parameter_gets_gradient():
    cloud, tips = (jnp.asarray(part) for part in scene(2, batch=4))
    goal = cloud.mean(1)[:, None, None]
    wanted = tips[:, -1][:, None] + jnp.array([0.3, 0.6])[None, :, None, None] * (
        goal - tips[:, -1][:, None]
    )

    @jax.jit
    def slope(params):
        def loss(p):
            return jnp.mean(jnp.abs(aina(p, SMALL, cloud, tips) - wanted))

        return jax.value_and_grad(loss)(params)

    params = init_aina(0, SMALL)
    first, gradient = slope(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))
    for _ in range(60):
        loss, gradient = slope(params)
        params = jax.tree.map(lambda p, g: p - 0.02 * jnp.sign(g), params, gradient)
    assert loss < 0.5 * first


@pytest.mark.req("R-HOPE-62")
def test_wrong_sizes_and_shapes_are_refused():
    cloud, tips = scene()
    with pytest.raises(ContractError, match="E-HOPE-AINA-002"):
        told(cloud, tips[:, :2])
    with pytest.raises(ContractError, match="E-HOPE-AINA-001"):
        AinaConfig(d=10, heads=4)


ARM = (
    Joint(name="shoulder", offset_m=(0.0, 0.0, 0.0)),
    Joint(name="elbow", offset_m=(0.3, 0.0, 0.0)),
)


@pytest.mark.req("R-HOPE-63")
@settings(max_examples=10, deadline=None)
@given(st.floats(-3, 3), st.floats(-3, 3))
def test_a_planar_arm_ends_where_trigonometry_says(first, second):
    poses = forward(ARM, jnp.array([first, second]), tool_m=(0.2, 0.0, 0.0))
    both = first + second
    where = [
        0.3 * np.cos(first) + 0.2 * np.cos(both),
        0.3 * np.sin(first) + 0.2 * np.sin(both),
        0.0,
    ]
    np.testing.assert_allclose(poses[-1, :3, 3], where, atol=1e-6)
    turn = np.asarray(poses[:, :3, :3])
    np.testing.assert_allclose(
        turn @ turn.transpose(0, 2, 1),
        np.broadcast_to(np.eye(3), turn.shape),
        atol=1e-5,
    )


@pytest.mark.req("R-HOPE-63")
def test_fixed_rotations_are_roll_then_pitch_then_yaw_and_points_are_carried():
    quarter = np.pi / 2
    turned = (
        Joint(name="j", offset_m=(1.0, 0.0, 0.0), rpy_rad=(quarter, 0.0, quarter)),
    )
    pose = forward(turned, jnp.zeros(1))[0]
    point = transform_points(pose, jnp.array([[0.0, 0.0, 1.0]]))[0]
    np.testing.assert_allclose(point, [2.0, 0.0, 0.0], atol=1e-6)
    with pytest.raises(ContractError, match="E-HOPE-FK-001"):
        forward(ARM, jnp.zeros(3))
