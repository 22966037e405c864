"""A recording process: one job a line on stdin, one answer a line on stdout.

Its argument is its parent's process id: it ends with it, in the middle of an episode
too, whose file then is a torn one that can be recovered.
"""

from __future__ import annotations

import os
import sys

import msgspec

from continuon.errors import ContinuonError
from continuon.parent import die_with_parent
from continuon.robot.capture import Job, run_job

__all__ = ["main"]


def main() -> int:
    """Answer jobs until stdin ends; stdout carries answers only."""
    die_with_parent(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        job = msgspec.json.decode(line, type=Job)
        try:
            answer = {"episode": run_job(job).as_dict()}
        except ContinuonError as error:
            answer = {"error": error.as_dict()}
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
