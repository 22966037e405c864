"""Many devices: a mesh of data parallelism and FSDP, and what lies where on it.

The mesh has two axes. Both cut each batch along its windows; along `fsdp` the large
parameters and their optimiser state are cut too, each along its longest axis that
divides (fully sharded data parallelism: Rajbhandari et al. 2020, ZeRO stage 3). XLA
gathers a layer's parameters where it computes with them and scatters their gradient.
"""

from __future__ import annotations

import os
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from continuon.errors import UsageError
from continuon.learn.losses import parts
from continuon.learn.windows import Batch

__all__ = ["Placement", "join_cluster", "meet", "placement"]

_CLUSTER = ("JAX_COORDINATOR_ADDRESS", "TPU_WORKER_HOSTNAMES", "SLURM_JOB_ID")
_SMALL = 4096
"""Scalars of a leaf below which cutting it saves less than gathering it costs."""


class Placement:
    """Puts training state and batches where they belong.

    Attributes:
        mesh: axes `data` and `fsdp`; None on a single device.
    """

    def __init__(self, mesh: Mesh | None) -> None:
        self.mesh = mesh

    @property
    def devices(self) -> int:
        """Return how many devices share the work."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def shards(self) -> int:
        """Return into how many parts a large parameter is cut."""
        return 1 if self.mesh is None else self.mesh.shape["fsdp"]

    def shardings(self, tree: Any) -> Any:
        """Return where each leaf of a training state lies; None on a single device."""
        if self.mesh is None:
            return None
        mesh = self.mesh
        return jax.tree.map(
            lambda leaf: NamedSharding(mesh, _spec(*self._cut(leaf.shape))), tree
        )

    def state(self, tree: Any) -> Any:
        """Return the tree on the mesh: small leaves everywhere, large ones cut."""
        if self.mesh is None:
            return tree
        return jax.device_put(tree, self.shardings(tree))

    def batch(self, batch: Batch) -> Batch:
        """Return this host's windows as its part of the batch of all hosts."""
        if self.mesh is None:
            return batch
        cut = NamedSharding(self.mesh, _spec(("data", "fsdp")))
        put: Any = jax.make_array_from_process_local_data
        return Batch(
            *jax.tree.map(lambda array: put(cut, np.asarray(array)), parts(batch))
        )

    def whole(self, tree: Any) -> Any:
        """Return the tree with every leaf whole on every device; all hosts must ask."""
        if self.mesh is None:
            return tree
        everywhere = NamedSharding(self.mesh, _spec())
        return jax.jit(lambda held: held, out_shardings=everywhere)(tree)

    def _cut(self, shape: tuple[int, ...]) -> tuple[str | None, ...]:
        fits = [n if n % self.shards == 0 else 0 for n in shape]
        if self.shards == 1 or int(np.prod(shape)) < _SMALL or not any(fits):
            return ()
        longest = int(np.argmax(fits))
        return (None,) * longest + ("fsdp",)


def _spec(*axes: Any) -> Any:
    make: Any = PartitionSpec
    return make(*axes)


def join_cluster() -> bool:
    """Join the other hosts where the environment names them; return whether it did."""
    if not any(os.environ.get(name) for name in _CLUSTER):
        return False
    count, index = os.environ.get("JAX_NUM_PROCESSES"), os.environ.get("JAX_PROCESS_ID")
    jax.distributed.initialize(
        num_processes=None if count is None else int(count),
        process_id=None if index is None else int(index),
    )
    return True


def meet(name: str) -> None:
    """Wait until every host has come to the place of this name."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def placement(batch_size: int, *, fsdp: int = 1) -> Placement:
    """Return a placement over all devices; axis type Auto, so XLA places the rest.

    Args:
        batch_size: windows of all hosts that are computed at once.
        fsdp: devices that share one copy of the parameters; 1 is data parallelism.

    Raises:
        UsageError: E-LEARN-MESH-001, the batch does not divide over the devices;
            E-LEARN-MESH-002, the devices do not divide into such groups.
    """
    devices = jax.device_count()
    if fsdp < 1 or devices % fsdp:
        raise UsageError(
            "E-LEARN-MESH-002",
            "the devices do not divide into groups that share the parameters",
            seen=f"fsdp {fsdp}",
            allowed=f"a divisor of {devices}",
        )
    if devices == 1:
        return Placement(None)
    if batch_size % devices:
        raise UsageError(
            "E-LEARN-MESH-001",
            "the batch does not divide over the devices",
            seen=batch_size,
            allowed=f"a multiple of {devices}",
        )
    shape = (devices // fsdp, fsdp)
    axes = (AxisType.Auto, AxisType.Auto)
    return Placement(jax.make_mesh(shape, ("data", "fsdp"), axis_types=axes))
