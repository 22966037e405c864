"""Which rig a word stands for: the factory that other processes build it with.

Rooms that this one may not import are named by their import string alone, and are
loaded only where somebody asks for that body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import attrs

from continuon.errors import UsageError
from continuon.robot.factory import Factory
from continuon.robot.spare import start_module

__all__ = ["BODIES", "Body", "open_body"]

BODIES = ("sim", "pi")
_START_SIM = "continuon.sim.live:start_live_rig"
_ATTACH_SIM = "continuon.sim.live:attach"
_PI = "continuon.rig.pi:PiRig"


@attrs.frozen(kw_only=True)
class Body:
    """A robot body that exists now.

    Attributes:
        word: what a person called it.
        rig: builds its rig in any process; only the guard may touch the servos.
        close: ends what was started for it.
        microphone: ALSA's name of the one whose sound goes with its episodes.
    """

    word: str
    rig: Factory
    close: Callable[[], object]
    microphone: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_body(
    rig: str | Factory, *, seed: int = 0, microphone: str | None = None
) -> Body:
    """Return the body that a word or a factory stands for.

    `microphone` names one beside it: a person asks for it, no rig has one of itself.
    "sim" starts a simulated world in a process of its own; it ends with `close` or with
    this process.

    Raises:
        UsageError: E-ROBOT-BODY-001, no such word.
    """
    if isinstance(rig, Factory):
        return Body(word=rig.target, rig=rig, close=_nothing, microphone=microphone)
    if rig == "pi":
        return Body(
            word=rig,
            rig=Factory(target=_PI),
            close=_nothing,
            microphone=microphone,
        )
    if rig == "sim":
        world = Factory(target=_START_SIM, kwargs={"seed": seed}).build(
            launch=start_module
        )
        attach = Factory(target=_ATTACH_SIM, kwargs={"handle": world.path})
        return Body(word=rig, rig=attach, close=world.close, microphone=microphone)
    raise UsageError(
        "E-ROBOT-BODY-001",
        "there is no such rig",
        seen=rig,
        allowed=", ".join(BODIES),
    )


def _nothing() -> None:
    """End nothing: the body was there before."""
