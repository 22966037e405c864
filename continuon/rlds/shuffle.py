"""A shuffled order that needs no memory: a keyed permutation of 0..n-1, any place.

A Feistel network over the smallest even number of bits that holds n, walked along its
cycle until it lands below n (Black and Rogaway, "Ciphers with arbitrary finite
domains", 2002). Not a cipher: the round function is a hash (splitmix64's finaliser).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContractError

__all__ = ["shuffled"]

_ROUNDS = 6
_MASK = (1 << 64) - 1


def shuffled(
    places: NDArray[np.int64], count: int, *, seed: int, epoch: int = 0
) -> NDArray[np.int64]:
    """Return where places 0..count-1 go in the order of a seed and an epoch.

    The same arguments give the same answer on every machine; all places together give
    each index once.

    Raises:
        ContractError: a place outside 0..count-1.
    """
    inside = np.asarray(places, np.int64)
    if inside.size and not (inside.min() >= 0 and inside.max() < count):
        raise ContractError(
            "E-RLDS-SHUFFLE-001",
            "a place outside the order",
            seen=(int(inside.min()), int(inside.max())),
            allowed=f"0 to {count - 1}",
        )
    half = max(1, (max(count - 1, 1).bit_length() + 1) // 2)
    keys = [
        _mix_int(seed * 0x9E3779B97F4A7C15 + epoch * _ROUNDS + r + 1)
        for r in range(_ROUNDS)
    ]
    out = inside.astype(np.uint64)
    left = np.arange(out.size)
    while left.size:
        out[left] = _network(out[left], half, keys)
        left = left[out[left] >= count]
    return out.astype(np.int64)


def _network(
    values: NDArray[np.uint64], half: int, keys: list[int]
) -> NDArray[np.uint64]:
    shift, mask = np.uint64(half), np.uint64((1 << half) - 1)
    high, low = values >> shift, values & mask
    for key in keys:
        high, low = low, high ^ (_mix(low + np.uint64(key)) & mask)
    return high << shift | low


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _mix_int(value: int) -> int:
    value &= _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
