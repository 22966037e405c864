"""What every peer records: RGB-D 640x480, a state and an action of 16 numbers.

Static texture, a moving shape and correlated noise of the sensor; depth as a stereo
camera gives it, in steps of an eighth of a pixel, with holes. numpy alone, so that it
runs in any environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

HEIGHT, WIDTH, NUMBERS, RATE_HZ = 480, 640, 16, 30
EPISODES, STEPS, WINDOW = 2, 300, 32


def pictures(count: int = 24, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (uint8 [480, 640, 3], uint16 [480, 640]) pairs."""
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.normal(0, 18, (60, 80, 3)), np.ones((8, 8, 1)))
    fine = np.kron(rng.normal(0, 7, (240, 320, 3)), np.ones((2, 2, 1)))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    made = []
    for number in range(count):
        across, down = (100 + 7 * number) % WIDTH, 240 + 80 * np.sin(number / 9)
        shape = (columns - across) ** 2 + (rows - down) ** 2 < 70**2
        colour = coarse + fine + 120
        colour[shape] = (200, 60, 40)
        noise = rng.normal(0, 4, (HEIGHT // 2, WIDTH // 2, 3))
        colour += noise.repeat(2, 0).repeat(2, 1)
        pixels = 20 + rows / 24
        pixels[shape] = 60
        pixels = np.round((pixels + rng.normal(0, 0.12, pixels.shape)) * 8) / 8
        depth = (35_000 / pixels).astype(np.uint16)
        depth[rng.random(depth.shape) < 0.03] = 0
        made.append((np.clip(colour, 0, 255).astype(np.uint8), depth))
    return made


def steps(pool: list[tuple[np.ndarray, np.ndarray]], episode: int) -> Iterator[tuple]:
    """Yield (time_ns, colour, depth, state, action) of one episode."""
    for row in range(STEPS):
        colour, depth = pool[(row + episode) % len(pool)]
        state = np.sin(np.arange(NUMBERS) + row / 30).astype(np.float32)
        yield row * 10**9 // RATE_HZ, colour, depth, state, -state


def cpu_ms(work: Callable[[], int], *, rounds: int = 3) -> float:
    """Return CPU milliseconds a step of the best round; `work` returns its steps.

    User and system time, of this process and of those that it started.
    """
    best = float("inf")
    for _ in range(rounds):
        start = sum(os.times()[:4])
        count = work()
        best = min(best, (sum(os.times()[:4]) - start) * 1e3 / count)
    return best


def window_starts(count: int = 8, seed: int = 1) -> list[tuple[int, int]]:
    """Return (episode, first step) of random windows."""
    rng = np.random.default_rng(seed)
    return [
        (int(rng.integers(EPISODES)), int(rng.integers(STEPS - WINDOW)))
        for _ in range(count)
    ]
