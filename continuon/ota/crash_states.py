"""What a power cut may leave of a simulated disk, and what a clean shutdown leaves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from continuon.ota.simfs_nodes import File, Folder, Nodes, Tree

__all__ = ["crash_states", "freeze"]

MAX_EXHAUSTIVE = 12


def crash_states(nodes: Nodes) -> Iterator[Tree]:
    """Yield each distinct tree that may be found after a cut right now.

    All subsets of up to twelve pending operations; of more, all prefixes and all that
    differ from everything or from nothing by one.
    """
    folders = nodes.folders()
    operations = {item for folder in folders.values() for item in folder.pending}
    pending = sorted(operations, key=lambda item: item.order)
    seen: set[Tree] = set()
    still = _still(nodes)
    for mask in _masks(len(pending)):
        names = {number: dict(folder.durable) for number, folder in folders.items()}
        for kept, operation in zip(mask, pending, strict=True):
            if kept:
                for number, name, node in operation.changes:
                    if node is None:
                        names[number].pop(name, None)
                    else:
                        names[number][name] = node
        for tree in _with_contents(nodes, names, still):
            if tree not in seen:
                seen.add(tree)
                yield tree


def freeze(nodes: Nodes) -> Tree:
    """Return the visible tree, what a clean shutdown leaves."""
    names = {number: folder.visible for number, folder in nodes.folders().items()}
    contents = {number: file.visible for number, file in nodes.files().items()}
    tree: Tree = _freeze(nodes, 0, names, contents)
    return tree


def _still(nodes: Nodes) -> dict[int, Any]:
    """Return the frozen form of every node below which nothing is in flight."""
    still: dict[int, Any] = {}

    def settle(number: int) -> bool:
        node = nodes.by_number[number]
        if isinstance(node, File):
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
    nodes: Nodes, names: Mapping[int, dict[str, int]], still: Mapping[int, Any]
) -> Iterator[Tree]:
    """Yield the trees with these names and every torn form of the unflushed files."""
    reached: set[int] = set()
    dirty: list[int] = []
    stack = [0]
    while stack:
        number = stack.pop()
        if number in reached or number in still:
            continue
        reached.add(number)
        node = nodes.by_number[number]
        if isinstance(node, Folder):
            stack.extend(names[number].values())
        elif node.visible != node.durable:
            dirty.append(number)
    options = [_torn(nodes.file(number)) for number in dirty]
    for choice in itertools.product(*options):
        contents = {**still, **dict(zip(dirty, choice, strict=True))}
        yield _freeze(nodes, 0, names, contents)


def _freeze(
    nodes: Nodes,
    number: int,
    names: Mapping[int, dict[str, int]],
    contents: Mapping[int, Any],
) -> Any:
    if number in contents:
        return contents[number]
    node = nodes.by_number[number]
    if isinstance(node, File):
        return node.durable
    return tuple(
        (name, _freeze(nodes, child, names, contents))
        for name, child in sorted(names[number].items())
    )


def _torn(file: File) -> tuple[bytes, ...]:
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
