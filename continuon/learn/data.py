"""Episodes as arrays small enough to stay in memory, and their split by time."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError, DataError
from continuon.learn.frames import room_for
from continuon.learn.refusals import check_like, check_values
from continuon.learn.senses import NO_SENSES, Senses, extra_of

if TYPE_CHECKING:
    from continuon.rlds.steps import EpisodeSteps

__all__ = [
    "CAR_PROPRIO",
    "EpisodeArrays",
    "digest_of",
    "felt_names",
    "load_arrays",
    "origin_of",
    "require_count",
    "require_episodes",
    "shared_names",
    "split_by_time",
]

T = TypeVar("T")
CAR_PROPRIO = ("speed_mps",)
"""State names that a policy may see; the steering position is the answer."""
_DECODERS = 2


@attrs.frozen(kw_only=True, eq=False)
class EpisodeArrays:
    """One episode, every step aligned to its camera frame.

    Attributes:
        episode_id: as recorded.
        origin: real, imported, simulated, synthetic or replayed.
        images: uint8 [T, h, w, 3], policy images.
        proprio: float32 [T, P], components `proprio_names`.
        action: float32 [T, A] in [-1, 1], what the teacher did at that step.
        stamp_ns: int64 [T], capture time.
        valid: bool [T]; other steps are seen but neither learned nor scored.
        proprio_names, action_names: component names.
        extra: senses that are off by default, float32 [T, ...] by name.
    """

    episode_id: str
    origin: str
    images: NDArray[np.uint8]
    proprio: NDArray[np.float32]
    action: NDArray[np.float32]
    stamp_ns: NDArray[np.int64]
    valid: NDArray[np.bool_]
    proprio_names: tuple[str, ...] = ()
    action_names: tuple[str, ...] = ("steering", "throttle")
    extra: dict[str, NDArray[np.float32]] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        ticks = len(self.images)
        columns = (len(self.proprio_names), len(self.action_names))
        shapes = (self.proprio.shape, self.action.shape)
        fits = shapes == ((ticks, columns[0]), (ticks, columns[1]))
        fits = fits and self.stamp_ns.shape == self.valid.shape == (ticks,)
        if not fits or self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise ContractError(
                "E-LEARN-DATA-001",
                "the arrays of an episode do not belong together",
                where=self.episode_id,
                seen=f"images {self.images.shape}, proprio and action {shapes}",
                allowed=f"{ticks} steps with {columns} components",
            )
        check_values(self)

    def __len__(self) -> int:
        return len(self.images)


def load_arrays(
    path: Path,
    *,
    image_height: int,
    image_width: int,
    proprio: Sequence[str] | None = (),
    only: Collection[int] | None = None,
    senses: Senses = NO_SENSES,
    scratch: Path | None = None,
) -> tuple[EpisodeArrays, ...]:
    """Decode a recording once: only the small images stay in memory.

    Args:
        path: a folder of recordings, one recording, or a TFDS directory.
        image_height: of the policy image, pixels.
        image_width: of the policy image, pixels.
        proprio: state names to keep; None takes what every episode has of
            `felt_names`.
        only: places of the episodes to decode, counted from 0; None is all.
        senses: that are off by default and here are wanted.
        scratch: folder on whose disk images and depth lie instead, mapped; see
            `room_for`.

    Raises:
        DataError: nothing is there, an episode lacks actions or a state name, or a
            step's image cannot be decoded. Nothing is ever made up in its place.
            E-LEARN-DATA-008, a state that nobody named repeats the command.
    """
    from continuon.learn.leak import check_leak
    from continuon.rlds.steps import read_steps

    episodes = []
    for place, steps in enumerate(read_steps(path)):
        if only is not None and place not in only:
            continue
        names = felt_names(steps) if proprio is None else tuple(proprio)
        images = _decode(steps, image_height, image_width, scratch)
        made = _arrays(steps, images, names)
        extra = extra_of(steps, senses, scratch=scratch)
        episodes.append(attrs.evolve(made, extra=extra))
    if not episodes:
        raise DataError(
            "E-LEARN-DATA-003",
            "there is no episode to learn from",
            where=path,
            hint="record some: `continuon record`",
        )
    alike = tuple(episodes) if proprio is not None else _shared_proprio(episodes)
    check_like(alike)
    if proprio is None:
        check_leak(alike)
    return alike


def _decode(
    steps: EpisodeSteps, height: int, width: int, scratch: Path | None
) -> NDArray[np.uint8]:
    """Return the small images; an invalid step holds the one before it (else black)."""
    from continuon.rlds.images import decode_colour, policy_image

    def small(index: int) -> NDArray[np.uint8]:
        return policy_image(
            decode_colour(steps.image[index]), height=height, width=width
        )

    images = room_for((len(steps.stamp_ns), height, width, 3), np.uint8, scratch)
    usable = np.flatnonzero(steps.valid)
    with ThreadPoolExecutor(_DECODERS) as pool:
        for index, image in zip(usable, pool.map(small, usable), strict=True):
            images[index] = image
    for index in np.flatnonzero(~np.asarray(steps.valid, bool)):
        images[index] = images[max(int(index) - 1, 0)]
    return images


def _arrays(
    steps: EpisodeSteps, images: NDArray[np.uint8], names: tuple[str, ...]
) -> EpisodeArrays:
    where = steps.metadata.episode_id
    if not steps.action_names:
        raise DataError(
            "E-LEARN-DATA-007",
            "an episode holds observations alone, and no action to learn from",
            where=where,
            hint="move it out of the folder that is learnt from",
        )
    missing = [name for name in names if name not in steps.state_names]
    if missing:
        raise DataError(
            "E-LEARN-DATA-004",
            "an episode does not hold the state that the policy needs",
            where=where,
            seen=f"no {', '.join(missing)}",
            allowed=", ".join(steps.state_names) or "no state at all",
            hint="name others by `continuon train --state`; a trained policy is fed "
            "with what it was trained on",
        )
    columns = [steps.state_names.index(name) for name in names]
    ticks = len(images)
    state = np.asarray(steps.state, np.float32).reshape(ticks, -1)[:, columns]
    action = np.asarray(steps.action, np.float32)
    valid = np.asarray(steps.valid, bool) & np.isfinite(action).all(1)
    valid &= np.isfinite(state).all(1)
    return EpisodeArrays(
        episode_id=where,
        origin=str(steps.metadata.origin),
        images=images,
        proprio=np.where(np.isfinite(state), state, 0).astype(np.float32),
        action=np.where(valid[:, None], action, 0).astype(np.float32),
        stamp_ns=np.asarray(steps.stamp_ns, np.int64),
        valid=valid,
        proprio_names=names,
        action_names=tuple(steps.action_names),
    )


def felt_names(steps: EpisodeSteps) -> tuple[str, ...]:
    """Return the state names that a policy is fed of an episode unless told otherwise.

    Of a car `CAR_PROPRIO`: its steering must be seen. Of any other robot all that is
    known at every valid step: an arm's motion starts from where its joints stand.
    """
    if "steering" in steps.action_names:
        return tuple(name for name in CAR_PROPRIO if name in steps.state_names)
    known = np.isfinite(steps.state[np.asarray(steps.valid, bool)]).all(0)
    return tuple(
        n for n, at_all in zip(steps.state_names, known, strict=True) if at_all
    )


def shared_names(held: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the names that all episodes have, in the order of the first."""
    return tuple(name for name in held[0] if all(name in names for names in held[1:]))


def _shared_proprio(episodes: Sequence[EpisodeArrays]) -> tuple[EpisodeArrays, ...]:
    names = shared_names([episode.proprio_names for episode in episodes])
    return tuple(
        attrs.evolve(
            episode,
            proprio=episode.proprio[:, [episode.proprio_names.index(n) for n in names]],
            proprio_names=names,
        )
        for episode in episodes
    )


def require_episodes(
    arrays: Sequence[EpisodeArrays], minimum: int = 16
) -> tuple[EpisodeArrays, ...]:
    """Return the episodes, if there are enough of them.

    Raises:
        DataError: E-LEARN-FEW-001, there are fewer than `minimum`.
    """
    require_count(len(arrays), minimum)
    return tuple(arrays)


def require_count(episodes: int, minimum: int) -> None:
    """Refuse too few episodes.

    Raises:
        DataError: E-LEARN-FEW-001, there are fewer than `minimum`.
    """
    if episodes < minimum:
        raise DataError(
            "E-LEARN-FEW-001",
            "too few episodes to learn from",
            seen=episodes,
            allowed=f"at least {minimum}",
            hint="record more: `continuon record --count N`",
        )


def split_by_time(
    arrays: Sequence[T], holdout: float = 0.2
) -> tuple[tuple[T, ...], tuple[T, ...]]:
    """Return (train, held out): whole episodes, the held-out ones the last in time.

    `arrays` stand in the order of their start, as `load_arrays` gives them; stamps of
    different sessions may count from different origins and are not compared.

    Raises:
        DataError: E-LEARN-FEW-002, fewer than two episodes.
        ContractError: E-LEARN-SPLIT-001, `holdout` is no proper fraction.
    """
    if not 0.0 < holdout < 1.0:
        raise ContractError(
            "E-LEARN-SPLIT-001",
            "the held-out share is no proper fraction",
            seen=holdout,
            allowed="above 0, below 1",
        )
    if len(arrays) < 2:
        raise DataError(
            "E-LEARN-FEW-002",
            "nothing can be held out of fewer than two episodes",
            seen=len(arrays),
            allowed="at least 2",
            hint="record more: `continuon record --count N`",
        )
    last = min(max(round(len(arrays) * holdout), 1), len(arrays) - 1)
    return tuple(arrays[:-last]), tuple(arrays[-last:])


def origin_of(arrays: Sequence[EpisodeArrays]) -> str:
    """Return the origins that the episodes have, joined by `+` where they differ."""
    return "+".join(sorted({episode.origin for episode in arrays}))


def digest_of(arrays: Sequence[EpisodeArrays]) -> str:
    """Return the SHA-256, hex, of everything that learning sees, in order."""
    total = hashlib.sha256()
    for episode in arrays:
        names = "|".join((*episode.proprio_names, "->", *episode.action_names))
        shape = episode.images.shape
        head = f"{episode.episode_id}\0{episode.origin}\0{names}\0{shape}\n"
        total.update(head.encode())
        for array in (
            episode.images,
            episode.proprio,
            episode.action,
            episode.stamp_ns,
            episode.valid,
            *(value for _, value in sorted(episode.extra.items())),
        ):
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
