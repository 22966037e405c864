"""Forward kinematics of a serial arm in metres and radians, as one pure function."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon.errors import ContractError

__all__ = ["Joint", "forward", "transform_points"]


@attrs.frozen(kw_only=True)
class Joint:
    """One revolute joint, as a URDF states it.

    Attributes:
        name: of the joint.
        offset_m: from the parent's frame to this joint, x, y, z in the parent's axes.
        rpy_rad: fixed rotation of the joint's frame: roll, pitch, yaw about the
            parent's fixed axes, in this order.
        axis: of rotation in the joint's own frame; need not have length 1.
    """

    name: str
    offset_m: tuple[float, float, float]
    rpy_rad: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)


def forward(
    chain: Sequence[Joint],
    angle_rad: jax.Array,
    *,
    tool_m: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> jax.Array:
    """Return the poses [..., J + 1, 4, 4] of each joint and of the tool, in metres.

    Args:
        chain: from base to tip.
        angle_rad: [..., J].
        tool_m: from the last joint to the tool.

    Raises:
        ContractError: E-HOPE-FK-001, as many angles as joints are needed.
    """
    if angle_rad.shape[-1:] != (len(chain),):
        raise ContractError(
            "E-HOPE-FK-001",
            "the arm has another number of joints",
            seen=angle_rad.shape,
            allowed=f"[..., {len(chain)}]",
        )
    leading = angle_rad.shape[:-1]
    pose = jnp.broadcast_to(jnp.eye(4, dtype=angle_rad.dtype), (*leading, 4, 4))
    poses = []
    for index, joint in enumerate(chain):
        fixed = jnp.asarray(_fixed(joint), angle_rad.dtype)
        pose = pose @ fixed @ _turn(joint.axis, angle_rad[..., index])
        poses.append(pose)
    tool = np.eye(4)
    tool[:3, 3] = tool_m
    poses.append(pose @ jnp.asarray(tool, angle_rad.dtype))
    return jnp.stack(poses, -3)


def transform_points(pose: jax.Array, points_m: jax.Array) -> jax.Array:
    """Return points [..., N, 3] of a frame with this pose [..., 4, 4] in the base's."""
    turned = points_m @ jnp.swapaxes(pose[..., :3, :3], -1, -2)
    return jnp.add(turned, pose[..., None, :3, 3])


def _fixed(joint: Joint) -> np.ndarray:
    roll, pitch, yaw = (_rotation(i, a) for i, a in enumerate(joint.rpy_rad))
    pose = np.eye(4)
    pose[:3, :3] = yaw @ pitch @ roll
    pose[:3, 3] = joint.offset_m
    return pose


def _rotation(axis: int, angle_rad: float) -> np.ndarray:
    """Return the right-handed rotation about a coordinate axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[first, first] = turn[second, second] = np.cos(angle_rad)
    turn[second, first] = np.sin(angle_rad)
    turn[first, second] = -np.sin(angle_rad)
    return turn


def _turn(axis: tuple[float, float, float], angle_rad: jax.Array) -> jax.Array:
    """Return the poses [..., 4, 4] of a rotation (Rodrigues' formula)."""
    x, y, z = np.asarray(axis, np.float64) / np.linalg.norm(axis)
    cross = jnp.asarray([[0, -z, y], [z, 0, -x], [-y, x, 0]], angle_rad.dtype)
    sine, cosine = jnp.sin(angle_rad), jnp.cos(angle_rad)
    turn = (
        jnp.eye(3, dtype=angle_rad.dtype)
        + sine[..., None, None] * cross
        + (1.0 - cosine)[..., None, None] * (cross @ cross)
    )
    pose = jnp.zeros((*angle_rad.shape, 4, 4), angle_rad.dtype)
    return pose.at[..., :3, :3].set(turn).at[..., 3, 3].set(1.0)
