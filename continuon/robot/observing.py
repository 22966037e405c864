"""What a policy is given at one tick, made of the robot's senses as training did."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError, UsageError
from continuon.instruction import embed_instruction
from continuon.rig.protocols import DEPTH_UNIT_M, Camera, Frame, VectorSample

__all__ = [
    "Lack",
    "Observation",
    "Observer",
    "RobotSenses",
    "Senses",
    "check_instruction",
    "check_senses",
]


class Lack(StrEnum):
    """Why there is nothing to step a policy on."""

    STATE = "the robot has measured nothing of itself yet"
    DEPTH = "the frame has no depth of its own time"
    INSTRUCTION = "nobody has told it what to do"


@attrs.frozen(eq=False, kw_only=True)
class Senses:
    """What is known at one tick.

    Attributes:
        now_ns: start of the tick, host monotonic.
        frame: the frame that arrived since the tick before, else None.
        state: the newest reading of the robot's state, however old; None if none yet.
        state_names: its components.
        instruction: what the robot was told, "" where nothing.
    """

    now_ns: int
    frame: Frame | None
    state: VectorSample | None
    state_names: tuple[str, ...] = ()
    instruction: str = ""


@attrs.frozen(eq=False, kw_only=True)
class Observation:
    """One step's input.

    Attributes:
        image: uint8 [h, w, 3], None where the policy sees none.
        proprio: float32 [P], None where it feels none.
        more: `depth` float32 [h, w] in metres, 0 where not known, and `instruction`
            float32 [n], where the policy has them.
        observed_ns: capture time of the older of colour and depth.
    """

    image: NDArray[np.uint8] | None
    proprio: NDArray[np.float32] | None
    more: dict[str, NDArray[np.float32]]
    observed_ns: int


@attrs.frozen(kw_only=True)
class RobotSenses:
    """What a robot senses at all.

    Attributes:
        has_depth: its camera gives depth.
        state_names: what it measures of itself.
    """

    has_depth: bool
    state_names: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """What it can give a policy, in the words of a bundle's manifest."""
        depth = ("depth",) if self.has_depth else ()
        proprio = ("proprio",) if self.state_names else ()
        return (*depth, "image", "instruction", *proprio)

    @classmethod
    def of(cls, camera: Camera | None, state_names: Sequence[str]) -> Self:
        """Return what a robot with this camera, or none, senses."""
        has_depth = camera is not None and camera.has_depth
        return cls(has_depth=has_depth, state_names=tuple(state_names))


def check_senses(spec: Any, body: RobotSenses) -> None:
    """Return if a robot has every sense that a policy asks for.

    Raises:
        ContractError: E-ROBOT-POLICY-001, it measures something else of itself; -004,
            its camera gives no depth.
    """
    missing = sorted(set(spec.proprio) - set(body.state_names))
    if missing:
        raise ContractError(
            "E-ROBOT-POLICY-001",
            "the policy asks for senses that this robot does not have",
            seen=", ".join(missing),
            allowed=", ".join(body.state_names) or "none",
            hint="train it with the names that this robot measures",
        )
    if spec.depth_height and not body.has_depth:
        raise ContractError(
            "E-ROBOT-POLICY-004",
            "the policy sees depth, and this robot's camera gives none",
            seen=f"depth {spec.depth_height} x {spec.depth_width}",
            allowed="no depth",
            hint="plug a depth camera in and restart, or learn without depth",
        )


def check_instruction(spec: Any, told: str) -> None:
    """Return if a policy that must be told what to do has been told.

    Raises:
        UsageError: E-ROBOT-POLICY-006, nobody told it.
    """
    if spec.instruction_size and not told:
        raise UsageError(
            "E-ROBOT-POLICY-006",
            "the policy must be told what to do, and nobody has",
            seen="no instruction",
            allowed="an instruction in words, as in the recordings that it learnt from",
            hint='continuon robot instruct "TEXT", or the field on the cockpit page',
        )


class Observer:
    """Makes observations for one policy; an instruction is hashed once.

    Args:
        spec: names and sizes of what the policy is given.
    """

    def __init__(self, spec: Any) -> None:
        self._spec = spec
        self._told: tuple[str, NDArray[np.float32]] | None = None

    def lacks(self, senses: Senses) -> Lack | None:
        """Return what is missing beside a frame; None where nothing is."""
        if self._spec.instruction_size and not senses.instruction:
            return Lack.INSTRUCTION
        if self._spec.proprio and senses.state is None:
            return Lack.STATE
        return None

    def __call__(self, frame: Frame, senses: Senses) -> Observation | None:
        """Return the observation of a fresh frame; None where its depth is missing.

        Depth that was taken too far from its colour picture is not its depth, as a
        recording's step of that kind is not learnt from.

        Raises:
            ContractError: E-ROBOT-POLICY-001, the robot does not measure what it asks.
        """
        # Not at the top: no process of the robot needs pictures before a policy does.
        from continuon.rlds.depth_picture import MAX_DEPTH_APART_NS, policy_depth
        from continuon.rlds.images import policy_image

        spec, image, observed_ns = self._spec, None, frame.capture_ns
        more: dict[str, NDArray[np.float32]] = {}
        if spec.depth_height:
            depth_ns = frame.depth_capture_ns or frame.capture_ns
            apart_ns = abs(depth_ns - frame.capture_ns)
            if frame.depth is None or apart_ns > MAX_DEPTH_APART_NS:
                return None
            more["depth"] = policy_depth(
                frame.depth,
                height=spec.depth_height,
                width=spec.depth_width,
                unit_m=DEPTH_UNIT_M,
            )
            observed_ns = min(observed_ns, depth_ns)
        if spec.image_height:
            image = policy_image(
                frame.rgb, height=spec.image_height, width=spec.image_width
            )
        if spec.instruction_size:
            more["instruction"] = self._instruction(senses.instruction)
        return Observation(
            image=image,
            proprio=self._proprio(senses) if spec.proprio else None,
            more=more,
            observed_ns=observed_ns,
        )

    def _instruction(self, text: str) -> NDArray[np.float32]:
        if self._told is None or self._told[0] != text:
            self._told = text, embed_instruction(text, self._spec.instruction_size)
        return self._told[1]

    def _proprio(self, senses: Senses) -> NDArray[np.float32]:
        body = RobotSenses(has_depth=True, state_names=senses.state_names)
        check_senses(self._spec, body)
        assert senses.state is not None  # `lacks` comes first
        at = [senses.state_names.index(name) for name in self._spec.proprio]
        return np.asarray(senses.state.values, np.float32)[at]
