"""Words: the command line. Commands are imported one at a time, when they are named."""

from continuon.cli.entry import main

__all__ = ["main"]
