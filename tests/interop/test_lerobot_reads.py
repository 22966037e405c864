"""LeRobot itself opens what we write as LeRobot v3, and finds our values in it."""

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.rlds.exporters.lerobot import write_lerobot
from continuon.rlds.images import decode_colour, decode_depth_png, encode_colour_png
from continuon.rlds.importers.dispatch import import_recording
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import read_steps

datasets = pytest.importorskip(
    "lerobot.datasets.lerobot_dataset", reason="needs lerobot"
)
torch = pytest.importorskip("torch", reason="needs torch")


@pytest.fixture(scope="module", params=["jpeg", "png"])
def pair(request, tmp_path_factory):
    """Two episodes as recorded, and the data set as LeRobot opens it."""
    folder = tmp_path_factory.mktemp("in")
    for number, count in enumerate((8, 5)):
        draft = legal_draft(count)
        metadata = attrs.evolve(
            draft.metadata, episode_id=f"e{number}", task=f"tâche {number}"
        )
        changes = {"metadata": metadata}
        if request.param == "png":
            clear = tuple(
                (at, encode_colour_png(decode_colour(blob)))
                for at, blob in draft.samples["rgb"]
            )
            first = attrs.evolve(draft.streams[0], codec="png")
            changes["samples"] = dict(draft.samples) | {"rgb": clear}
            changes["streams"] = (first, *draft.streams[1:])
        write_draft(attrs.evolve(draft, **changes), folder)
    out = tmp_path_factory.mktemp("out") / "set"
    write_lerobot(folder, out)
    opened = datasets.LeRobotDataset("continuon/test", root=out)
    return request.param, list(read_steps(folder)), opened


@pytest.mark.req("R-EPISODE-54")
def test_lerobot_reads_every_row_to_the_last_bit(pair):
    codec, episodes, opened = pair
    assert (opened.num_episodes, opened.num_frames, opened.fps) == (2, 13, 30)
    row = 0
    for number, steps in enumerate(episodes):
        for i in range(len(steps)):
            item = opened[row]
            assert item["episode_index"].item() == number
            assert item["frame_index"].item() == i
            assert item["task"] == steps.metadata.task
            assert item["capture_ns"].item() == steps.stamp_ns[i]
            assert item["valid"].item() == steps.valid[i]
            state, action = item["observation.state"], item["action"]
            assert state.numpy().tobytes() == steps.state[i].tobytes()
            assert action.numpy().tobytes() == steps.action[i].tobytes()
            picture = item["observation.images.main"]
            assert picture.shape == (3, 12, 16)
            pixels = (picture.numpy().transpose(1, 2, 0) * 255).round().astype(int)
            off = np.abs(pixels - decode_colour(steps.image[i]).astype(int)).max()
            assert off == 0 if codec == "png" else off <= 3  # two JPEG decoders
            deep = item["observation.images.depth"].numpy().squeeze()
            np.testing.assert_array_equal(deep, decode_depth_png(steps.depth[i]))
            row += 1


@pytest.mark.req("R-EPISODE-54")
def test_windows_and_batches_come_out(pair):
    _, _, opened = pair
    windows = datasets.LeRobotDataset(
        "continuon/test",
        root=opened.root,
        delta_timestamps={"action": [i / 30 for i in range(4)]},
    )
    assert windows[0]["action"].shape == (4, 2)
    loader = torch.utils.data.DataLoader(windows, batch_size=4)
    batch = next(iter(loader))
    assert batch["observation.images.main"].shape == (4, 3, 12, 16)
    stats = opened.meta.stats
    assert stats["action"]["mean"].shape == (2,)
    assert stats["observation.images.main"]["mean"].shape == (3, 1, 1)


@pytest.mark.req("R-EPISODE-48")
def test_what_lerobot_wrote_is_imported_frame_by_frame(tmp_path):
    features = {
        "observation.state": {"dtype": "float32", "shape": (3,), "names": None},
        "action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]},
        "observation.images.top": {
            "dtype": "video",
            "shape": (96, 128, 3),
            "names": ["height", "width", "channels"],
        },
    }
    made = datasets.LeRobotDataset.create(
        "continuon/made",
        fps=20,
        features=features,
        root=tmp_path / "set",
        robot_type="arm",
        vcodec="h264",
    )
    for number, count in enumerate((12, 9)):
        for i in range(count):
            grey = number * 100 + i * 8
            made.add_frame(
                {
                    "observation.state": np.array([number, i, 0.5], np.float32),
                    "action": np.array([i, -i], np.float32),
                    "observation.images.top": np.full((96, 128, 3), grey, np.uint8),
                    "task": f"task {number}",
                }
            )
        made.save_episode()
    made.finalize()
    report = import_recording(tmp_path / "set", tmp_path / "out")
    assert (report.exit_code, report.steps) == (0, 21)
    for number, path in enumerate(report.episodes):
        recording = open_recording(path)
        assert recording.metadata.task == f"task {number}"
        streams = recording.streams
        for i, blob in enumerate(streams["rgb"].blobs):
            seen = decode_colour(blob).mean()
            assert abs(seen - (number * 100 + i * 8)) < 3  # h264 is lossy
            assert streams["state"].vectors[i].tolist() == [number, i, 0.5]
