"""tensorflow-datasets on the same workload: its own writer, its random access."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds
from workload import (
    EPISODES,
    HEIGHT,
    NUMBERS,
    STEPS,
    WIDTH,
    WINDOW,
    cpu_ms,
    pictures,
    steps,
    window_starts,
)

FEATURES = tfds.features.FeaturesDict(
    {
        "steps": tfds.features.Dataset(
            {
                "observation": tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(
                            shape=(HEIGHT, WIDTH, 3), encoding_format="jpeg"
                        ),
                        "depth": tfds.features.Image(
                            shape=(HEIGHT, WIDTH, 1),
                            dtype=np.uint16,
                            encoding_format="png",
                        ),
                        "state": tfds.features.Tensor(
                            shape=(NUMBERS,), dtype=np.float32
                        ),
                    }
                ),
                "action": tfds.features.Tensor(shape=(NUMBERS,), dtype=np.float32),
                "is_first": np.bool_,
                "is_last": np.bool_,
                "is_terminal": np.bool_,
            }
        )
    }
)


def measure(folder: Path) -> dict[str, float]:
    """Return CPU ms a step by what was done, and the bytes of a step."""
    pool, numbers = pictures(), itertools.count()

    def write() -> int:
        target = folder / f"tfds{next(numbers)}"
        target.mkdir()
        identity = tfds.core.dataset_info.DatasetIdentity(
            name="peer",
            version=tfds.core.Version("1.0.0"),
            data_dir=str(target),
            module_name="peer",
        )
        info = tfds.core.DatasetInfo(builder=identity, features=FEATURES)
        writer = tfds.core.SequentialWriter(
            info, 1, file_format=tfds.core.FileFormat.ARRAY_RECORD
        )
        writer.initialize_splits(["train"])
        for episode in range(EPISODES):
            rows = [
                {
                    "observation": {
                        "image": colour,
                        "depth": depth[..., None],
                        "state": state,
                    },
                    "action": action,
                    "is_first": row == 0,
                    "is_last": row == STEPS - 1,
                    "is_terminal": row == STEPS - 1,
                }
                for row, (_, colour, depth, state, action) in enumerate(
                    steps(pool, episode)
                )
            ]
            writer.add_examples({"train": [{"steps": rows}]})
        writer.close_all()
        return EPISODES * STEPS

    figures = {"write": cpu_ms(write, rounds=1)}
    target = folder / "tfds0"
    files = [f for f in target.rglob("*") if f.is_file()]
    figures["bytes"] = sum(f.stat().st_size for f in files) / EPISODES / STEPS
    skip = tfds.decode.SkipDecoding()
    source = tfds.builder_from_directory(str(target)).as_data_source(
        split="train",
        decoders={"steps": {"observation": {"image": skip, "depth": skip}}},
    )

    def read() -> int:
        """Leave pictures encoded, then decode those of the window, as OXE tools do."""
        places = window_starts()
        for episode, start in places:
            rows = itertools.islice(source[episode]["steps"], start, start + WINDOW)
            for row in rows:
                for name, flag in (("image", cv2.IMREAD_COLOR), ("depth", -1)):
                    data = np.frombuffer(row["observation"][name], np.uint8)
                    assert cv2.imdecode(data, flag) is not None
        return len(places) * WINDOW

    figures["windows"] = cpu_ms(read, rounds=2)
    return figures


if __name__ == "__main__":
    from run import report

    report("tensorflow-datasets", measure, sys.argv)
