"""Explore a million states of a power cut, or as many as asked for.

python -m continuon._specs.stager.explore [STATES] [LENGTH]
"""

from __future__ import annotations

import sys
import time

from continuon.ota.explore import Explorer


def main(states: int, length: int) -> int:
    """Print what was explored; return 1 if an invariant was broken."""
    began_s = time.perf_counter()
    found = Explorer(depth=2, max_states=states).run_sequences(length)
    took_s = time.perf_counter() - began_s
    print(
        f"{found.points} cuts, {found.states} states, {found.distinct} distinct, "
        f"{len(found.violations)} violations, {took_s:.0f} s"
    )
    for violation in found.violations[:10]:
        print("  ", violation.trace, violation.what)
    return int(bool(found.violations))


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    sys.exit(main(*(numbers + [1_000_000, 5][len(numbers) :])))
