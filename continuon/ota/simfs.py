"""A store that tells what a power cut could leave behind.

It is weaker than what Linux filesystems promise by default, close to POSIX:

* a write changes only what is visible; `sync_file` makes bytes durable, not names;
* making, renaming and removing names are pending operations of the directories they
  touch (one operation on both for a rename across directories) until
  `sync_directory`;
* at a cut any subset of the pending operations may have reached the medium, in order,
  and a file whose bytes were not flushed holds nothing, zeros, the first half, the old
  or the new bytes;
* `sync_all` makes everything durable.

Source of the model: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterator, Mapping

from continuon.ota.crash_states import crash_states, freeze
from continuon.ota.simfs_nodes import File, Folder, Nodes, Tree
from continuon.ota.store import Space

__all__ = ["CutError", "SimDisk", "Tree"]


class CutError(Exception):
    """The power went away."""


class SimDisk:
    """A `Store` in memory, with volatile and durable state.

    `skip` names flushes that are left out, as `(kind, path)` with bundle ids written as
    `ID`: the mutants. `fail_at` maps an operation's number to the errno that it raises
    once; `full_from` makes every later write fail for want of space.
    """

    def __init__(
        self,
        tree: Tree = (),
        *,
        outside: Mapping[str, bytes] | None = None,
        skip: frozenset[tuple[str, str]] = frozenset(),
        free_bytes: int = 1 << 40,
    ) -> None:
        self.outside = outside or {}
        self.skip = skip
        self.free_bytes = free_bytes
        self.count = 0
        self.log: list[tuple[str, str]] = []
        self.hook: Callable[[SimDisk], None] | None = None
        self.cut_after: int | None = None
        self.full_from: int | None = None
        self.fail_at: dict[int, int] = {}
        self._nodes = Nodes(tree)

    def clone(self) -> SimDisk:
        """Return an independent copy, with all that is not yet durable."""
        copy = SimDisk(outside=self.outside, skip=self.skip, free_bytes=self.free_bytes)
        copy.count = self.count
        copy.log = list(self.log)
        copy._nodes = self._nodes.clone()
        return copy

    def make_directory(self, path: str) -> None:
        """See `Store`."""
        self._before("make_directory", path, writes=True)
        folder, name = self._nodes.parent(path)
        if name not in self._nodes.folder(folder).visible:
            self._change((folder, name, self._nodes.new(Folder())))
        self._after()

    def write(self, path: str, data: bytes) -> None:
        """See `Store`. The file exists empty, then half, before it is whole."""
        node = self._create(path)
        half = len(data) // 2
        for part in (data[:half], data) if half else (data,):
            self._before("write", path, writes=True)
            node.visible = part
            self._after()

    def copy_in(self, source: str, path: str) -> None:
        """See `Store`; sources are the keys of `outside`."""
        self.write(path, self.outside[source])

    def sync_file(self, path: str) -> None:
        """See `Store`."""
        if self._skipped("sync_file", path):
            return
        self._before("sync_file", path)
        node = self._nodes.file(self._nodes.find(path))
        node.durable = node.visible
        self._after()

    def sync_directory(self, path: str) -> None:
        """See `Store`."""
        if self._skipped("sync_directory", path):
            return
        self._before("sync_directory", path)
        for operation in list(self._nodes.folder(self._nodes.find(path)).pending):
            self._nodes.settle(operation)
        self._after()

    def sync_all(self, why: str) -> None:
        """See `Store`."""
        if self._skipped("sync_all", why):
            return
        self._before("sync_all", why)
        self._nodes.settle_all()
        self._after()

    def rename(self, source: str, path: str) -> None:
        """See `Store`."""
        self._before("rename", path)
        old_folder, old_name = self._nodes.parent(source)
        new_folder, new_name = self._nodes.parent(path)
        node = self._nodes.folder(old_folder).visible[old_name]
        self._change((old_folder, old_name, None), (new_folder, new_name, node))
        self._after()

    def remove(self, path: str) -> None:
        """See `Store`; a tree goes name by name, innermost first."""
        if not self.exists(path):
            return
        node = self._nodes.by_number[self._nodes.find(path)]
        if isinstance(node, Folder):
            for name in sorted(node.visible):
                self.remove(f"{path}/{name}")
        self._before("remove", path)
        folder, name = self._nodes.parent(path)
        self._change((folder, name, None))
        self._after()

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """See `Store`."""
        node = self._nodes.by_number[self._nodes.find(path)]
        if not isinstance(node, File):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return node.visible[:max_bytes]

    def entries(self, path: str) -> list[str]:
        """See `Store`."""
        if not self.exists(path):
            return []
        node = self._nodes.by_number[self._nodes.find(path)]
        return sorted(node.visible) if isinstance(node, Folder) else []

    def exists(self, path: str) -> bool:
        """See `Store`."""
        try:
            self._nodes.find(path)
        except FileNotFoundError:
            return False
        return True

    def tree_bytes(self, path: str) -> int:
        """See `Store`."""
        if not self.exists(path):
            return 0
        node = self._nodes.by_number[self._nodes.find(path)]
        if isinstance(node, File):
            return len(node.visible)
        return sum(self.tree_bytes(f"{path}/{name}") for name in node.visible)

    def space(self) -> Space:
        """See `Store`."""
        return Space(self.free_bytes, 1 << 41)

    def crash_states(self) -> Iterator[Tree]:
        """Yield each distinct tree that may be found after a cut right now.

        All subsets of up to twelve pending operations; of more, all prefixes and all
        that differ from everything or from nothing by one.
        """
        return crash_states(self._nodes)

    def freeze(self) -> Tree:
        """Return the visible tree, what a clean shutdown leaves."""
        return freeze(self._nodes)

    def _create(self, path: str) -> File:
        self._before("create", path, writes=True)
        folder, name = self._nodes.parent(path)
        number = self._nodes.folder(folder).visible.get(name)
        if number is None:
            number = self._nodes.new(File(b""))
            self._change((folder, name, number))
        node = self._nodes.file(number)
        node.visible = b""
        self._after()
        return node

    def _change(self, *changes: tuple[int, str, int | None]) -> None:
        self._nodes.change(self.count, *changes)

    def _before(self, kind: str, path: str, *, writes: bool = False) -> None:
        number = self.fail_at.pop(self.count, None)
        if number is not None:
            raise OSError(number, "injected", path)
        if writes and self.full_from is not None and self.count >= self.full_from:
            raise OSError(errno.ENOSPC, "no space left on device", path)
        self.count += 1
        self.log.append((kind, label(path)))

    def _after(self) -> None:
        if self.hook is not None:
            self.hook(self)
        if self.cut_after is not None and self.count >= self.cut_after:
            raise CutError

    def _skipped(self, kind: str, path: str) -> bool:
        return (kind, label(path)) in self.skip


@functools.lru_cache(maxsize=4096)
def label(path: str) -> str:
    """Return a path with bundle ids written as `ID`: one name for one place in code."""
    return "/".join("ID" if len(part) == 64 else part for part in path.split("/"))
