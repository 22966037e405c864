"""How a policy is trained, as one value; its defaults are measured, not guessed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import attrs

from continuon.errors import ContractError

__all__ = ["Recipe", "positive"]

_PRODUCTS = ("float32", "BF16_BF16_F32")


def positive(_: object, field: Any, value: float) -> None:
    """Refuse a field that is not above 0, by name (an attrs validator)."""
    if not value > 0:
        _refuse(field.name, value, "above 0")


def _not_negative(_: object, field: Any, value: float) -> None:
    if not value >= 0:
        _refuse(field.name, value, "0 or above")


def _fraction(_: object, field: Any, value: float) -> None:
    if not 0 <= value < 1:
        _refuse(field.name, value, "0 or above, below 1")


def _precision(_: object, field: Any, value: str) -> None:
    if value not in _PRODUCTS:
        _refuse(field.name, value, ", ".join(_PRODUCTS))


def _share(_: object, field: Any, value: float) -> None:
    if not 0 <= value <= 1:
        _refuse(field.name, value, "0 to 1")


def _refuse(field: str, seen: object, allowed: str) -> None:
    raise ContractError(
        "E-LEARN-RECIPE-001",
        f"the field {field} of the recipe is out of range",
        where=field,
        seen=seen,
        allowed=allowed,
    )


@attrs.frozen(kw_only=True)
class Recipe:
    """Settings of gradient training; the same recipe serves every recording.

    Attributes:
        image_height, image_width: policy image in pixels.
        window: ticks of a training window; each starts from a reset state. It must
            span two chunks of the model, or what a memory writes is never read and
            its parameters never train.
        batch_size: windows a step.
        accumulate: parts of the batch that are computed one after the other, their
            gradients summed: the same step in so much less memory.
        learning_rate: peak of a linear warm-up and cosine decay.
        warmup: share of the steps that warm up.
        final_learning_rate: share of the peak that is left at the end.
        weight_decay: of matrices and kernels only (decoupled, AdamW).
        clip_norm: largest global norm of a gradient.
        average: decay of the running mean of the parameters, which is what is kept.
        flip: share of windows mirrored left to right, steering negated; 0 where the
            action has no component named steering.
        scramble: share of windows whose ticks are drawn at random from their episode,
            each changed by a draw of its own. What came before says nothing there, so
            the policy learns to look before it remembers: without it memory fits the
            training laps and fails off them.
        shift_px: largest random shift of a window's images, in policy-image pixels.
        brightness: standard deviation of a window's brightness offset, share of 255.
        contrast: standard deviation of a window's log contrast.
        colour: standard deviation of a window's log gain per channel.
        proprio_noise: standard deviation of relative noise on proprioception.
        squared_weight: weight of the squared action error beside the absolute one. The
            absolute one alone answers a doubtful "left or straight" with straight,
            on either side of zero; the squared one leans to the likelier side.
        prediction_weight: weight of the world model's squared error.
        sparsity_lambda: weight of the mean write strength of the fast memory.
        products: precision of matrix products, as JAX names it: `float32`, or
            `BF16_BF16_F32`, which rounds both factors to bfloat16 and adds up in
            float32. Parameters, state and the fast memory's solve stay float32.

    Raises:
        ContractError: E-LEARN-RECIPE-001, naming the field.
    """

    image_height: int = attrs.field(default=30, validator=positive)
    image_width: int = attrs.field(default=40, validator=positive)
    window: int = attrs.field(default=32, validator=positive)
    batch_size: int = attrs.field(default=4, validator=positive)
    accumulate: int = attrs.field(default=1, validator=positive)
    learning_rate: float = attrs.field(default=3e-3, validator=positive)
    warmup: float = attrs.field(default=0.05, validator=_fraction)
    final_learning_rate: float = attrs.field(default=0.02, validator=_fraction)
    weight_decay: float = attrs.field(default=1e-2, validator=_not_negative)
    clip_norm: float = attrs.field(default=1.0, validator=positive)
    average: float = attrs.field(default=0.98, validator=_fraction)
    flip: float = attrs.field(default=0.25, validator=_share)
    scramble: float = attrs.field(default=0.85, validator=_share)
    shift_px: int = attrs.field(default=3, validator=_not_negative)
    brightness: float = attrs.field(default=0.07, validator=_not_negative)
    contrast: float = attrs.field(default=0.3, validator=_not_negative)
    colour: float = attrs.field(default=0.08, validator=_not_negative)
    proprio_noise: float = attrs.field(default=0.1, validator=_not_negative)
    squared_weight: float = attrs.field(default=1.0, validator=_not_negative)
    prediction_weight: float = attrs.field(default=0.1, validator=_not_negative)
    sparsity_lambda: float = attrs.field(default=0.0, validator=_not_negative)
    products: str = attrs.field(default="float32", validator=_precision)

    def __attrs_post_init__(self) -> None:
        if self.batch_size % self.accumulate:
            allowed = f"a divisor of batch_size {self.batch_size}"
            _refuse("accumulate", self.accumulate, allowed)

    @property
    def part_size(self) -> int:
        """Windows that are computed at once."""
        return self.batch_size // self.accumulate

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return attrs.asdict(self)

    def plain(self) -> Recipe:
        """Return the same recipe without augmentation."""
        return attrs.evolve(
            self,
            flip=0.0,
            scramble=0.0,
            shift_px=0,
            brightness=0.0,
            contrast=0.0,
            colour=0.0,
            proprio_noise=0.0,
        )

    def digest(self) -> str:
        """Return the SHA-256, hex, of the canonical JSON."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()
