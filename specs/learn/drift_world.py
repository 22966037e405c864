"""What a world must tell so that policies can be trained in it and live in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class World(NamedTuple):
    """A world as functions; arrays have a leading axis of robots [B].

    A scene is what a robot has before it, a body is what it is not told of, a plant is
    what the two make of its actions. `drifted` gives the bodies of robots in one
    condition.

    Attributes:
        proprio, action: names of the senses and of the action components.
        noise_size: normal deviates a tick.
        scene(key, B), body(key, B): to train on.
        robots(seed, B): to live; they have a `scene`.
        drifted(robots, drift): bodies.
        begin(scene, key): the plant before the first tick; None is no offset.
        sense(plant, body, scene, tick, noise [B, noise_size]): senses [B, S], and the
            plant that remembers them.
        expert(plant, body, scene, tick): the action [B, A] of one who knows the body.
        move(plant, body, scene, action [B, A]): the plant one tick later.
        distance(plant, scene, tick): the error [B].
    """

    proprio: tuple[str, ...]
    action: tuple[str, ...]
    noise_size: int
    scene: Callable[[Any, int], Any]
    body: Callable[[Any, int], Any]
    robots: Callable[[int, int], Any]
    drifted: Callable[[Any, Any], Any]
    begin: Callable[[Any, Any], Any]
    sense: Callable[[Any, Any, Any, Any, Any], tuple[Any, Any]]
    expert: Callable[[Any, Any, Any, Any], Any]
    move: Callable[[Any, Any, Any, Any], Any]
    distance: Callable[[Any, Any, Any], Any]
