"""The features of our TFDS directory, and the JSON by which TFDS knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import numpy as np

from continuon.rlds.depth_codecs import depth_pngs, depth_size
from continuon.rlds.episode import (
    Codec,
    StreamSpec,
    metadata_to_json,
    streams_to_json,
)
from continuon.rlds.example import Feature
from continuon.rlds.images import colour_size
from continuon.rlds.png_file import is_png
from continuon.rlds.raw_depth import counts_of
from continuon.rlds.recording import buffers
from continuon.rlds.steps import EpisodeSteps

__all__ = ["EpisodeShape", "episode_features", "features_json", "shape_of"]

_P = "tensorflow_datasets.core.features."

EpisodeShape = Mapping[str, Any]
"""What all episodes of a data set share: sizes and names, plain JSON values."""


def shape_of(steps: EpisodeSteps, *, depth_form: str = "png") -> EpisodeShape:
    """Return what other episodes must share to stand in one data set.

    `depth_form` is `png`, or `raw` for bare counts: see `continuon.rlds.raw_depth`.
    """
    depth = None if steps.depth is None else list(depth_size(steps.depth[0]))
    return {
        "rgb_size": list(colour_size(steps.image[0])),
        "rgb_format": "png" if is_png(steps.image[0]) else "jpeg",
        "depth_size": depth,
        "depth_form": depth_form,
        "state_names": list(steps.state_names),
        "action_names": list(steps.action_names),
        "skew_names": sorted(steps.skew_ns),
    }


def features_json(shape: EpisodeShape) -> dict[str, Any]:
    """Return the content of `features.json`."""
    width, height = shape["rgb_size"]
    observation = {
        "image": _image("uint8", shape["rgb_format"], (height, width, 3)),
        "state": _tensor("float32", (len(shape["state_names"]),)),
        "stamp_ns": _tensor("int64"),
    }
    if shape["depth_size"] is not None:
        width, height = shape["depth_size"]
        raw = shape["depth_form"] == "raw"
        size = (height, width, 1)
        observation["depth"] = (
            _tensor("uint16", size, encoding="bytes")
            if raw
            else _image("uint16", "png", size)
        )
    if not shape["state_names"]:
        del observation["state"]
    step = {
        "observation": _dict(observation),
        "action": _tensor("float32", (len(shape["action_names"]),)),
        "skew_ns": _dict({name: _tensor("int64") for name in shape["skew_names"]}),
        "valid": _tensor("bool"),
        "reward": _tensor("float32"),
        "discount": _tensor("float32"),
        "is_first": _tensor("bool"),
        "is_last": _tensor("bool"),
        "is_terminal": _tensor("bool"),
        "language_instruction": _text(),
    }
    if not shape["skew_names"]:
        del step["skew_ns"]
    episode = {
        "episode_id": _text(),
        "origin": _text(),
        "metadata_json": _text(),
        "streams_json": _text(),
        "end_reason": _text(),
        "first_step": _tensor("int64"),
    }
    steps = {
        "pythonClassName": _P + "dataset_feature.Dataset",
        "sequence": {"feature": _dict(step), "length": "-1"},
    }
    return _dict({"steps": steps, "episode_metadata": _dict(episode)})


def episode_features(
    steps: EpisodeSteps,
    *,
    start: int = 0,
    stop: int | None = None,
    depth_form: str = "png",
) -> dict[str, Feature]:
    """Return the Example of the steps `start` to `stop` of an episode.

    The first and last flags are those of the part; `first_step` says where it lies.
    `is_terminal` is left on the part that holds the terminal step.
    """
    stop = len(steps) if stop is None else stop
    rows = slice(start, stop)
    count = stop - start
    at = np.arange(count)
    task = steps.metadata.task.encode()
    features: dict[str, Feature] = {
        "steps/observation/image": buffers(steps.image[rows]),
        "steps/observation/stamp_ns": steps.stamp_ns[rows],
        "steps/action": steps.action[rows],
        "steps/valid": steps.valid[rows].astype(np.int64),
        "steps/reward": np.zeros(count, np.float32),
        "steps/discount": np.ones(count, np.float32),
        "steps/is_first": (at == 0).astype(np.int64),
        "steps/is_last": (at == count - 1).astype(np.int64),
        "steps/is_terminal": steps.is_terminal[rows].astype(np.int64),
        "steps/language_instruction": [task] * count,
        "episode_metadata/episode_id": [steps.metadata.episode_id.encode()],
        "episode_metadata/origin": [steps.metadata.origin.value.encode()],
        "episode_metadata/metadata_json": [metadata_to_json(steps.metadata)],
        "episode_metadata/streams_json": [streams_to_json(_as_kept(steps))],
        "episode_metadata/end_reason": [steps.end_reason.value.encode()],
        "episode_metadata/first_step": np.array([start], np.int64),
    }
    if steps.state_names:
        features["steps/observation/state"] = steps.state[rows]
    if steps.depth is not None:
        features["steps/observation/depth"] = (
            [counts_of(bytes(picture)) for picture in steps.depth[rows]]
            if depth_form == "raw"
            else buffers(depth_pngs(steps.depth[rows]))
        )
    for name, skew in steps.skew_ns.items():
        features[f"steps/skew_ns/{name}"] = skew[rows]
    return features


def _as_kept(steps: EpisodeSteps) -> tuple[StreamSpec, ...]:
    """Return its streams; depth of any codec is called what a data set has, PNG16."""
    return tuple(
        attrs.evolve(spec, codec=Codec.PNG16) if spec.codec.is_depth else spec
        for spec in steps.streams
    )


def _shape(dimensions: tuple[int, ...]) -> dict[str, Any]:
    return {"dimensions": [str(size) for size in dimensions]} if dimensions else {}


def _tensor(
    dtype: str, dimensions: tuple[int, ...] = (), *, encoding: str = "none"
) -> dict[str, Any]:
    kind = "tensor_feature.Tensor" if dimensions else "scalar.Scalar"
    return {
        "pythonClassName": _P + kind,
        "tensor": {"dtype": dtype, "encoding": encoding, "shape": _shape(dimensions)},
    }


def _image(dtype: str, form: str, dimensions: tuple[int, ...]) -> dict[str, Any]:
    image = {"dtype": dtype, "encodingFormat": form, "shape": _shape(dimensions)}
    return {"pythonClassName": _P + "image_feature.Image", "image": image}


def _text() -> dict[str, Any]:
    return {"pythonClassName": _P + "text_feature.Text", "text": {}}


def _dict(features: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "pythonClassName": _P + "features_dict.FeaturesDict",
        "featuresDict": {"features": dict(features)},
    }
