"""A small compiled policy for tests, made once and copied wherever one is altered."""

from __future__ import annotations

import atexit
import shutil
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import attrs

from continuon import hope
from continuon._specs.hope.examples import TINY, parameters
from continuon.export import CompileReport, compile_checkpoint

CONFIG = attrs.evolve(TINY, use_previous_action=False, chunk=16, periods=(16, 32))


@lru_cache
def compiled() -> CompileReport:
    """Return the report of a policy with an 8 x 8 image and one proprio input."""
    return compile_from(CONFIG)


@lru_cache
def compiled_blind() -> CompileReport:
    """Return a policy without image that is fed its own previous action."""
    return compile_from(
        attrs.evolve(
            CONFIG,
            image_height=0,
            image_width=0,
            use_previous_action=True,
        )
    )


def compile_from(config: hope.HopeConfig, **options: Any) -> CompileReport:
    """Compile a network with moved weights into a new directory."""
    folder = Path(mkdtemp(prefix="continuon-policy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    checkpoint = folder / "policy.hope"
    hope.save_checkpoint(checkpoint, config, parameters(config), metadata={})
    return compile_checkpoint(
        checkpoint, folder / "policy", control_rate_hz=30.0, **options
    )
