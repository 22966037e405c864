"""Importing RGB-D folders: true times to the nanosecond, depth in its own unit."""

import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.errors import DataError
from continuon.learn.data import load_arrays
from continuon.rlds.images import decode_depth_png, encode_colour_png, encode_depth_png
from continuon.rlds.importers.dispatch import import_recording
from continuon.rlds.importers.harvest import ImportOptions
from continuon.rlds.recording import open_recording
from continuon.rlds.tfds_write import convert
from continuon.rlds.validate import validate_recording

T0 = 1305031229


def colour(i):
    return encode_colour_png(np.full((6, 8, 3), i, np.uint8))


def depth(i):
    return encode_depth_png(np.full((6, 8), 5000 + i, np.uint16))


def tum(root, count=3, **tables):
    """Write a TUM folder: colour at .1 s steps, depth 12.5 ms later."""
    for name, make, delay in (("rgb", colour, 0), ("depth", depth, 12_500)):
        (root / name).mkdir(parents=True)
        lines = ["# pictures", "# timestamp filename"]
        for i in range(count):
            stamp = f"{T0 + i // 10}.{100_000 * (i % 10) + delay:06d}"
            (root / name / f"{stamp}.png").write_bytes(make(i))
            lines.append(f"{stamp} {name}/{stamp}.png")
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    for name, text in tables.items():
        (root / f"{name}.txt").write_text(text)
    return root


def losses(report):
    return {loss.code[-3:]: loss.count for loss in report.losses}


@pytest.mark.req("R-EPISODE-49")
def test_pictures_times_and_unit_of_a_tum_folder_are_kept_exactly(tmp_path):
    poses = f"# t tx ty tz qx qy qz qw\n{T0}.0500 1.3357 0.5 -1 0 0 0 1\n"
    source = tum(tmp_path / "desk", groundtruth=poses)
    report = import_recording(source, tmp_path / "out")
    assert (report.format, report.steps, losses(report)) == ("tum-rgbd", 3, {})
    recording = open_recording(report.episodes[0])
    streams = recording.streams
    assert list(streams["rgb"].blobs) == [colour(i) for i in range(3)]
    assert list(streams["depth"].blobs) == [depth(i) for i in range(3)]
    t0 = T0 * 10**9
    assert streams["rgb"].capture_ns.tolist() == [t0 + i * 10**8 for i in range(3)]
    assert streams["depth"].capture_ns[0] == t0 + 12_500_000
    assert streams["groundtruth"].capture_ns.tolist() == [t0 + 50_000_000]
    assert streams["groundtruth"].vectors[0, 0] == np.float32(1.3357)
    counts = decode_depth_png(streams["depth"].blob(1)).astype(float)
    assert (counts * streams["depth"].spec.depth_unit_m).max() == pytest.approx(1.0002)
    assert recording.metadata.start_wall_ns == t0
    assert recording.metadata.provenance["depth_unit_m"] == "0.0002"


@pytest.mark.req("R-EPISODE-95")
def test_a_camera_alone_is_kept_and_never_learnt_from(tmp_path):
    report = import_recording(tum(tmp_path / "desk"), tmp_path / "out")
    assert report.exit_code == 0
    assert report.verdict.lenient_errors == {}
    assert report.verdict.strict_errors["E-EPISODE-STREAM-003"] == 1
    assert "nothing to learn from: 1 of 1 episodes hold no action" in report.notes
    lenient = validate_recording(report.episodes[0], profile="lenient")
    assert "E-EPISODE-STREAM-003" in {f.code for f in lenient.warnings}
    with pytest.raises(DataError, match=r"CONVERT-002.*without actions"):
        convert(tmp_path / "out", tmp_path / "tfds")
    with pytest.raises(DataError, match="LEARN-DATA-007"):
        load_arrays(tmp_path / "out", image_height=4, image_width=4)


@pytest.mark.req("R-EPISODE-95")
def test_a_camera_alone_beside_demonstrations_is_left_out_of_a_conversion(tmp_path):
    import_recording(tum(tmp_path / "desk"), tmp_path / "out")
    write_draft(legal_draft(4), tmp_path / "out")
    report = convert(tmp_path / "out", tmp_path / "tfds")
    assert (report.episodes, report.exit_code) == (1, 3)
    assert [skipped.code for skipped in report.skipped] == ["E-RLDS-CONVERT-005"]


@pytest.mark.req("R-EPISODE-48")
def test_lines_files_and_pictures_that_are_no_good_are_named(tmp_path):
    source = tum(
        tmp_path / "desk",
        5,
        accelerometer=f"{T0}.1 1 2 3\nnan 1 2 3\n{T0}.2 1 x 3\n{T0}.05 1 2 3\n{T0}.3 1.23456789 2 3\n",
    )
    files = sorted((source / "rgb").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:-20])
    files[1].unlink()
    (source / "depth" / "spare.png").write_bytes(depth(9))
    listed = sorted((source / "depth").glob("1*.png"))
    listed[2].write_bytes(encode_depth_png(np.zeros((3, 3), np.uint16)))
    listed[3].write_bytes(colour(1))
    report = import_recording(source, tmp_path / "out")
    assert losses(report) == {
        "002": 1,
        "007": 3,
        "009": 1,
        "012": 1,
        "013": 2,
        "016": 1,
    }
    streams = open_recording(report.episodes[0]).streams
    assert {name: len(stream) for name, stream in streams.items()} == {
        "accelerometer": 2,
        "rgb": 3,
        "depth": 3,
    }


def test_a_listed_path_cannot_lead_out_of_the_folder(tmp_path):
    (tmp_path / "secret.png").write_bytes(colour(1))
    source = tum(tmp_path / "desk", 1)
    (source / "rgb.txt").write_text(f"{T0}.5 ../secret.png\n{T0}.6 {'x' * 300}\n")
    report = import_recording(source, tmp_path / "out")
    assert losses(report) == {"002": 2, "012": 1}
    assert set(open_recording(report.episodes[0]).streams) == {"depth"}


def numbered(root, names):
    for folder, make in (("depth", depth), ("color", colour)):
        (root / folder).mkdir(parents=True)
        for i, name in enumerate(names):
            (root / folder / f"{name}.png").write_bytes(make(i))
    return root


@pytest.mark.req("R-EPISODE-49")
@pytest.mark.parametrize(
    ("names", "options", "stamps", "source_of_stamps", "unit"),
    [
        (["000007", "000009"], {}, [700_000_000, 900_000_000], "nominal", 0.001),
        (["f-1", "f-2"], {"rate_hz": 30.0, "depth_unit_m": 0.0001}, [33_333_333, 66_666_666], "nominal", 0.0001),
        (["1305031229.5", "1305031230.25"], {}, [T0 * 10**9 + 5 * 10**8, T0 * 10**9 + 125 * 10**7], "capture", 0.001),
        ([f"{T0}{'0' * 8}7", f"{T0}{'0' * 8}9"], {}, [T0 * 10**9 + 7, T0 * 10**9 + 9], "capture", 0.001),
    ],
)  # fmt: skip
def test_file_names_are_times_where_they_can_be_else_numbers(
    tmp_path, names, options, stamps, source_of_stamps, unit
):
    source = numbered(tmp_path / "cam", names)
    (source / "camera.json").write_text('{"fx": 617.25}')
    report = import_recording(
        source, tmp_path / "out", options=ImportOptions(**options)
    )
    recording = open_recording(report.episodes[0])
    assert recording.streams["depth"].capture_ns.tolist() == stamps
    assert recording.streams["depth"].spec.depth_unit_m == unit
    facts = recording.metadata.provenance
    assert facts["stamp_source"] == source_of_stamps
    assert facts["file:camera.json"] == '{"fx": 617.25}'
    assert losses(report) == {}


def test_a_folder_without_one_whole_picture_is_refused(tmp_path):
    source = tum(tmp_path / "desk", 1)
    for path in [*source.glob("rgb/*"), *source.glob("depth/*")]:
        path.write_bytes(b"\x89PNG\r\n\x1a\n torn")
    with pytest.raises(DataError, match="E-RLDS-IMPORT-008"):
        import_recording(source, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-49")
def test_real_depth_cameras_keep_their_units(tmp_path, shared_data):
    kinect = import_recording(shared_data / "rgbd-tum-fr1-rpy", tmp_path / "a")
    assert losses(kinect) == {"002": 699 + 713}
    streams = open_recording(kinect.episodes[0]).streams
    sizes = {name: len(stream) for name, stream in streams.items()}
    assert sizes == {"accelerometer": 14070, "groundtruth": 2742, "rgb": 9, "depth": 24}
    assert streams["depth"].spec.depth_unit_m == 0.0002
    assert streams["depth"].capture_ns[0] == 1305031239_543802000
    realsense = import_recording(shared_data / "rgbd-realsense", tmp_path / "b")
    streams = open_recording(realsense.episodes[0]).streams
    assert (len(streams["depth"]), len(streams["rgb"])) == (10, 2)
    assert streams["depth"].spec.depth_unit_m == 0.001
    assert losses(realsense) == {}
