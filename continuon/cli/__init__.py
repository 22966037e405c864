"""Words: the command line. Commands are imported one at a time, when they are named."""

from continuon.cli.program import main

__all__ = ["main"]
