"""Importing ROS bags and foreign MCAP files: every message kept, clocks named."""

import json

import numpy as np
import pytest

from continuon.errors import DataError, UsageError
from continuon.rlds.images import decode_colour, decode_depth_png, encode_jpeg
from continuon.rlds.importers.dispatch import import_recording
from continuon.rlds.importers.harvest import ImportOptions
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import align

rosbag1 = pytest.importorskip("rosbags.rosbag1", reason="needs continuon[ros]")
rosbag2 = pytest.importorskip("rosbags.rosbag2", reason="needs continuon[ros]")
typesys = pytest.importorskip("rosbags.typesys", reason="needs continuon[ros]")
mcap_writer = pytest.importorskip("mcap.writer", reason="needs continuon[ros]")

T0 = 1_700_000_000 * 10**9


def losses(report):
    return {loss.code[-3:]: loss.count for loss in report.losses}


class Maker:
    """Makes messages of one ROS version; `at` is the header's stamp in ns."""

    def __init__(self, store):
        self.store = typesys.get_typestore(store)
        self.types = self.store.types

    def header(self, at):
        stamp = self.types["builtin_interfaces/msg/Time"](*divmod(at, 10**9))
        header = self.types["std_msgs/msg/Header"]
        if "seq" in header.__dataclass_fields__:
            return header(seq=0, stamp=stamp, frame_id="f")
        return header(stamp=stamp, frame_id="f")

    def image(self, at, pixels, encoding):
        height, width = pixels.shape[:2]
        data = np.frombuffer(pixels.tobytes(), np.uint8)
        return self.types["sensor_msgs/msg/Image"](
            header=self.header(at),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=len(data) // height,
            data=data,
        )

    def jpeg(self, at, data):
        return self.types["sensor_msgs/msg/CompressedImage"](
            header=self.header(at), format="jpeg", data=np.frombuffer(data, np.uint8)
        )

    def twist(self, forward, turn):
        vector = self.types["geometry_msgs/msg/Vector3"]
        return self.types["geometry_msgs/msg/Twist"](
            linear=vector(forward, 0.0, 0.0), angular=vector(0.0, 0.0, turn)
        )

    def joints(self, at, positions):
        empty = np.array([], np.float64)
        return self.types["sensor_msgs/msg/JointState"](
            header=self.header(at),
            name=["elbow", "wrist"],
            position=np.array(positions, np.float64),
            velocity=empty,
            effort=empty,
        )

    def text(self, text):
        return self.types["std_msgs/msg/String"](data=text)


def drive(maker, count=4, *, stamp=lambda at: at):
    """Return (topic, log time, message): colour, depth, commands, joints, words."""
    rows = []
    for i in range(count):
        at = T0 + i * 10**8
        colour = np.full((6, 8, 3), (10 * i, 1, 2), np.uint8)
        depth = np.full((6, 8), 1000 + i, np.uint16)
        rows += [
            ("/cam/color", at, maker.image(stamp(at), colour, "rgb8")),
            ("/cam/depth", at + 2, maker.image(stamp(at), depth, "16UC1")),
            ("/cmd_vel", at + 3, maker.twist(0.5 * i, -0.1)),
            ("/joint_states", at + 4, maker.joints(stamp(at), [0.25 * i, 1.0])),
        ]
    return [*rows, ("/notes", T0 + 5, maker.text("hello"))]


def write_ros1(path, rows, maker):
    with rosbag1.Writer(path) as writer:
        open_ = {}
        for topic, at, message in rows:
            kind = message.__msgtype__
            if topic not in open_:
                open_[topic] = writer.add_connection(topic, kind, typestore=maker.store)
            writer.write(open_[topic], at, maker.store.serialize_ros1(message, kind))
    return path


def write_ros2(path, rows, maker, **options):
    with rosbag2.Writer(path, version=9, **options) as writer:
        open_ = {}
        for topic, at, message in rows:
            kind = message.__msgtype__
            if topic not in open_:
                open_[topic] = writer.add_connection(topic, kind, typestore=maker.store)
            writer.write(open_[topic], at, maker.store.serialize_cdr(message, kind))
    return path


@pytest.fixture(scope="module")
def ros1():
    return Maker(typesys.Stores.ROS1_NOETIC)


@pytest.fixture(scope="module")
def ros2():
    return Maker(typesys.Stores.ROS2_HUMBLE)


def written(kind, tmp_path, ros1, ros2, **changes):
    if kind == "rosbag1":
        return write_ros1(tmp_path / "named.mp4", drive(ros1, **changes), ros1)
    storage = getattr(rosbag2.StoragePlugin, "MCAP" if kind == "mcap" else "SQLITE3")
    folder = write_ros2(tmp_path / "bag", drive(ros2, **changes), ros2, storage_plugin=storage)  # fmt: skip
    return next(folder.glob("*.mcap")) if kind == "mcap" else folder


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-48")
@pytest.mark.parametrize("kind", ["rosbag1", "rosbag2", "mcap"])
def test_pictures_commands_states_and_all_else_are_kept(tmp_path, ros1, ros2, kind):
    source = written(kind, tmp_path, ros1, ros2)
    report = import_recording(source, tmp_path / "out")
    assert (report.format, losses(report), report.exit_code) == (kind, {}, 0)
    recording = open_recording(report.episodes[0])
    streams = recording.streams
    for i in range(4):
        red = decode_colour(streams["rgb"].blob(i))[0, 0].tolist()
        assert red == [10 * i, 1, 2]
        assert decode_depth_png(streams["depth"].blob(i)).max() == 1000 + i
    assert streams["rgb"].capture_ns.tolist() == [T0 + i * 10**8 for i in range(4)]
    assert streams["action"].spec.names[0] == "linear.x"
    assert streams["action"].vectors[:, 0].tolist() == [0, 0.5, 1, 1.5]
    assert streams["state"].spec.names == ("elbow", "wrist")
    notes = json.loads(streams["notes"].blob(0))
    assert notes == {"data": "hello"}
    twist = json.loads(streams["cmd_vel"].blob(1))
    assert twist["angular"]["z"] == -0.1
    facts = recording.metadata.provenance
    assert facts["stamp_source"] == "capture"
    assert facts["type:/joint_states"] == "sensor_msgs/msg/JointState"
    assert recording.metadata.start_wall_ns == T0
    assert len(align(recording)) == 4


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-03")
def test_headers_by_another_clock_are_moved_and_the_offset_is_in_the_file(
    tmp_path, ros1, ros2
):
    boot = 360 * 10**9
    source = written(
        "rosbag1", tmp_path, ros1, ros2, stamp=lambda at: at - T0 + boot - 7_000_000
    )
    report = import_recording(source, tmp_path / "out")
    assert any("another clock" in note for note in report.notes)
    recording = open_recording(report.episodes[0])
    streams = recording.streams
    assert streams["rgb"].device_ns.tolist()[0] == boot - 7_000_000
    assert streams["rgb"].spec.clock == "header"
    (offset,) = recording.clock_offsets
    first = streams["rgb"]
    assert offset.to_host_ns(int(first.device_ns[0])) == first.capture_ns[0] == T0
    assert offset.uncertainty_ns == 4
    assert streams["rgb"].capture_ns[0] == streams["depth"].capture_ns[0]


@pytest.mark.slow
def test_jpegs_are_copied_and_a_torn_one_is_named(tmp_path, ros2):
    whole = encode_jpeg(np.zeros((6, 8, 3), np.uint8))
    rows = [("/cam", T0 + i, ros2.jpeg(T0 + i, whole)) for i in range(2)]
    rows.append(("/cam", T0 + 2, ros2.jpeg(T0 + 2, whole[:-9])))
    report = import_recording(write_ros2(tmp_path / "b", rows, ros2), tmp_path / "o")
    assert losses(report) == {"014": 1}
    assert list(open_recording(report.episodes[0]).streams["rgb"].blobs) == [whole] * 2


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-49")
def test_jpeg_of_raw_pictures_is_a_choice_and_named(tmp_path, ros1, ros2):
    source = written("rosbag2", tmp_path, ros1, ros2)
    report = import_recording(
        source, tmp_path / "o", options=ImportOptions(jpeg_quality=90)
    )
    assert losses(report) == {"010": 4}
    streams = open_recording(report.episodes[0]).streams
    assert (streams["rgb"].spec.codec, streams["depth"].spec.codec) == ("jpeg", "png16")


@pytest.mark.slow
def test_what_is_not_finite_or_changes_its_shape_is_no_command(tmp_path, ros2):
    rows = [("/cmd", T0 + i, ros2.twist(v, 0.0)) for i, v in enumerate([0.1, np.nan])]
    rows += [("/js", T0 + 5 + i, ros2.joints(T0, p)) for i, p in enumerate([[1, 2], [1, 2]])]  # fmt: skip
    report = import_recording(write_ros2(tmp_path / "b", rows, ros2), tmp_path / "o")
    assert losses(report) == {"014": 1}
    streams = open_recording(report.episodes[0]).streams
    assert len(streams["action"]) == 1
    assert json.loads(streams["cmd"].blob(1))["linear"]["x"] == "nan"


def foreign_mcap(path, *, torn=0):
    """Write JSON, a Foxglove picture, and a message in an encoding of its own."""
    from continuon.rlds.foxglove import image_descriptor_set, image_message
    from continuon.rlds.vocabulary import Codec

    with path.open("wb") as file:
        writer = mcap_writer.Writer(file, chunk_size=200)
        writer.start("", "somebody")
        plain = writer.register_schema("pose", "jsonschema", b"{}")
        picture = writer.register_schema(
            "foxglove.CompressedImage", "protobuf", image_descriptor_set()
        )
        own = writer.register_schema("odd", "flatbuffer", b"schema")
        channels = [
            writer.register_channel("/pose", "json", plain),
            writer.register_channel("/cam", "protobuf", picture),
            writer.register_channel("/odd", "flatbuffer", own),
        ]
        jpeg = encode_jpeg(np.zeros((6, 8, 3), np.uint8))
        for i in range(3):
            image = image_message(
                jpeg, codec=Codec.JPEG, frame_id="c", capture_ns=i, device_ns=None
            ).join()
            for channel, data in zip(
                channels, (b'{"x": %d}' % i, image, b"odd%d" % i), strict=True
            ):
                writer.add_message(channel, T0 + i, data, T0 + i)
        writer.finish()
    if torn:
        path.write_bytes(path.read_bytes()[:torn])
    return path


def test_a_foreign_mcap_keeps_json_pictures_and_what_nobody_knows(tmp_path):
    report = import_recording(foreign_mcap(tmp_path / "a.bin"), tmp_path / "o")
    assert losses(report) == {}
    recording = open_recording(report.episodes[0])
    streams = recording.streams
    assert json.loads(streams["pose"].blob(2)) == {"x": 2}
    assert len(streams["rgb"]) == 3
    assert [bytes(b) for b in streams["odd"].blobs] == [b"odd0", b"odd1", b"odd2"]
    assert recording.metadata.provenance["stamp_source"] == "write"
    assert recording.metadata.provenance["schema:odd"].startswith("flatbuffer ")


@pytest.mark.parametrize("cut", [900, 1500, 2200])
def test_a_torn_mcap_gives_what_is_whole_and_names_the_rest(tmp_path, cut):
    report = import_recording(foreign_mcap(tmp_path / "a", torn=cut), tmp_path / "o")
    assert losses(report)["003"] == 1
    assert report.exit_code == 3


@pytest.mark.parametrize(
    "content",
    [b"#ROSBAG V2.0\n junk", b"SQLite format 3\0 junk", b"\x89MCAP0\r\n junk"],
)
def test_a_damaged_bag_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "bag").write_bytes(content)
    with pytest.raises(DataError, match="E-RLDS-IMPORT-008"):
        import_recording(tmp_path / "bag", tmp_path / "o")


@pytest.mark.slow
@pytest.mark.req("R-EPISODE-03")
def test_a_realsense_bag_says_which_of_its_four_clocks_it_took(tmp_path, shared_data):
    report = import_recording(shared_data / "bag-realsense", tmp_path)
    recording = open_recording(report.episodes[0])
    streams = recording.streams
    assert (len(streams["depth"]), len(streams["rgb"])) == (2, 1)
    assert streams["depth"].device_ns.tolist() == [360_815_089_000, 360_981_765_000]
    apart = streams["depth"].capture_ns[0] - streams["rgb"].capture_ns[0]
    assert apart == 101_566_000
    assert streams["depth"].spec.depth_unit_m == 0.001
    assert decode_depth_png(streams["depth"].blob(0)).max() <= 3182
    assert any("another clock" in note for note in report.notes)
    assert losses(report) == {}
    assert sum(map(len, streams.values())) == 135


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "messages"),
    [("talker.mcap", 20), ("only_topics.mcap", 7), ("cdr_test_0.mcap", 7), ("cdr_test_0.db3", 7)],
)  # fmt: skip
def test_real_small_bags_are_kept_whole(tmp_path, shared_data, name, messages):
    report = import_recording(shared_data / "rosbag2-small" / name, tmp_path)
    streams = open_recording(report.episodes[0]).streams
    assert sum(map(len, streams.values())) == messages
    assert losses(report) == {}


@pytest.mark.slow
@pytest.mark.parametrize("option", ["camera", "action", "state"])
def test_a_topic_that_is_not_there_is_refused_and_nothing_is_written(
    tmp_path, ros1, ros2, option
):
    source = written("rosbag2", tmp_path, ros1, ros2)
    options = ImportOptions(**{option: "/nowhere"})
    with pytest.raises(UsageError, match="E-RLDS-IMPORT-013") as caught:
        import_recording(source, tmp_path / "o", options=options)
    assert caught.value.where == f"--{option}"
    assert caught.value.allowed.startswith("/")
    assert not list(tmp_path.glob("o/*"))
