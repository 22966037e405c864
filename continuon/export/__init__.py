"""Compile a checkpoint into artifacts that run without JAX, and prove that they agree.

Importing this room is light; JAX and the converter are loaded when compiling.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continuon.export.compile import (
        ArtifactInfo,
        CompileReport,
        TaskEpisode,
        TaskScore,
        compile_checkpoint,
    )

__all__ = [
    "ArtifactInfo",
    "CompileReport",
    "TaskEpisode",
    "TaskScore",
    "compile_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.compile"), name)
