"""A recording process: one job a line on stdin, one answer a line on stdout."""

from __future__ import annotations

import os
import sys

import msgspec

from continuon.errors import ContinuonError
from continuon.robot.capture import Job, run_job

__all__ = ["main"]


def main() -> int:
    """Answer jobs until stdin ends; stdout carries answers only."""
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
