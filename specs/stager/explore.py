"""Explore what power cuts can leave of a simulated device, a million states or fewer.

Every cut in every sequence of the stager's operations, and every cut in the recovery
from each: 1000 states take a second, 20000 of up to 2 operations take a few, a million
of up to 5 some minutes.
"""

from __future__ import annotations

import argparse
import sys
import time

from continuon.ota.explore import Explorer


def main(arguments: list[str]) -> int:
    """Print what was explored; return 1 if an invariant was broken."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
    parser.description = __doc__
    parser.add_argument(
        "states", metavar="STATES", type=int, nargs="?", default=1_000_000
    )
    parser.add_argument(
        "length",
        metavar="LENGTH",
        type=int,
        nargs="?",
        default=5,
        help="operations in a sequence, at most (5)",
    )
    options = parser.parse_args(arguments)
    began_s = time.perf_counter()
    found = Explorer(depth=2, max_states=options.states).run_sequences(options.length)
    took_s = time.perf_counter() - began_s
    for violation in found.violations[:10]:
        print("BAD", violation.trace, violation.what)
    print(
        f"explore: {found.points} cuts, {found.states} states, "
        f"{found.distinct} distinct, {len(found.violations)} violations, {took_s:.0f} s"
    )
    return int(bool(found.violations))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
