"""Motion: guard, control loop, safety kernel, modes, swaps, recorder and service.

Names are loaded when first used, so that the guard's process stays small.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ActiveModel": "policies",
    "ControlConfig": "control_config",
    "ControlHandle": "control",
    "ControlLoop": "loop",
    "EStopLatch": "latch",
    "Factory": "factory",
    "GuardHandle": "guard_handle",
    "HealthVerdict": "health_gate",
    "Mode": "modes",
    "ModeKeeper": "keeper",
    "ModeState": "modes",
    "SafetyLimits": "kernel",
    "boot_check": "boot",
    "capture_episodes": "capture",
    "discover": "discovery",
    "hot_swap_update": "update",
    "install_unit": "install",
    "serve": "service",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name from its module."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
