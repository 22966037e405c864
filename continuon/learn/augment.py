"""Random changes of a window that leave its meaning as it was: pure numpy."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.learn.recipe import Recipe
from continuon.learn.senses import DEPTH, INSTRUCTION

__all__ = ["Window", "augment", "can_flip", "mirror_signs"]

_MIRRORED = ("steering", "yaw", "lateral")


@attrs.frozen(eq=False)
class Window:
    """Ticks of one episode.

    Attributes:
        images: uint8 [T, h, w, 3].
        proprio: float32 [T, P].
        action: float32 [T, A].
        valid: bool [T]; False where a short episode was padded or a step is invalid.
        follows: bool [T]; whether a tick comes right after the one before it.
        extra: senses that are off by default, see `continuon.learn.senses`.
    """

    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    action: NDArray[np.float32]
    valid: NDArray[np.bool_]
    follows: NDArray[np.bool_]
    extra: dict[str, NDArray[np.float32]] = attrs.field(factory=dict)


def mirror_signs(names: Sequence[str]) -> NDArray[np.float32]:
    """Return -1 for the components that change sign in a mirror, else +1."""
    signs = [-1.0 if any(m in name for m in _MIRRORED) else 1.0 for name in names]
    return np.asarray(signs, np.float32)


def can_flip(action_names: Sequence[str]) -> bool:
    """Return whether a mirrored image has a known mirrored action: a car's has."""
    return "steering" in action_names


def augment(
    window: Window,
    recipe: Recipe,
    rng: np.random.Generator,
    *,
    proprio_names: Sequence[str],
    action_names: Sequence[str],
    each: bool = False,
) -> Window:
    """Return the window mirrored, shifted and relit.

    One random draw serves the whole window, so motion between frames stays what it
    was; with `each`, every tick has a draw of its own.
    """
    ticks, height, width = window.images.shape[:3]
    draws = ticks if each else 1
    proprio, action = window.proprio, window.action
    down, right = rng.integers(-recipe.shift_px, recipe.shift_px + 1, (2, draws, 1))
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + right, 0, width - 1)
    flip = (rng.random((draws, 1)) < recipe.flip) & can_flip(action_names)
    # a mirror makes left right, and an instruction that says "left" stays as it is
    flip &= INSTRUCTION not in window.extra
    columns = np.where(flip, columns[:, ::-1], columns)
    action = np.where(flip, action * mirror_signs(action_names), action)
    proprio = np.where(flip, proprio * mirror_signs(proprio_names), proprio)
    noise = rng.normal(1.0, recipe.proprio_noise, (draws, proprio.shape[1]))
    first = np.arange(ticks)[:, None, None] * (height * width)
    place = first + rows[:, :, None] * width + columns[:, None]
    moved = window.images.reshape(-1, 3).take(place, axis=0)
    return Window(
        _relight(moved, recipe, rng, draws),
        (proprio * noise).astype(np.float32),
        action,
        window.valid,
        window.follows,
        {name: _mirrored(name, value, flip) for name, value in window.extra.items()},
    )


def _mirrored(
    name: str, value: NDArray[np.float32], flip: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return a sense as the mirror shows it; distances stay what they were."""
    if name != DEPTH:
        return value
    return np.where(flip[:, :, None], value[..., ::-1], value)


def _relight(
    images: NDArray[np.uint8], recipe: Recipe, rng: np.random.Generator, draws: int
) -> NDArray[np.uint8]:
    """Apply contrast about mid-grey, gain a channel and offset; clip, round."""
    gain = np.exp(rng.normal(0.0, recipe.contrast, (draws, 1, 1)))
    tint = np.exp(rng.normal(0.0, recipe.colour, (draws, 3, 1)))
    offset = rng.normal(0.0, recipe.brightness, (draws, 1, 1)) * 255.0
    if not (recipe.contrast or recipe.colour or recipe.brightness):
        return images
    scale = (gain * tint).reshape(draws, 1, 1, 3).astype(np.float32)
    shift = (128.0 + offset).reshape(draws, 1, 1, 1).astype(np.float32)
    lit = (images.astype(np.float32) - np.float32(128.0)) * scale + shift
    np.minimum(np.maximum(lit, 0.0, out=lit), 255.0, out=lit)
    lit += np.float32(0.5)
    return lit.astype(np.uint8)
