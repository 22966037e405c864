"""A VQ-VAE over policy images: pictures to a few whole numbers, and back.

Two stride-2 convolutions give one vector a cell; each becomes the nearest code of a
learned codebook (van den Oord et al., arXiv 1711.00937). A trained codebook is a file
with an id, the digest of its bytes: a surprise or a token that is logged with that id
can always be traced to the codes that it speaks of.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import jax
import jax.numpy as jnp
import numpy as np

from continuon.errors import ContractError
from continuon.hope.checkpoint import flatten, unflatten
from continuon.hope.parameters import Params
from continuon.tensorfile import read_kind, write_tensors

__all__ = [
    "Codebook",
    "CodebookConfig",
    "VqLosses",
    "decode",
    "init_codebook",
    "load_codebook",
    "save_codebook",
    "tokens_of",
    "vectors_of",
    "vq_losses",
]

KIND = "hope-codebook"
VERSION = 1
_COMMITMENT = 0.25
"""The paper's beta."""


@attrs.frozen(kw_only=True)
class CodebookConfig:
    """Sizes.

    Attributes:
        image_height, image_width: of the policy image, pixels; a token covers 4 x 4.
        codes: entries of the codebook. size: of each.
        channels: of the first convolution and of the decoder.
    """

    image_height: int = 30
    image_width: int = 40
    codes: int = 64
    size: int = 16
    channels: int = 16

    def __attrs_post_init__(self) -> None:
        sizes = attrs.astuple(self)
        if min(sizes) < 1:
            raise ContractError(
                "E-HOPE-VQ-001",
                "a size of the codebook is not positive",
                seen=sizes,
                allowed="1 or more",
            )

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return (-(-self.image_height // 4), -(-self.image_width // 4))


class VqLosses(NamedTuple):
    """Scalars: what is minimised, and the squared error of the picture in [0, 1]."""

    total: jax.Array
    reconstruction: jax.Array


@attrs.frozen(eq=False)
class Codebook:
    """A codebook as it was saved; `id` is the digest of its file."""

    config: CodebookConfig
    params: Params
    metadata: dict[str, Any]
    id: str


def init_codebook(seed: int, config: CodebookConfig) -> Params:
    """Return fresh float32 parameters."""
    rng = np.random.default_rng([seed, 97])

    def dense(*shape: int, gain: float = 1.0) -> jax.Array:
        scale = gain / math.sqrt(math.prod(shape[:-1]))
        return jnp.asarray(rng.standard_normal(shape) * scale, jnp.float32)

    c, size = config.channels, config.size
    return {
        "convolutions": {
            "0": {"kernel": dense(5, 5, 3, c, gain=3.0), "bias": jnp.zeros(c)},
            "1": {"kernel": dense(3, 3, c, size, gain=2.0), "bias": jnp.zeros(size)},
        },
        "codes": dense(config.codes, size, gain=math.sqrt(config.codes)),
        "patch": dense(size, 4 * 4 * 3),
        "mix": dense(3, 3, size, size, gain=0.5),
        "patch_bias": jnp.zeros(4 * 4 * 3),
    }


def vectors_of(params: Params, image: jax.Array) -> jax.Array:
    """Return one vector [B, rows, columns, size] a cell of uint8 images."""
    x = image.astype(jnp.float32) * (1.0 / 255.0) - 0.5
    for index in ("0", "1"):
        layer = params["convolutions"][index]
        x = _convolve(x, layer["kernel"], 2) + layer["bias"]
        x = jax.nn.silu(x) if index == "0" else x
    return x


def tokens_of(params: Params, image: jax.Array) -> jax.Array:
    """Return int32 [B, rows, columns]: each cell's nearest code, of uint8 images."""
    return _nearest(params, vectors_of(params, image))


def decode(params: Params, config: CodebookConfig, tokens: jax.Array) -> jax.Array:
    """Return pictures [B, h, w, 3] in [0, 1] from tokens [B, rows, columns]."""
    return _paint(params, config, params["codes"][tokens])


def vq_losses(params: Params, config: CodebookConfig, image: jax.Array) -> VqLosses:
    """Return the losses of uint8 images [B, h, w, 3].

    The picture's gradient passes straight through the choice of the code; the codes
    move to the vectors that chose them, and these, more weakly, to their codes.
    """
    vectors = vectors_of(params, image)
    chosen = params["codes"][_nearest(params, vectors)]
    straight = vectors + jax.lax.stop_gradient(chosen - vectors)
    painted = _paint(params, config, straight)
    picture = image.astype(vectors.dtype) * (1.0 / 255.0)
    reconstruction = jnp.mean(jnp.square(painted - picture))
    to_codes = jnp.mean(jnp.square(jax.lax.stop_gradient(vectors) - chosen))
    commitment = jnp.mean(jnp.square(vectors - jax.lax.stop_gradient(chosen)))
    total = 10.0 * reconstruction + to_codes + _COMMITMENT * commitment
    return VqLosses(total, reconstruction)


def save_codebook(
    path: Path, config: CodebookConfig, params: Params, *, metadata: Mapping[str, Any]
) -> str:
    """Write a codebook atomically and return its id."""
    document = {
        "kind": KIND,
        "version": VERSION,
        "config": attrs.asdict(config),
        "metadata": dict(metadata),
    }
    return write_tensors(path, flatten(params), document)


def load_codebook(path: Path) -> Codebook:
    """Read a codebook.

    Raises:
        DataError: E-TENSOR-*, or E-HOPE-VQ-002 for another kind of file.
    """
    file = read_kind(path, KIND, VERSION, code="E-HOPE-VQ-002", what="codebook")
    return Codebook(
        config=CodebookConfig(**file.document["config"]),
        params=unflatten(file.tensors),
        metadata=file.document["metadata"],
        id=file.sha256,
    )


def _nearest(params: Params, vectors: jax.Array) -> jax.Array:
    codes = params["codes"]
    far = jnp.sum(codes * codes, -1) - 2.0 * vectors @ codes.T
    return jnp.argmin(far, -1).astype(jnp.int32)


def _paint(params: Params, config: CodebookConfig, vectors: jax.Array) -> jax.Array:
    """Return a picture from one vector a cell: neighbours mixed, then a 4 x 4 patch."""
    rows, columns = config.cells
    x = vectors + jax.nn.silu(_convolve(vectors, params["mix"], 1))
    patches = x @ params["patch"] + params["patch_bias"]
    tiled = patches.reshape(-1, rows, columns, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    whole = tiled.reshape(-1, 4 * rows, 4 * columns, 3)
    cut = whole[:, : config.image_height, : config.image_width]
    painted: jax.Array = jax.nn.sigmoid(cut)
    return painted


def _convolve(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    convolved: jax.Array = jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return convolved
