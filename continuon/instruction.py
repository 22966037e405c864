"""A written instruction as one fixed vector: hashed pieces of words, nothing learnt.

Each word and each run of three to five of its letters, ends marked, falls by a hash
into one of the buckets with a sign (the hashing trick: Weinberger et al., 2009, arXiv
0902.2206; pieces of words: Bojanowski et al., 2016, arXiv 1607.04606). So a word that
was never seen is near those it shares letters with, and no table is downloaded. What
the buckets mean is learnt by the network's `encoder/instruction`. Training and robot
call this very function; it needs numpy alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from continuon.errors import ContractError

__all__ = ["MAX_INSTRUCTION", "checked_instruction", "embed_instruction"]

MAX_INSTRUCTION = 200
"""Characters that a person may tell a robot at once, as many as an episode's task."""

_WORD = re.compile(r"\w+")
_LENGTHS = (3, 4, 5)


def checked_instruction(text: str) -> str:
    """Return what a person tells the robot, white space at its ends left out.

    "" takes back what was told before.

    Raises:
        ContractError: E-TEXT-001, it is too long; -002, it holds a character that does
            not print; -003, it has no word.
    """
    told = text.strip()
    if len(told) > MAX_INSTRUCTION:
        raise ContractError(
            "E-TEXT-001",
            "an instruction is too long",
            where="instruction",
            seen=f"{len(told)} characters",
            allowed=f"{MAX_INSTRUCTION} characters",
            hint="say it in one sentence",
        )
    unprintable = sorted({ascii(sign) for sign in told if not sign.isprintable()})
    if unprintable:
        raise ContractError(
            "E-TEXT-002",
            "an instruction holds characters that do not print",
            where="instruction",
            seen=", ".join(unprintable),
            allowed="letters, digits, signs and spaces, in one line",
            hint="type it anew",
        )
    if told and not _WORD.search(told):
        raise ContractError(
            "E-TEXT-003",
            "an instruction has no word",
            where="instruction",
            seen=told,
            allowed="at least one word",
            hint="a policy that is told no word is told nothing",
        )
    return told


def embed_instruction(text: str, size: int) -> np.ndarray[Any, Any]:
    """Return float32 [size] of length 1, or zeros for a text without words.

    It depends on the text and the size alone: the same on every machine. Case does not
    matter, the order of neighbouring words does.

    Raises:
        ContractError: E-TEXT-004, the size is below 1.
    """
    if size < 1:
        raise ContractError(
            "E-TEXT-004",
            "an instruction needs buckets",
            where="instruction_size",
            seen=size,
            allowed="at least 1",
        )
    buckets = np.zeros(size, np.float64)
    for piece in _pieces(_WORD.findall(text.casefold())):
        digest = hashlib.blake2b(piece.encode(), digest_size=8).digest()
        number = int.from_bytes(digest, "little")
        buckets[(number >> 1) % size] += 1.0 if number & 1 else -1.0
    length = float(np.linalg.norm(buckets))
    return (buckets / (length or 1.0)).astype(np.float32)


def _pieces(words: list[str]) -> Iterator[str]:
    for word in words:
        marked = f"<{word}>"
        yield marked
        for length in _LENGTHS:
            for start in range(len(marked) - length + 1):
                if length < len(marked):
                    yield marked[start : start + length]
    for first, second in pairwise(words):
        yield f"<{first} {second}>"
