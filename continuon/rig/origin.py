"""Whether this machine's devices are real."""

from __future__ import annotations

import os
from collections.abc import Mapping

__all__ = ["machine_origin"]


def machine_origin(environ: Mapping[str, str] | None = None) -> str:
    """Return "real", or "simulated" where umockdev stands for the device nodes.

    umockdev sets this variable for every process that it redirects.
    """
    env = os.environ if environ is None else environ
    return "simulated" if "UMOCKDEV_DIR" in env else "real"
