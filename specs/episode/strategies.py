"""Hypothesis strategies: legal metadata, legal streams of samples."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from continuon._specs.episode.drafts import legal_metadata
from continuon.rlds.episode import (
    ActionSource,
    ControlRole,
    EpisodeMetadata,
    Origin,
    Share,
    XrMode,
)

__all__ = ["actions", "depth_images", "metadata", "stamps"]

_COMBINATIONS = (
    (XrMode.TRAINER, ControlRole.HUMAN_TELEOP, ActionSource.HUMAN_TELEOP_XR),
    (XrMode.WORKSTATION, ControlRole.HUMAN_DEV_XR, ActionSource.HUMAN_DEV_XR),
    (XrMode.OBSERVER, ControlRole.HUMAN_SUPERVISOR, ActionSource.HUMAN_SUPERVISOR),
    (XrMode.OBSERVER, ControlRole.HUMAN_SUPERVISOR, ActionSource.VLA_POLICY),
)
_TEXT = st.text(max_size=20)


@st.composite
def metadata(draw: st.DrawFn) -> EpisodeMetadata:
    """Draw metadata that a recorder accepts."""
    mode, role, source = draw(st.sampled_from(_COMBINATIONS))
    letters = "abcXYZ019._-"
    name = draw(st.sampled_from("aZ0_")) + draw(st.text(letters, max_size=20))
    return legal_metadata(
        episode_id=name,
        origin=draw(st.sampled_from(Origin)),
        xr_mode=mode,
        control_role=role,
        action_source=source,
        task=draw(_TEXT),
        tags=tuple(draw(st.lists(_TEXT, max_size=3))),
        provenance=draw(st.dictionaries(_TEXT, _TEXT, max_size=3)),
        camera_rate_hz=draw(st.none() | st.floats(0.1, 1000.0)),
        owner=draw(st.none() | _TEXT),
        share=draw(st.builds(Share)),
    )


@st.composite
def stamps(draw: st.DrawFn, *, min_size: int = 1) -> np.ndarray:
    """Draw int64 [n] capture times that never go back."""
    steps = draw(st.lists(st.integers(0, 10**9), min_size=min_size, max_size=20))
    return np.cumsum(np.array(steps, np.int64))


@st.composite
def actions(draw: st.DrawFn, count: int) -> np.ndarray:
    """Draw float32 [count, 2] within -1..1."""
    value = st.floats(-1, 1, width=32)
    rows = draw(st.lists(st.tuples(value, value), min_size=count, max_size=count))
    return np.array(rows, np.float32).reshape(count, 2)


@st.composite
def depth_images(draw: st.DrawFn) -> np.ndarray:
    """Draw uint16 [height, width] up to 9 by 9."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    values = st.integers(0, 65_535)
    size = height * width
    pixels = draw(st.lists(values, min_size=size, max_size=size))
    return np.array(pixels, np.uint16).reshape(height, width)
