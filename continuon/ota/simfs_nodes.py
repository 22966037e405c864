"""Folders and files of a simulated disk, each with what is seen and what is durable."""

from __future__ import annotations

import errno
from typing import Any

__all__ = ["File", "Folder", "Nodes", "Operation", "Tree"]

Tree = tuple[tuple[str, Any], ...]
"""A directory: sorted (name, bytes or Tree) pairs, hashable."""


class Folder:
    """Names as seen now, names on the medium, and the changes between the two."""

    __slots__ = ("durable", "pending", "visible")

    def __init__(self) -> None:
        self.visible: dict[str, int] = {}
        self.durable: dict[str, int] = {}
        self.pending: list[Operation] = []

    def clone(self) -> Folder:
        """Return an independent copy."""
        copy = Folder()
        copy.visible = dict(self.visible)
        copy.durable = dict(self.durable)
        copy.pending = list(self.pending)
        return copy


class File:
    """Bytes as seen now and bytes on the medium."""

    __slots__ = ("durable", "visible")

    def __init__(self, data: bytes) -> None:
        self.visible = data
        self.durable = data

    def clone(self) -> File:
        """Return an independent copy."""
        copy = File(self.durable)
        copy.visible = self.visible
        return copy


class Operation:
    """One atomic change of names: (folder, name, new node or None) each."""

    __slots__ = ("changes", "order")

    def __init__(
        self, order: int, changes: tuple[tuple[int, str, int | None], ...]
    ) -> None:
        self.order = order
        self.changes = changes


class Nodes:
    """All nodes by number; 0 is the root. Paths are those of `Store`."""

    def __init__(self, tree: Tree = ()) -> None:
        self.by_number: dict[int, Folder | File] = {0: Folder()}
        self._next = 1
        self._plant(0, tree)

    def clone(self) -> Nodes:
        """Return an independent copy, with all that is not yet durable."""
        copy = Nodes()
        copy._next = self._next
        copy.by_number = {n: node.clone() for n, node in self.by_number.items()}
        return copy

    def folders(self) -> dict[int, Folder]:
        """Return the folders by number."""
        found = self.by_number.items()
        return {number: node for number, node in found if isinstance(node, Folder)}

    def files(self) -> dict[int, File]:
        """Return the files by number."""
        found = self.by_number.items()
        return {number: node for number, node in found if isinstance(node, File)}

    def find(self, path: str) -> int:
        """Return the number of what is visible at a path.

        Raises:
            FileNotFoundError: nothing is.
        """
        number = 0
        for name in path.split("/") if path else ():
            node = self.by_number[number]
            found = node.visible.get(name) if isinstance(node, Folder) else None
            if found is None:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            number = found
        return number

    def parent(self, path: str) -> tuple[int, str]:
        """Return the number of a path's folder and the name in it."""
        folder, _, name = path.rpartition("/")
        return self.find(folder), name

    def folder(self, number: int) -> Folder:
        """Return a node that is a folder."""
        node = self.by_number[number]
        assert isinstance(node, Folder)
        return node

    def file(self, number: int) -> File:
        """Return a node that is a file."""
        node = self.by_number[number]
        assert isinstance(node, File)
        return node

    def new(self, node: Folder | File) -> int:
        """Add a node without a name; return its number."""
        number, self._next = self._next, self._next + 1
        self.by_number[number] = node
        return number

    def change(self, order: int, *changes: tuple[int, str, int | None]) -> None:
        """Change names visibly; the change is pending in every folder it touches."""
        operation = Operation(order, changes)
        for folder, name, node in changes:
            visible = self.folder(folder).visible
            if node is None:
                visible.pop(name, None)
            else:
                visible[name] = node
        for folder in {change[0] for change in changes}:
            self.folder(folder).pending.append(operation)

    def settle(self, operation: Operation) -> None:
        """Make one pending change durable, in every folder it touches."""
        for folder, name, node in operation.changes:
            holder = self.folder(folder)
            if node is None:
                holder.durable.pop(name, None)
            else:
                holder.durable[name] = node
            if operation in holder.pending:
                holder.pending.remove(operation)

    def settle_all(self) -> None:
        """Make everything durable."""
        for file in self.files().values():
            file.durable = file.visible
        for folder in self.folders().values():
            folder.durable = dict(folder.visible)
            folder.pending = []

    def _plant(self, folder: int, tree: Tree) -> None:
        node = self.folder(folder)
        for name, value in tree:
            leaf = isinstance(value, bytes)
            child = self.new(File(value) if leaf else Folder())
            node.visible[name] = child
            if not leaf:
                self._plant(child, value)
        node.durable = dict(node.visible)
