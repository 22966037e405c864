"""The whole training state in one checked file: a killed run goes on exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from continuon.errors import DataError
from continuon.learn.update import Training
from continuon.tensorfile import read_tensors, write_tensors

__all__ = ["load_training", "save_training"]

_KIND = "continuon-training"


def save_training(path: Path, state: Training, *, run: str, rows: list[Any]) -> None:
    """Write the state atomically.

    Args:
        path: of the file.
        state: parameters, running mean, optimiser and step.
        run: digest of everything that must be equal for a run to go on.
        rows: the loss curve so far, plain JSON values.
    """
    leaves = jax.tree_util.tree_flatten_with_path(state)[0]
    tensors = {jax.tree_util.keystr(where): np.asarray(leaf) for where, leaf in leaves}
    document = {"kind": _KIND, "run": run, "step": int(state.step), "rows": rows}
    write_tensors(path, tensors, document)


def load_training(
    path: Path, like: Training, *, run: str
) -> tuple[Training, list[Any]] | None:
    """Return the state and the loss curve, None where nothing can go on from here.

    A file of another run (other data, recipe, seed or code) is left alone and not used.

    Raises:
        DataError: the file is this run's and yet torn or of other shapes.
    """
    if not path.exists():
        return None
    file = read_tensors(path)
    if file.document.get("kind") != _KIND or file.document.get("run") != run:
        return None
    paths, tree = jax.tree_util.tree_flatten_with_path(like)
    leaves = []
    for where, leaf in paths:
        name = jax.tree_util.keystr(where)
        held = file.tensors.get(name)
        if held is None or held.shape != leaf.shape or held.dtype != leaf.dtype:
            raise DataError(
                "E-LEARN-RESUME-001",
                "the saved training state does not fit this run",
                where=f"{path}: {name}",
                seen=None if held is None else f"{held.dtype}{held.shape}",
                allowed=f"{leaf.dtype}{leaf.shape}",
                hint="train again with resume off",
            )
        leaves.append(jax.numpy.array(held))
    return jax.tree.unflatten(tree, leaves), list(file.document["rows"])
