"""A written instruction as one fixed vector: hashed pieces of words, nothing learnt.

Each word and each run of three to five of its letters, ends marked, falls by a hash
into one of the buckets with a sign (the hashing trick: Weinberger et al., 2009, arXiv
0902.2206; pieces of words: Bojanowski et al., 2016, arXiv 1607.04606). So a word that
was never seen is near those it shares letters with, and no table is downloaded. What
the buckets mean is learnt by the network's `encoder/instruction`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from continuon.errors import ContractError

__all__ = ["embed_instruction"]

_WORD = re.compile(r"\w+")
_LENGTHS = (3, 4, 5)


def embed_instruction(text: str, size: int) -> np.ndarray[Any, Any]:
    """Return float32 [size] of length 1, or zeros for a text without words.

    It depends on the text and the size alone: the same on every machine. Case does not
    matter, the order of neighbouring words does.

    Raises:
        ContractError: E-HOPE-TEXT-001, the size is below 1.
    """
    if size < 1:
        raise ContractError(
            "E-HOPE-TEXT-001",
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
