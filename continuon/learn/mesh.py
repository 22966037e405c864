"""Data parallelism: parameters on every device, each batch cut along its windows."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from continuon.errors import UsageError
from continuon.learn.losses import parts
from continuon.learn.windows import Batch

__all__ = ["Placement", "join_cluster", "placement"]

_CLUSTER = ("JAX_COORDINATOR_ADDRESS", "TPU_WORKER_HOSTNAMES", "SLURM_JOB_ID")


class Placement:
    """Puts training state and batches where they belong.

    Attributes:
        mesh: one axis, `data`; None on a single device.
    """

    def __init__(self, mesh: Mesh | None) -> None:
        self.mesh = mesh

    @property
    def devices(self) -> int:
        """Return how many devices share the work."""
        return 1 if self.mesh is None else self.mesh.size

    def state(self, tree: Any) -> Any:
        """Return the tree, a copy of it on each device."""
        if self.mesh is None:
            return tree
        return jax.device_put(tree, NamedSharding(self.mesh, _spec()))

    def batch(self, batch: Batch) -> Batch:
        """Return the batch, its first axis cut over the devices."""
        if self.mesh is None:
            return batch
        cut = NamedSharding(self.mesh, _spec("data"))
        put: Callable[[Any], Any] = lambda array: jax.make_array_from_callback(  # noqa: E731
            array.shape, cut, lambda index: array[index]
        )
        return Batch(*(put(array) for array in parts(batch)))


def _spec(*axes: str) -> Any:
    make: Any = PartitionSpec
    return make(*axes)


def join_cluster() -> bool:
    """Join the other hosts where the environment names them; return whether it did."""
    if not any(os.environ.get(name) for name in _CLUSTER):
        return False
    jax.distributed.initialize()
    return True


def placement(batch_size: int) -> Placement:
    """Return a placement over all devices; axis type Auto, so XLA places the rest.

    Raises:
        UsageError: E-LEARN-MESH-001, the batch does not divide over the devices.
    """
    devices = jax.device_count()
    if devices == 1:
        return Placement(None)
    if batch_size % devices:
        raise UsageError(
            "E-LEARN-MESH-001",
            "the batch does not divide over the devices",
            seen=batch_size,
            allowed=f"a multiple of {devices}",
        )
    return Placement(jax.make_mesh((devices,), ("data",), axis_types=(AxisType.Auto,)))
