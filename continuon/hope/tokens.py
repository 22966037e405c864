"""A codebook's tokens as a sense: which network they fit, and how pictures become them.

A token is a number that means something in one codebook alone. A network's config
holds that codebook's id, so that another one, of the same size but trained anew, is
refused and not misread.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from continuon.errors import ContractError
from continuon.hope.codebook import Codebook, tokens_of
from continuon.hope.config import HopeConfig

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["observed_tokens", "token_fields"]


def token_fields(codebook: Codebook) -> dict[str, Any]:
    """Return the fields of a `HopeConfig` that is to be told this codebook's tokens."""
    return {
        "token_places": math.prod(codebook.config.cells),
        "token_codes": codebook.config.codes,
        "codebook_id": codebook.id,
    }


def observed_tokens(
    config: HopeConfig, codebook: Codebook, images: ArrayLike
) -> jax.Array:
    """Return the `tokens` of an observation, int32 [..., N], rows first.

    Args:
        config: of the network that is told them.
        codebook: the one that the config names.
        images: uint8 [..., h, w, 3] of the codebook's size: [B, T, h, w, 3] for
            `sequence`, [B, h, w, 3] for `step`.

    Raises:
        ContractError: E-HOPE-TOKENS-001, the network is told no tokens; -002, those of
            another codebook; -003, wrong pictures.
    """
    _check_codebook(config, codebook)
    pictures = np.asarray(images)
    shape = (codebook.config.image_height, codebook.config.image_width, 3)
    if pictures.dtype != np.uint8 or pictures.shape[-3:] != shape:
        raise ContractError(
            "E-HOPE-TOKENS-003",
            "these are no pictures that the codebook can read",
            where="images",
            seen=f"{pictures.dtype}{list(pictures.shape)}",
            allowed=f"uint8[..., {shape[0]}, {shape[1]}, {shape[2]}]",
        )
    tokens = tokens_of(codebook.params, jax.numpy.asarray(pictures.reshape(-1, *shape)))
    return tokens.reshape((*pictures.shape[:-3], config.token_places))


def _check_codebook(config: HopeConfig, codebook: Codebook) -> None:
    if not config.has_tokens:
        raise ContractError(
            "E-HOPE-TOKENS-001",
            "the network is told no tokens",
            where="token_places",
            seen=0,
            allowed="a network made for tokens",
            hint="make its config with continuon.hope.token_fields",
        )
    fields = token_fields(codebook)
    seen = {name: getattr(config, name) for name in fields}
    if fields != seen:
        raise ContractError(
            "E-HOPE-TOKENS-002",
            "the codebook is not the one that the network learnt to read",
            where="codebook_id",
            seen=fields,
            allowed=seen,
            hint="load the codebook of that id; with another, train the network anew",
        )
