"""The process that runs one phase: its memory is its own, and its death is seen.

Its arguments are the phase, a context as JSON, and its parent's process id. It writes
one JSON object a line to the standard output that it was started with: progress, then
an outcome or an error. What the phase's libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any, TextIO

import msgspec

from continuon.errors import ContinuonError, system_error
from continuon.parent import die_with_parent
from continuon.pipeline.context import Context
from continuon.pipeline.phase import load_phase

__all__ = ["main"]


def main() -> int:
    """Run the phase named on the command line."""
    wire = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    context = decode_context(sys.argv[2].encode())

    def progress(done: int, total: int, label: str) -> None:
        wire.write(json.dumps({"progress": [done, total, label]}) + "\n")

    die_with_parent(int(sys.argv[3]))
    try:
        outcome = load_phase(sys.argv[1]).run(context, progress)
    except ContinuonError as error:
        return _refuse(wire, error)
    except OSError as error:
        return _refuse(wire, system_error(error))
    message = {
        "figures": msgspec.to_builtins(dict(outcome.figures), enc_hook=_plain),
        "outputs": [str(path) for path in outcome.outputs],
        "origin": outcome.origin,
        "notes": list(outcome.notes),
        "peak_memory_bytes": peak_memory_bytes(),
    }
    wire.write(json.dumps({"outcome": message}) + "\n")
    return 0


def _refuse(wire: TextIO, error: ContinuonError) -> int:
    wire.write(json.dumps({"error": error.as_dict()}) + "\n")
    return error.exit_code


def decode_context(data: bytes) -> Context:
    """Return the context that the parent wrote."""
    return msgspec.json.decode(
        data, type=Context, dec_hook=lambda kind, value: kind(value)
    )


def peak_memory_bytes() -> int:
    """Return the largest resident set of this process or of any child it waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
