"""An episode's steps as LeRobot's rows, and the statistics that it keeps of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from continuon.rlds.depth_codecs import depth_pngs
from continuon.rlds.images import decode_colour
from continuon.rlds.steps import EpisodeSteps

__all__ = [
    "FEATURES_OF_ROWS",
    "episode_stats",
    "merged_stats",
    "row_table",
    "tasks_table",
]

_NUMBER = {"shape": [1], "names": None}
FEATURES_OF_ROWS: Mapping[str, Any] = {
    "capture_ns": {"dtype": "int64", **_NUMBER},
    "valid": {"dtype": "bool", **_NUMBER},
    "next.done": {"dtype": "bool", **_NUMBER},
    "timestamp": {"dtype": "float32", **_NUMBER},
    "frame_index": {"dtype": "int64", **_NUMBER},
    "episode_index": {"dtype": "int64", **_NUMBER},
    "index": {"dtype": "int64", **_NUMBER},
    "task_index": {"dtype": "int64", **_NUMBER},
}
"""Features of every data set of ours; the last five are LeRobot's own."""
_QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
_SAMPLED_FRAMES = 8


def row_table(
    steps: EpisodeSteps,
    *,
    fps: int,
    episode_index: int,
    first_index: int,
    task_index: int,
    pictures: tuple[str, str],
) -> Any:
    """Return the steps as an Arrow table; the encoded pictures are not touched."""
    import pyarrow as pa

    count = len(steps)
    at = np.arange(count)
    main, deep = pictures
    columns: dict[str, Any] = {main: _images(steps.image)}
    if steps.depth is not None:
        columns[deep] = _images(depth_pngs(steps.depth))
    for key, values in (
        ("observation.state", steps.state),
        ("action", steps.action),
    ):
        if values.shape[1]:
            flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
            columns[key] = (
                flat
                if values.shape[1] == 1
                else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
            )
    for name in sorted(steps.skew_ns):
        columns[f"skew_ns.{name}"] = pa.array(steps.skew_ns[name], pa.int64())
    columns |= {
        "capture_ns": pa.array(steps.stamp_ns, pa.int64()),
        "valid": pa.array(steps.valid),
        "next.done": pa.array(steps.is_terminal),
        "timestamp": pa.array((at / fps).astype(np.float32)),
        "frame_index": pa.array(at, pa.int64()),
        "episode_index": pa.array(np.full(count, episode_index), pa.int64()),
        "index": pa.array(first_index + at, pa.int64()),
        "task_index": pa.array(np.full(count, task_index), pa.int64()),
    }
    return pa.table(columns)


def _images(blobs: Sequence[bytes]) -> Any:
    """Return pictures as the struct by which Hugging Face datasets know an image."""
    import pyarrow as pa

    count = len(blobs)
    data = pa.array([bytes(blob) for blob in blobs], pa.binary())
    return pa.StructArray.from_arrays(
        [data, pa.nulls(count, pa.string())], names=["bytes", "path"]
    )


def tasks_table(tasks: Mapping[str, int]) -> Any:
    """Return the tasks as pandas would write a frame whose index is the text."""
    import pyarrow as pa

    table = pa.table(
        {
            "task_index": pa.array(list(tasks.values()), pa.int64()),
            "__index_level_0__": pa.array(list(tasks), pa.string()),
        }
    )
    columns = [
        ("task_index", "int64", "int64"),
        (None, "unicode", "object"),
    ]
    facts = {
        "index_columns": ["__index_level_0__"],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": name or "__index_level_0__",
                "pandas_type": kind,
                "numpy_type": dtype,
                "metadata": None,
            }
            for name, kind, dtype in columns
        ],
        "pandas_version": "2.2.0",
    }
    return table.replace_schema_metadata({"pandas": json.dumps(facts)})


def episode_stats(
    table: Any, features: Mapping[str, Any], steps: EpisodeSteps
) -> dict[str, dict[str, Any]]:
    """Return minimum, maximum, mean, deviation, count and quantiles by feature.

    Numbers are over the episode's valid steps (all, where none is); of colour, a few
    frames spread over the episode, scaled to 0..1 as LeRobot does, shaped [3][1][1].
    """
    rows = steps.valid if steps.valid.any() else np.ones(len(steps), bool)
    stats = {}
    for key, feature in features.items():
        if feature["dtype"] != "image":
            flat = table.column(key).combine_chunks()
            if hasattr(flat, "flatten") and feature["shape"] != [1]:
                flat = flat.flatten()
            values = np.asarray(flat).reshape(len(steps), -1).astype(np.float64)
            stats[key] = _stats(values[rows])
    stats["observation.images.main"] = _picture_stats(steps)
    return stats


def _stats(values: NDArray[np.float64]) -> dict[str, Any]:
    found = {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
    }
    found |= {k: np.quantile(values, q, axis=0) for k, q in _QUANTILES.items()}
    return {k: v.tolist() for k, v in found.items()} | {"count": [len(values)]}


def _picture_stats(steps: EpisodeSteps) -> dict[str, Any]:
    rows = np.unique(np.linspace(0, len(steps) - 1, _SAMPLED_FRAMES).astype(int))
    pixels = np.concatenate(
        [decode_colour(steps.image[int(row)])[::4, ::4].reshape(-1, 3) for row in rows]
    )
    found = _stats(pixels.astype(np.float64) / 255)
    shaped = {k: [[[v]] for v in found[k]] for k in found if k != "count"}
    return shaped | {"count": [len(rows)]}


def merged_stats(
    parts: Sequence[Mapping[str, Mapping[str, Any]]],
) -> dict[str, dict[str, Any]]:
    """Return the statistics of the whole from those of the episodes.

    Mean and deviation are exact; quantiles are the episodes' own, averaged by length,
    as LeRobot's are.
    """
    merged = {}
    for key in parts[0]:
        tables = [part[key] for part in parts]
        counts = np.array([table["count"][0] for table in tables], np.float64)
        weight = counts / counts.sum()
        columns = {
            name: np.array([table[name] for table in tables], np.float64)
            for name in tables[0]
            if name != "count"
        }
        shape = (-1, *(1,) * (columns["mean"].ndim - 1))
        weights = weight.reshape(shape)
        mean = (columns["mean"] * weights).sum(axis=0)
        spread = columns["std"] ** 2 + (columns["mean"] - mean) ** 2
        found = {
            "min": columns["min"].min(axis=0),
            "max": columns["max"].max(axis=0),
            "mean": mean,
            "std": np.sqrt((spread * weights).sum(axis=0)),
        }
        found |= {name: (columns[name] * weights).sum(axis=0) for name in _QUANTILES}
        total = [int(counts.sum())]
        merged[key] = {k: v.tolist() for k, v in found.items()} | {"count": total}
    return merged
