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
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from continuon.ota.store import Space

__all__ = ["CutError", "SimDisk", "Tree"]

Tree = tuple[tuple[str, Any], ...]
"""A directory: sorted (name, bytes or Tree) pairs, hashable."""

MAX_EXHAUSTIVE = 12


class CutError(Exception):
    """The power went away."""


class _Folder:
    __slots__ = ("durable", "pending", "visible")

    def __init__(self) -> None:
        self.visible: dict[str, int] = {}
        self.durable: dict[str, int] = {}
        self.pending: list[_Operation] = []

    def clone(self) -> _Folder:
        copy = _Folder()
        copy.visible = dict(self.visible)
        copy.durable = dict(self.durable)
        copy.pending = list(self.pending)
        return copy


class _File:
    __slots__ = ("durable", "visible")

    def __init__(self, data: bytes) -> None:
        self.visible = data
        self.durable = data

    def clone(self) -> _File:
        copy = _File(self.durable)
        copy.visible = self.visible
        return copy


class _Operation:
    """One atomic change of names: (folder, name, new node or None) each."""

    __slots__ = ("changes", "order")

    def __init__(
        self, order: int, changes: tuple[tuple[int, str, int | None], ...]
    ) -> None:
        self.order = order
        self.changes = changes


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
        self._nodes: dict[int, _Folder | _File] = {0: _Folder()}
        self._next = 1
        self._plant(0, tree)

    def clone(self) -> SimDisk:
        """Return an independent copy, with all that is not yet durable."""
        copy = SimDisk(outside=self.outside, skip=self.skip, free_bytes=self.free_bytes)
        copy.count = self.count
        copy.log = list(self.log)
        copy._next = self._next
        copy._nodes = {number: node.clone() for number, node in self._nodes.items()}
        return copy

    # -- the Store protocol

    def make_directory(self, path: str) -> None:
        """See `Store`."""
        self._before("make_directory", path, writes=True)
        folder, name = self._parent(path)
        if name not in self._folder(folder).visible:
            self._link(folder, name, self._new(_Folder()))
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
        node = self._nodes[self._find(path)]
        assert isinstance(node, _File)
        node.durable = node.visible
        self._after()

    def sync_directory(self, path: str) -> None:
        """See `Store`."""
        if self._skipped("sync_directory", path):
            return
        self._before("sync_directory", path)
        for operation in list(self._folder(self._find(path)).pending):
            self._settle(operation)
        self._after()

    def sync_all(self, why: str) -> None:
        """See `Store`."""
        if self._skipped("sync_all", why):
            return
        self._before("sync_all", why)
        for node in self._nodes.values():
            if isinstance(node, _File):
                node.durable = node.visible
            else:
                node.durable = dict(node.visible)
                node.pending = []
        self._after()

    def rename(self, source: str, path: str) -> None:
        """See `Store`."""
        self._before("rename", path)
        old_folder, old_name = self._parent(source)
        new_folder, new_name = self._parent(path)
        node = self._folder(old_folder).visible[old_name]
        changes = ((old_folder, old_name, None), (new_folder, new_name, node))
        self._change(changes)
        self._after()

    def remove(self, path: str) -> None:
        """See `Store`; a tree goes name by name, innermost first."""
        if not self.exists(path):
            return
        node = self._nodes[self._find(path)]
        if isinstance(node, _Folder):
            for name in sorted(node.visible):
                self.remove(f"{path}/{name}")
        self._before("remove", path)
        folder, name = self._parent(path)
        self._change(((folder, name, None),))
        self._after()

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """See `Store`."""
        node = self._nodes[self._find(path)]
        if not isinstance(node, _File):
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        return node.visible[:max_bytes]

    def entries(self, path: str) -> list[str]:
        """See `Store`."""
        if not self.exists(path):
            return []
        node = self._nodes[self._find(path)]
        return sorted(node.visible) if isinstance(node, _Folder) else []

    def exists(self, path: str) -> bool:
        """See `Store`."""
        try:
            self._find(path)
        except FileNotFoundError:
            return False
        return True

    def tree_bytes(self, path: str) -> int:
        """See `Store`."""
        if not self.exists(path):
            return 0
        node = self._nodes[self._find(path)]
        if isinstance(node, _File):
            return len(node.visible)
        return sum(self.tree_bytes(f"{path}/{name}") for name in node.visible)

    def space(self) -> Space:
        """See `Store`."""
        return Space(self.free_bytes, 1 << 41)

    # -- what a power cut leaves

    def crash_states(self) -> Iterator[Tree]:
        """Yield each distinct tree that may be found after a cut right now.

        All subsets of up to twelve pending operations; of more, all prefixes and all
        that differ from everything or from nothing by one.
        """
        pending = sorted(
            {
                operation
                for node in self._nodes.values()
                if isinstance(node, _Folder)
                for operation in node.pending
            },
            key=lambda operation: operation.order,
        )
        seen: set[Tree] = set()
        still = self._still()
        for mask in _masks(len(pending)):
            names = {
                number: dict(node.durable)
                for number, node in self._nodes.items()
                if isinstance(node, _Folder)
            }
            for kept, operation in zip(mask, pending, strict=True):
                if kept:
                    for folder, name, node in operation.changes:
                        if node is None:
                            names[folder].pop(name, None)
                        else:
                            names[folder][name] = node
            yield from self._with_contents(names, seen, still)

    def _still(self) -> dict[int, Any]:
        """Return the frozen form of every node below which nothing is in flight."""
        still: dict[int, Any] = {}

        def settle(number: int) -> bool:
            node = self._nodes[number]
            if isinstance(node, _File):
                if node.visible == node.durable:
                    still[number] = node.durable
                    return True
                return False
            children = [settle(child) for child in node.visible.values()]
            if node.pending or not all(children):
                return False
            entries = sorted(node.visible.items())
            still[number] = tuple((name, still[child]) for name, child in entries)
            return True

        settle(0)
        return still

    def _with_contents(
        self,
        names: dict[int, dict[str, int]],
        seen: set[Tree],
        still: Mapping[int, Any],
    ) -> Iterator[Tree]:
        reached: set[int] = set()
        dirty: list[int] = []
        stack = [0]
        while stack:
            number = stack.pop()
            if number in reached or number in still:
                continue
            reached.add(number)
            node = self._nodes[number]
            if isinstance(node, _Folder):
                stack.extend(names[number].values())
            elif node.visible != node.durable:
                dirty.append(number)
        options = [_torn(self._file(number)) for number in dirty]
        for choice in itertools.product(*options):
            contents = {**still, **dict(zip(dirty, choice, strict=True))}
            tree = self._freeze(0, names, contents)
            if tree not in seen:
                seen.add(tree)
                yield tree

    def freeze(self) -> Tree:
        """Return the visible tree, what a clean shutdown leaves."""
        names = {
            number: node.visible
            for number, node in self._nodes.items()
            if isinstance(node, _Folder)
        }
        files = {
            number: node.visible
            for number, node in self._nodes.items()
            if isinstance(node, _File)
        }
        tree: Tree = self._freeze(0, names, files)
        return tree

    def _freeze(
        self,
        number: int,
        names: Mapping[int, dict[str, int]],
        contents: Mapping[int, Any],
    ) -> Any:
        if number in contents:
            return contents[number]
        node = self._nodes[number]
        if isinstance(node, _File):
            return node.durable
        entries = sorted(names[number].items())
        return tuple(
            (name, self._freeze(child, names, contents)) for name, child in entries
        )

    # -- inside

    def _plant(self, folder: int, tree: Tree) -> None:
        node = self._folder(folder)
        for name, value in tree:
            leaf = isinstance(value, bytes)
            child = self._new(_File(value) if leaf else _Folder())
            node.visible[name] = child
            if not leaf:
                self._plant(child, value)
        node.durable = dict(node.visible)

    def _new(self, node: _Folder | _File) -> int:
        number, self._next = self._next, self._next + 1
        self._nodes[number] = node
        return number

    def _create(self, path: str) -> _File:
        self._before("create", path, writes=True)
        folder, name = self._parent(path)
        number = self._folder(folder).visible.get(name)
        if number is None:
            number = self._new(_File(b""))
            self._link(folder, name, number)
        node = self._file(number)
        node.visible = b""
        self._after()
        return node

    def _link(self, folder: int, name: str, node: int) -> None:
        self._change(((folder, name, node),))

    def _change(self, changes: tuple[tuple[int, str, int | None], ...]) -> None:
        operation = _Operation(self.count, changes)
        for folder, name, node in changes:
            visible = self._folder(folder).visible
            if node is None:
                visible.pop(name, None)
            else:
                visible[name] = node
        for folder in {change[0] for change in changes}:
            self._folder(folder).pending.append(operation)

    def _settle(self, operation: _Operation) -> None:
        for folder, name, node in operation.changes:
            holder = self._folder(folder)
            if node is None:
                holder.durable.pop(name, None)
            else:
                holder.durable[name] = node
            if operation in holder.pending:
                holder.pending.remove(operation)

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

    def _find(self, path: str) -> int:
        number = 0
        for name in path.split("/") if path else ():
            node = self._nodes[number]
            if not isinstance(node, _Folder) or name not in node.visible:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            number = node.visible[name]
        return number

    def _parent(self, path: str) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        return self._find(folder), name

    def _folder(self, number: int) -> _Folder:
        node = self._nodes[number]
        assert isinstance(node, _Folder)
        return node

    def _file(self, number: int) -> _File:
        node = self._nodes[number]
        assert isinstance(node, _File)
        return node


@functools.lru_cache(maxsize=4096)
def label(path: str) -> str:
    """Return a path with bundle ids written as `ID`: one name for one place in code."""
    return "/".join("ID" if len(part) == 64 else part for part in path.split("/"))


def _torn(file: _File) -> tuple[bytes, ...]:
    full = file.visible
    found = (b"", file.durable, full[: len(full) // 2], bytes(len(full)), full)
    return tuple(dict.fromkeys(found))


def _masks(count: int) -> Iterator[tuple[int, ...]]:
    if count <= MAX_EXHAUSTIVE:
        yield from itertools.product((0, 1), repeat=count)
        return
    for kept in range(count + 1):
        yield tuple([1] * kept + [0] * (count - kept))
    for odd in range(count):
        yield tuple(int(index != odd) for index in range(count))
        yield tuple(int(index == odd) for index in range(count))
