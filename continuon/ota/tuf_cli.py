"""A TUF client with the command line of the public conformance suite.

    CLIENT --metadata-dir D init ROOT
    CLIENT --metadata-url U --metadata-dir D refresh
    CLIENT --metadata-url U --metadata-dir D --target-name N [--target-name N2]
           --target-dir T --target-base-url B download

Exit status 0 for success and 1 for anything else, a usage error included.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from continuon.errors import MissingPackageError
from continuon.ota.metadata_io import MetadataDirectory

__all__ = ["main"]

_MAX_NAME_CHARACTERS = 240
"""Ordinary filesystems end at 255; the suffix of a part must fit as well."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with 1, the suite's only failure."""
        self.exit(1, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return 0 or 1."""
    options = _parse(arguments)
    try:
        from tuf.api.exceptions import DownloadError, RepositoryError
    except ImportError:
        missing = MissingPackageError.for_extra("tuf", "ota", purpose="the TUF client")
        print(f"error: {missing}", file=sys.stderr)
        return 1
    try:
        if options.command == "init":
            _init(Path(options.metadata_dir), Path(options.root))
        else:
            _update(options)
    except (DownloadError, RepositoryError, OSError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="continuon tuf")
    parser.add_argument("--metadata-url")
    parser.add_argument("--metadata-dir", required=True)
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir")
    parser.add_argument("--target-base-url")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root")
    commands.add_parser("refresh")
    commands.add_parser("download")
    options = parser.parse_args(arguments)
    if options.command != "init" and not options.metadata_url:
        parser.error("--metadata-url is needed")
    needed = (options.target_name, options.target_dir, options.target_base_url)
    if options.command == "download" and not all(needed):
        parser.error("--target-name, --target-dir and --target-base-url are needed")
    return options


def _init(directory: Path, root: Path) -> None:
    from tuf.api.metadata import Metadata

    data = root.read_bytes()
    metadata = Metadata.from_bytes(data)
    if metadata.signed.type != "root":
        msg = f"{root} holds {metadata.signed.type} metadata, not root metadata"
        raise ValueError(msg)
    metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    with MetadataDirectory(directory).working_copy() as copy:
        # What else is trusted stays: it keeps a repository from going back, also after
        # a second `init`, and does not count where the given root leads elsewhere.
        history = copy / "root_history"
        if history.is_dir():
            shutil.rmtree(history)
        (copy / "root.json").write_bytes(data)


def _update(options: argparse.Namespace) -> None:
    from tuf.ngclient.updater import Updater

    with MetadataDirectory(Path(options.metadata_dir)).working_copy() as copy:
        updater = Updater(
            str(copy),
            options.metadata_url,
            options.target_dir,
            options.target_base_url,
            bootstrap=None,
        )
        updater.refresh()
        for name in options.target_name if options.command == "download" else ():
            target = updater.get_targetinfo(name)
            if target is None:
                msg = f"there is no target {name!r}"
                raise ValueError(msg)
            final = Path(options.target_dir, _file_name(target.path))
            if updater.find_cached_target(target, str(final)) is None:
                part = final.with_name(f"{final.name}.part")
                updater.download_target(target, str(part))
                part.replace(final)


def _file_name(target: str) -> str:
    """Return one plain file name for a target, whatever its path holds."""
    name = quote(target, safe="")
    if name in {".", ".."} or len(name) > _MAX_NAME_CHARACTERS:
        return hashlib.sha256(target.encode("utf-8")).hexdigest()
    return name


if __name__ == "__main__":
    sys.exit(main())
