"""The shape of a HOPE network, as one checked value."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import attrs

from continuon.errors import ContractError

__all__ = ["HopeConfig", "config_from_dict", "digest"]

_POSITIVE = (
    "d",
    "layers",
    "heads",
    "head_size",
    "convolution_width",
    "mid_units",
    "slow_hidden",
    "slow_key",
    "chunk",
    "latent",
    "action_chunk",
)
_ID = re.compile("[0-9a-f]{64}")
_ADDED: dict[str, Any] = {
    "action_chunk": 1,
    "instruction_size": 0,
    "depth_height": 0,
    "depth_width": 0,
    "depth_limit_m": 4.0,
    "unit_keys": False,
    "action_levels": [],
    "token_places": 0,
    "token_codes": 0,
    "codebook_id": "",
    "mid_turns": False,
    "straight_action": False,
}
"""Later fields and what they were before they were: at that, a digest has them not."""


def _names(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _integers(value: Any) -> tuple[int, ...]:
    return tuple(int(item) for item in value)


@attrs.frozen(kw_only=True)
class HopeConfig:
    """Sizes, names and time scales; hashable, so it can be a static jit argument.

    Attributes:
        image_height, image_width: policy image in pixels; both 0 means no image.
        proprio: names of the proprioceptive inputs, units in the names.
        action: names of the action components, each in [-1, 1].
        use_previous_action: also feed a[t-1]; never a[t], which is to be predicted.
        d: width of the residual stream.
        layers, heads, head_size: blocks, fast-memory heads, and key = value size.
        convolution_width: taps of the causal convolution before the fast memory.
        mid_units: units of the diagonal state-space layer.
        slow_hidden, slow_key: hidden width of a CMS level, and its key's size.
        periods: ticks between writes of each CMS level, multiples of `chunk`.
        chunk: C, ticks evaluated in parallel and between anchor refreshes.
        latent: size of the frozen target that the world model predicts.
        image_channels: channels of the stride-2 convolutions of the encoder.
        motion_bands: horizontal bands of the image whose sideways motion since the
            last frame is sensed; 0 for none, as without an image. See
            `continuon.hope.motion`.
        self_modifying, online: switches of the two kinds of memory writes.
        action_chunk: actions told at each tick, for it and the ticks after it. A
            robot that steps at every tick executes the first; the rest is there to be
            run open loop.
        instruction_size: buckets of a hashed instruction (`continuon.instruction`);
            0 for none.
        depth_height, depth_width: depth image in pixels, metres; both 0 for none.
        depth_limit_m: what is further counts as this far.
        unit_keys: queries and keys of the fast memory have length 1, so that a write
            can turn what it meets into its opposite: tracking a state that flips
            (parity) needs it. Otherwise they are shorter than 1 and keep magnitude,
            which is better for control.
        action_levels: names of the action components that are drawn to -1, 0 and 1; see
            `continuon.hope.levels`.
        token_places, token_codes: tokens of a picture, and entries of the codebook that
            they are drawn from; both 0 for none. See `continuon.hope.tokens`.
        codebook_id: of that codebook, hex; tokens of another one mean something else.
        mid_turns: `mid_units` are pairs that also turn, by an angle of the input: sums
            modulo more than 2 need it. See `continuon.hope.mid`.
        straight_action: an action is the head's sum cut at -1 and 1, not its tanh: for
            robots whose action is nearly linear in their state, as an arm's joint
            targets are. See `continuon.learn.line`.

    Raises:
        ContractError: E-HOPE-CONFIG-001, naming the field.
    """

    image_height: int = 30
    image_width: int = 40
    proprio: tuple[str, ...] = attrs.field(default=(), converter=_names)
    action: tuple[str, ...] = attrs.field(
        default=("steering", "throttle"), converter=_names
    )
    use_previous_action: bool = False
    d: int = 128
    layers: int = 4
    heads: int = 4
    head_size: int = 32
    convolution_width: int = 4
    mid_units: int = 128
    slow_hidden: int = 256
    slow_key: int = 64
    periods: tuple[int, ...] = attrs.field(default=(16, 128, 1024), converter=_integers)
    chunk: int = 16
    latent: int = 32
    image_channels: tuple[int, ...] = attrs.field(
        default=(16, 32, 32), converter=_integers
    )
    motion_bands: int = 0
    self_modifying: bool = True
    online: bool = True
    action_chunk: int = 1
    instruction_size: int = 0
    depth_height: int = 0
    depth_width: int = 0
    depth_limit_m: float = 4.0
    unit_keys: bool = False
    action_levels: tuple[str, ...] = attrs.field(default=(), converter=_names)
    token_places: int = 0
    token_codes: int = 0
    codebook_id: str = ""
    mid_turns: bool = False
    straight_action: bool = False

    def __attrs_post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            _require(name, isinstance(value, int) and value >= 1, value, "at least 1")
        taps = self.convolution_width
        _require("convolution_width", taps >= 2, taps, "at least 2")
        for sense in ("image", "depth"):
            self._check_size(f"{sense}_height", f"{sense}_width")
        self._check_size("token_codes", "token_places")
        self._check_codebook()
        pairs = self.mid_units % 2 == 0 or not self.mid_turns
        _require("mid_units", pairs, self.mid_units, "even, with mid_turns")
        size = self.instruction_size
        fits = isinstance(size, int) and size >= 0
        _require("instruction_size", fits, size, "at least 0")
        limit_m = self.depth_limit_m
        _require("depth_limit_m", 0 < limit_m < math.inf, limit_m, "above 0, finite")
        bands = self.motion_bands
        fits = isinstance(bands, int) and bands >= 0
        if self.has_image and bands:
            fits = fits and bands <= self.image_height and self.image_width >= 3
        _require("motion_bands", fits, bands, "0 to image_height, on 3 columns or more")
        _require(
            "image_channels",
            all(c >= 1 for c in self.image_channels) and len(self.image_channels) >= 1,
            self.image_channels,
            "at least 1",
        )
        _require(
            "proprio",
            bool(self.proprio) or self.has_image,
            self.proprio,
            "a name, where there is no image",
        )
        for name in ("proprio", "action"):
            names = getattr(self, name)
            unique = len(set(names)) == len(names) and all(names)
            _require(name, unique, names, "different, non-empty names")
        _require("action", len(self.action) >= 1, self.action, "at least one name")
        fits = set(self.action_levels) <= set(self.action)
        fits = fits and len(set(self.action_levels)) == len(self.action_levels)
        _require(
            "action_levels", fits, self.action_levels, f"names of action {self.action}"
        )
        _require("periods", len(self.periods) >= 1, self.periods, "at least one level")
        for period in self.periods:
            fits = period > 0 and period % self.chunk == 0
            _require("periods", fits, period, f"multiples of chunk {self.chunk}")
        rising = all(
            a < b for a, b in zip(self.periods, self.periods[1:], strict=False)
        )
        _require("periods", rising, self.periods, "rising")

    def _check_size(self, height: str, width: str) -> None:
        for name in (height, width):
            value = getattr(self, name)
            _require(name, isinstance(value, int) and value >= 0, value, "at least 0")
        tall, wide = getattr(self, height), getattr(self, width)
        seen = f"{wide} with {height} {tall}"
        both = (tall > 0) == (wide > 0)
        _require(width, both, seen, "both 0, or both positive")

    def _check_codebook(self) -> None:
        name = self.codebook_id
        if not self.has_tokens:
            _require("codebook_id", name == "", name, "empty, without tokens")
            return
        fits = isinstance(name, str) and _ID.fullmatch(name) is not None
        _require("codebook_id", fits, name, "64 hex digits, of the tokens' codebook")

    @property
    def has_image(self) -> bool:
        """Whether the network looks at a picture."""
        return self.image_height > 0

    @property
    def has_depth(self) -> bool:
        """Whether the network looks at a depth image."""
        return self.depth_height > 0

    @property
    def has_tokens(self) -> bool:
        """Whether the network is told a codebook's tokens of a picture."""
        return self.token_places > 0

    @property
    def senses_motion(self) -> bool:
        """Whether the network is told how the picture moved."""
        return self.has_image and self.motion_bands > 0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels of the policy image."""
        return (self.image_height, self.image_width, 3)

    @property
    def observation_names(self) -> tuple[str, ...]:
        """Keys of the observation dict, in a fixed order."""
        names = ["image"] if self.has_image else []
        names += ["depth"] if self.has_depth else []
        names += ["tokens"] if self.has_tokens else []
        names += ["proprio"] if self.proprio else []
        names += ["instruction"] if self.instruction_size else []
        names += ["previous_action"] if self.use_previous_action else []
        return tuple(names)

    @property
    def self_size(self) -> int:
        """Columns of the memory that hold its own projections (k, v, eta, alpha)."""
        return 2 * self.head_size + 2 if self.self_modifying else 0

    @property
    def memory_size(self) -> int:
        """Columns of the fast memory: values, then its own projections."""
        return self.head_size + self.self_size

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in attrs.asdict(self).items()
        }


def config_from_dict(values: Mapping[str, Any]) -> HopeConfig:
    """Return the config that `as_dict` gave.

    Raises:
        ContractError: E-HOPE-CONFIG-002 for a field that does not exist here.
    """
    known = {field.name for field in attrs.fields(HopeConfig)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ContractError(
            "E-HOPE-CONFIG-002",
            "the config has fields that this version does not know",
            seen=", ".join(unknown),
            allowed=", ".join(sorted(known)),
        )
    return HopeConfig(**values)


def digest(config: HopeConfig) -> str:
    """Return the SHA-256, hex, of the config's canonical JSON.

    A field that a later version added changes no digest while it is at its default:
    what was trained before it goes on to fit.
    """
    values = config.as_dict()
    told = {k: v for k, v in values.items() if k not in _ADDED or v != _ADDED[k]}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _require(field: str, holds: bool, seen: object, allowed: str) -> None:  # noqa: FBT001
    if not holds:
        raise ContractError(
            "E-HOPE-CONFIG-001",
            f"the field {field} of the HOPE config is inconsistent",
            where=field,
            seen=seen,
            allowed=allowed,
        )
