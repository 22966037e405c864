"""The same windows through grain, for those who want its worker processes.

grain is an optional front end (the `train` extra): it shuffles, shards and saves its
own state; the windows and their columns are those of `WindowSource`.
"""

from __future__ import annotations

import importlib
from typing import Any

from continuon.errors import MissingPackageError
from continuon.rlds.windows import WindowSource

__all__ = ["grain_dataset", "require_grain"]


def grain_dataset(
    source: WindowSource,
    *,
    batch_size: int,
    seed: int = 0,
    host: int = 0,
    hosts: int = 1,
) -> Any:
    """Return a grain MapDataset of shuffled batches, this host's share of them.

    Raises:
        MissingPackageError: grain is not installed.
    """
    grain = require_grain("loading through grain")
    dataset = grain.MapDataset.source(source).seed(seed).shuffle()
    return dataset[host::hosts].batch(batch_size, drop_remainder=True)


def require_grain(purpose: str) -> Any:
    """Return grain.

    Raises:
        MissingPackageError: grain is not installed.
    """
    try:
        return importlib.import_module("grain")
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "grain", "train", purpose=purpose
        ) from error
