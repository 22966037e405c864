"""Polls a device for a while on its own rig's clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from continuon.clock import Clock

__all__ = ["watch"]

Sample = TypeVar("Sample")
POLL_NS = 4_000_000


def watch(
    poll: Callable[[], Sample | None], clock: Clock, *, seconds: float
) -> list[tuple[int, Sample]]:
    """Return (host time of the poll, sample) for each new sample."""
    got: list[tuple[int, Sample]] = []
    begin = now = clock.monotonic_ns()
    while now - begin < seconds * 1e9:
        sample = poll()
        if sample is not None:
            got.append((now, sample))
        clock.sleep_until_ns(now + POLL_NS)
        now = clock.monotonic_ns()
    return got
