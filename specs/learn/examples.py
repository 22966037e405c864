"""Small made-up episodes for tests, labelled synthetic; nothing else may use them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from continuon.learn.data import EpisodeArrays
from continuon.learn.recipe import Recipe
from continuon.rlds.episode import EpisodeMetadata, StreamSpec
from continuon.rlds.images import encode_jpeg
from continuon.rlds.recorder import EpisodeRecorder

HEIGHT, WIDTH = 8, 12
TINY: dict[str, Any] = {
    "d": 16,
    "layers": 1,
    "heads": 1,
    "head_size": 8,
    "mid_units": 8,
    "slow_hidden": 16,
    "slow_key": 8,
    "chunk": 4,
    "periods": (4, 8),
    "latent": 8,
    "image_channels": (4,),
}
RECIPE = Recipe(
    image_height=HEIGHT,
    image_width=WIDTH,
    window=8,
    batch_size=4,
    learning_rate=1e-2,
    average=0.8,
    shift_px=0,
    contrast=0.05,
    brightness=0.01,
    colour=0.01,
)


def stripe_episodes(
    count: int, *, ticks: int = 20, seed: int = 0, speed: bool = False
) -> tuple[EpisodeArrays, ...]:
    """Return episodes in which a bright stripe's column tells the steering."""
    rng = np.random.default_rng(seed)
    episodes = []
    for index in range(count):
        where = np.cumsum(rng.normal(0.0, 0.35, ticks)) + rng.uniform(-1.0, 1.0)
        steering = np.sin(where)
        centre = (steering + 1.0) / 2.0 * (WIDTH - 1)
        columns = np.arange(WIDTH)
        glow = np.exp(-0.5 * (columns[None] - centre[:, None]) ** 2)
        images = np.broadcast_to(
            (40 + 180 * glow)[:, None, :, None], (ticks, HEIGHT, WIDTH, 3)
        )
        noise = rng.normal(0.0, 4.0, images.shape)
        pixels = np.clip(images + noise, 0, 255).astype(np.uint8)
        episodes.append(
            episode_of(
                index, pixels, np.stack([steering, np.full(ticks, 0.3)], 1), speed=speed
            )
        )
    return tuple(episodes)


def noise_episodes(
    count: int, *, ticks: int = 20, seed: int = 0
) -> tuple[EpisodeArrays, ...]:
    """Return episodes whose steering has nothing to do with their images."""
    rng = np.random.default_rng([seed, 7])
    told = stripe_episodes(count, ticks=ticks, seed=seed)
    return tuple(
        episode_of(
            index,
            episode.images,
            np.stack([rng.uniform(-0.9, 0.9, ticks), np.full(ticks, 0.3)], 1),
        )
        for index, episode in enumerate(told)
    )


def record_episode(
    folder: Path,
    episode: EpisodeArrays,
    *,
    start_wall_ns: int,
    action_source: str = "human_teleop_xr",
    task: str = "",
    depth: Callable[[int], Any] | None = None,
) -> None:
    """Write a made-up episode as a recording, its images as JPEG.

    `depth` gives uint16 [h, w] of a tick, in counts of 1 mm.
    """
    streams = [
        StreamSpec(name="rgb", codec="jpeg", width=WIDTH, height=HEIGHT),
        StreamSpec(name="action", codec="vector", names=episode.action_names),
    ]
    if depth is not None:
        height, width = depth(0).shape
        streams.append(
            StreamSpec(
                name="depth",
                codec="png16",
                width=width,
                height=height,
                depth_unit_m=0.001,
            )
        )
    own = action_source == "vla_policy"
    metadata = EpisodeMetadata(
        episode_id=episode.episode_id,
        origin="synthetic",
        xr_mode="observer" if own else "trainer",
        control_role="human_supervisor" if own else "human_teleop",
        action_source=action_source,
        environment_id="made-up",
        robot_id="made-up",
        robot_model="made-up",
        frame_convention="none",
        start_wall_ns=start_wall_ns,
        task=task,
    )
    with EpisodeRecorder(folder, metadata, streams, lossless_pacing=True) as recorder:
        for tick, now_ns in enumerate(episode.stamp_ns.tolist()):
            image = encode_jpeg(np.ascontiguousarray(episode.images[tick]))
            recorder.rgb(image, capture_ns=now_ns + 1)
            recorder.vector("action", episode.action[tick], capture_ns=now_ns + 1)
            if depth is not None:
                recorder.depth(depth(tick), capture_ns=now_ns + 1)
        recorder.close()


def episode_of(
    index: int, images: Any, action: Any, *, speed: bool = False
) -> EpisodeArrays:
    """Return one synthetic episode at 20 Hz from its images and actions."""
    ticks = len(images)
    proprio = np.ones((ticks, 1 if speed else 0), np.float32)
    start_ns = index * 10**10
    return EpisodeArrays(
        episode_id=f"made-{index:03d}",
        origin="synthetic",
        images=np.asarray(images, np.uint8),
        proprio=proprio,
        action=np.asarray(action, np.float32),
        stamp_ns=start_ns + np.arange(ticks, dtype=np.int64) * 50_000_000,
        valid=np.ones(ticks, bool),
        proprio_names=("speed_mps",) if speed else (),
    )
