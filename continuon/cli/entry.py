"""Where the program starts: the short lane for what is run often, else all of it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable

from continuon.errors import ContinuonError, system_error

__all__ = ["guarded", "main", "say_error"]


def main() -> None:
    """Run the program on the command line that it was started with."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names need be no Unicode
    try:
        code = _start(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `continuon ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def guarded(
    work: Callable[[], int], report: Callable[[ContinuonError], int], *, debug: bool
) -> int:
    """Return the exit code of `work`; an error is reported once, or let through."""
    try:
        return work()
    except ContinuonError as error:
        if debug:
            raise
        return report(error)
    except OSError as error:
        if debug or isinstance(error, BrokenPipeError):
            raise
        return report(system_error(error))
    except KeyboardInterrupt:
        print("interrupted; nothing half-written is taken for whole", file=sys.stderr)
        return 130


def say_error(error: ContinuonError) -> int:
    """Print an error's one line and return its exit code."""
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def _start(argv: list[str]) -> int:
    if argv[:2] == ["bundle", "verify"]:
        from continuon.cli.verify_lane import verify_now

        code = verify_now(argv[2:], os.environ)
        if code is not None:
            return code
    from continuon.cli.program import run

    return run(argv)
