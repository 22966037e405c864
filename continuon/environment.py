"""The environment variables of the plan: names, defaults, and strict reading."""

from __future__ import annotations

import os
from collections.abc import Mapping

import attrs

from continuon.errors import UsageError

__all__ = ["OFF", "ON", "Environment", "read_environment"]

ON = ("1", "true", "yes", "on")
OFF = ("0", "false", "no", "off")


@attrs.frozen(kw_only=True)
class Environment:
    """What the environment asks for.

    Attributes:
        headless: CONTINUON_HEADLESS, default 1. Nothing here ever opens a screen; 0 is
            refused by what would have to.
        background_trainer: CONTINUON_ENABLE_BACKGROUND_TRAINER, default 0: whether the
            service trains the Mid loop's adapters, while the robot is idle.
        prefer_jax: CONTINUON_PREFER_JAX, default 1: JAX trains; 0 asks for another
            trainer.
        export_origin: CONTINUON_EXPORT_ORIGIN, default "pi5": tag of exports.
    """

    headless: bool = True
    background_trainer: bool = False
    prefer_jax: bool = True
    export_origin: str = "pi5"

    def require_jax(self) -> None:
        """Refuse to train with JAX where another trainer was asked for.

        Raises:
            UsageError: CONTINUON_PREFER_JAX is 0, and there is no other trainer.
        """
        if not self.prefer_jax:
            raise UsageError(
                "E-ENV-JAX-002",
                "CONTINUON_PREFER_JAX=0 asks for another trainer, and there is none",
                seen="0",
                allowed="1",
                hint="unset CONTINUON_PREFER_JAX",
            )

    def require_headless(self) -> None:
        """Refuse what this release does not have, rather than ignore the wish.

        Raises:
            UsageError: a screen was asked for.
        """
        if not self.headless:
            raise UsageError(
                "E-ENV-SCREEN-003",
                "CONTINUON_HEADLESS=0 asks for a screen, and the service has none",
                seen="0",
                allowed="1",
                hint="unset CONTINUON_HEADLESS and use the Robot API",
            )


def read_environment(environ: Mapping[str, str] | None = None) -> Environment:
    """Return the variables as values.

    Raises:
        UsageError: a switch is neither on nor off.
    """
    env = os.environ if environ is None else environ
    return Environment(
        headless=_switch(env, "CONTINUON_HEADLESS", default=True),
        background_trainer=_switch(
            env, "CONTINUON_ENABLE_BACKGROUND_TRAINER", default=False
        ),
        prefer_jax=_switch(env, "CONTINUON_PREFER_JAX", default=True),
        export_origin=env.get("CONTINUON_EXPORT_ORIGIN") or "pi5",
    )


def _switch(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = env.get(name, "").strip().lower()
    if not text:
        return default
    if text in ON or text in OFF:
        return text in ON
    raise UsageError(
        "E-ENV-SWITCH-001",
        f"{name} is neither on nor off",
        seen=env[name],
        allowed=", ".join((*ON, *OFF)),
    )
