"""One layer of the recurrent step in numpy: Fast, Mid, Slow, with few calls.

Products of one input are one product; gains and constants are folded into the weights
when they are loaded, in double precision where they are not a plain product. Each
sigmoid is a tanh of half its argument; the halves are in the weights. `continuon.hope`
is the plain form.
"""

from __future__ import annotations

from typing import Any

from continuon.edge.calls import Array
from continuon.edge.fast import Fast
from continuon.edge.mid import Mid
from continuon.edge.slow import Slow

__all__ = ["Block"]


class Block:
    """One layer's weights and state; see `Slow` for `key` and `read`."""

    def __init__(
        self,
        config: dict[str, Any],
        weights: dict[str, Array],
        *,
        key: Array,
        read: Array,
    ) -> None:
        self._fast = Fast(config, weights)
        self._mid = Mid(config, weights)
        self._slow = Slow(config, weights, key=key, read=read)

    def reset(self) -> None:
        """Set the state to zeros."""
        for part in (self._fast, self._mid, self._slow):
            part.reset()

    def fold(self, due: Array | None, keys: Array, residuals: Array) -> None:
        """Do what happens before a tick that is a multiple of `chunk`.

        Args:
            due: indices of the levels to be written; None without online writes.
            keys: of the last chunk's ticks, [C, m].
            residuals: of the same, [C, levels d].
        """
        self._fast.refresh()
        if due is not None:
            self._slow.fold(due, keys, residuals)

    def advance(self, x: Array) -> None:
        """Change x float32 [d] in place."""
        self._fast.advance(x)
        self._mid.advance(x)
        self._slow.advance(x)
