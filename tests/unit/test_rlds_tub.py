"""Importing tubs: every fault is named, nothing is invented, nothing twice."""

import errno
import io
import json
import resource
import stat
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from continuon.errors import DataError, UsageError
from continuon.rlds.episode import EndReason, Origin
from continuon.rlds.file_sink import FileSink
from continuon.rlds.images import encode_depth_png, encode_jpeg
from continuon.rlds.importers.dispatch import import_recording
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import read_steps
from continuon.rlds.validate import validate_recording

DATA = Path(__file__).parents[2] / "../shared/data"
START_MS = 1_650_000_000_000


def row(index, **changes):
    facts = {
        "_index": index,
        "_session_id": "s0",
        "_timestamp_ms": START_MS + 50 * index,
        "cam/image_array": f"{index}_cam_image_array_.jpg",
        "user/angle": 0.25,
        "user/mode": "user",
        "user/throttle": 0.5,
    }
    merged = facts | changes
    return {key: value for key, value in merged.items() if value is not None}


def raw(index, old, new):
    """Return a catalog line as no JSON writer would make it."""
    return json.dumps(row(index)).replace(old, new)


PNG = encode_depth_png(np.zeros((12, 16), np.uint16))


def jpeg(index):
    return encode_jpeg(np.full((12, 16, 3), 7 * index % 256, np.uint8))


def tub(directory, catalogs, *, deleted=(), manifest=None, images=None, extra=()):
    """Write a tub; `catalogs` is a list of lists of rows (dicts or raw lines)."""
    (directory / "images").mkdir(parents=True)
    names = [f"catalog_{i}.catalog" for i in range(len(catalogs))]
    for name, rows in zip(names, catalogs, strict=True):
        lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
        (directory / name).write_text("".join(line + "\n" for line in lines))
        for r in rows:
            if isinstance(r, dict) and isinstance(r.get("cam/image_array"), str):
                path = directory / "images" / Path(r["cam/image_array"]).name
                path.write_bytes(jpeg(r.get("_index", 0)))
    for name, content in dict(images or {}).items():
        path = directory / "images" / name
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
    for name, rows in extra:
        (directory / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
    table = {
        "paths": manifest or names,
        "current_index": 9,
        "max_len": 1000,
        "deleted_indexes": list(deleted),
    }
    inputs = ["cam/image_array", "user/angle", "user/throttle", "user/mode"]
    types = ["image_array", "float", "float", "str"]
    lines = [inputs, types, {}, {"created_at": 1.0}, table]
    (directory / "manifest.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return directory


def losses(report):
    return {loss.code[-3:]: loss.count for loss in report.losses}


@pytest.mark.req("R-EPISODE-40")
def test_a_clean_tub_becomes_slices_with_the_same_bytes_and_exit_0(tmp_path):
    source = tub(tmp_path / "tub", [[row(i) for i in range(5)]])
    report = import_recording(source, tmp_path / "out", episode_steps=2)
    assert (report.exit_code, report.steps, len(report.episodes)) == (0, 5, 3)
    episodes = list(read_steps(tmp_path / "out"))
    assert [len(e) for e in episodes] == [2, 2, 1]
    assert [blob for e in episodes for blob in e.image] == [jpeg(i) for i in range(5)]
    first = episodes[0]
    assert first.metadata.origin is Origin.IMPORTED
    assert first.stamp_ns.tolist() == [START_MS * 10**6, (START_MS + 50) * 10**6]
    assert first.action.tolist() == [[0.25, 0.5]] * 2
    assert first.metadata.provenance["stamp_source"] == "write"
    assert first.end_reason is EndReason.SLICE
    assert first.is_last.tolist() == [False, True]
    assert not first.is_terminal.any()
    assert str(tmp_path) not in str(first.metadata)


@pytest.mark.req("R-EPISODE-44")
def test_importing_again_adds_nothing_and_finishes_what_was_killed(tmp_path):
    source = tub(tmp_path / "tub", [[row(i) for i in range(4)]])
    first = import_recording(source, tmp_path / "out", episode_steps=2)
    whole = first.episodes[1].read_bytes()
    first.episodes[1].rename(first.episodes[1].with_suffix(".mcap.part"))
    again = import_recording(source, tmp_path / "out", episode_steps=2)
    assert again.episodes == first.episodes
    assert again.episodes[1].read_bytes() == whole
    assert sorted((tmp_path / "out").iterdir()) == sorted(first.episodes)


@pytest.mark.req("R-EPISODE-41")
@pytest.mark.parametrize(
    ("rows", "options", "code", "steps", "episodes"),
    [
        ([row(0), row(1), row(2)], {"images": {"1_cam_image_array_.jpg": None}}, "016", 2, 2),
        ([row(0), row(1)], {"images": {"1_cam_image_array_.jpg": jpeg(1)[:-30]}}, "017", 1, 1),
        ([row(0), row(1)], {"images": {"1_cam_image_array_.jpg": b""}}, "017", 1, 1),
        ([row(0), row(1, **{"user/mode": "local"}), row(2)], {}, "014", 2, 2),
        ([row(0), row(1, **{"user/mode": None})], {}, "014", 1, 1),
        ([row(0), row(1, **{"user/angle": float("nan")})], {}, "015", 1, 1),
        ([row(0), row(1, **{"user/angle": 3.0})], {}, "015", 1, 1),
        ([row(0), row(1, **{"user/throttle": None})], {}, "015", 1, 1),
        ([row(0), row(1, **{"user/angle": True})], {}, "015", 1, 1),
        ([row(0), '{"_index": 1, "_times'], {}, "012", 1, 1),
        ([row(0), row(1, _timestamp_ms=None)], {}, "012", 1, 1),
        ([row(0), row(1, **{"cam/image_array": "../../etc/passwd"})], {}, "016", 1, 1),
        ([row(0)], {"manifest": ["catalog_0.catalog", "catalog_7.catalog"]}, "010", 1, 1),
        ([row(0)], {"extra": [("catalog_9.catalog", [row(90), row(91)])]}, "011", 1, 1),
        ([row(0), raw(1, "0.25", "1" + "0" * 400), row(2)], {}, "015", 2, 2),
        ([row(0), raw(1, "0.25", "1" + "0" * 5000), row(2)], {}, "012", 2, 2),
        ([row(0), "[" * 200_000, row(2)], {}, "012", 2, 2),
        ([row(0), raw(1, "1_cam", "x" * 300)], {}, "016", 1, 1),
        ([row(0), raw(1, "1_cam", "\\u0000")], {}, "016", 1, 1),
        ([row(0), raw(1, "1_cam", "\\ud800")], {}, "016", 1, 1),
        ([row(0)], {"manifest": ["catalog_0.catalog", "y" * 300]}, "010", 1, 1),
        ([row(0)], {"images": {"9_cam_image_array_.jpg": b"left"}}, "018", 1, 1),
        ([row(0), row(1)], {"images": {"1_cam_image_array_.jpg": PNG}}, "017", 1, 1),
    ],
)  # fmt: skip
def test_each_fault_is_named_counted_and_exits_3(
    tmp_path, rows, options, code, steps, episodes
):
    source = tub(tmp_path / "tub", [rows], **options)
    report = import_recording(source, tmp_path / "out")
    assert report.exit_code == 3
    assert losses(report) == {code: 2 if code == "011" else 1}
    assert (report.steps, len(report.episodes)) == (steps, episodes)
    assert report.as_dict()["losses"][0]["code"] == f"E-RLDS-TUB-{code}"


@pytest.mark.req("R-EPISODE-41")
def test_of_rows_that_share_an_image_only_the_last_written_one_counts(tmp_path):
    later = {"_session_id": "s1"}
    old = [row(i) for i in range(3)]
    new = [
        row(i, _timestamp_ms=START_MS + 10**6 + 50 * i, **later, **{"user/angle": -1.0})
        for i in range(2)
    ]
    for number, catalogs in enumerate(([old, new], [new, old])):
        source = tub(tmp_path / f"tub{number}", catalogs)
        report = import_recording(source, tmp_path / f"out{number}")
        assert losses(report) == {"013": 2}
        assert report.steps == 3
        steering = [e.action[0, 0] for e in read_steps(tmp_path / f"out{number}")]
        assert steering == [0.25, -1.0]


@pytest.mark.req("R-EPISODE-43")
def test_episodes_end_at_gaps_session_changes_and_where_time_goes_back(tmp_path):
    rows = [
        row(0),
        row(1, _timestamp_ms=START_MS + 1051),
        row(2, _timestamp_ms=START_MS + 1100, _session_id="s1"),
        row(3, _timestamp_ms=START_MS + 1000, _session_id="s1"),
        row(5, _timestamp_ms=START_MS + 1050, _session_id="s1"),
        row(6, _timestamp_ms=START_MS + 1100, _session_id="s1"),
    ]
    source = tub(tmp_path / "tub", [rows])
    report = import_recording(source, tmp_path / "out")
    lengths = [len(open_recording(path).streams["rgb"]) for path in report.episodes]
    assert lengths == [1, 1, 1, 1, 2]
    assert losses(report) == {"019": 1}
    assert report.exit_code == 3


@pytest.mark.req("R-EPISODE-41")
def test_a_catalog_left_from_an_earlier_recording_is_no_part_of_this_one(tmp_path):
    old = [row(i, _timestamp_ms=START_MS - 10**7 + 50 * i) for i in range(5, 9)]
    source = tub(
        tmp_path / "tub",
        [[row(i) for i in range(5)]],
        extra=[("catalog_1.catalog", old)],
        images={f"{i}_cam_image_array_.jpg": jpeg(i) for i in range(5, 9)},
    )
    report = import_recording(source, tmp_path / "out")
    assert losses(report) == {"011": 4}
    assert report.losses[0].text.endswith("catalog_1.catalog")
    steps = list(read_steps(tmp_path / "out"))
    assert [len(e) for e in steps] == [5]


@pytest.mark.req("R-EPISODE-41")
def test_every_index_twice_from_two_sessions_leaves_the_later_session(tmp_path):
    first = [row(i) for i in range(4)]
    second = [
        row(i, _session_id="s1", _timestamp_ms=START_MS + 10**6 + 50 * i)
        for i in range(4)
    ]
    report = import_recording(tub(tmp_path / "tub", [first, second]), tmp_path / "out")
    assert (losses(report), report.steps, len(report.episodes)) == ({"013": 4}, 4, 1)
    facts = open_recording(report.episodes[0]).metadata.provenance
    assert facts["session"] == "s1"


@pytest.mark.req("R-EPISODE-41")
def test_an_index_that_two_rows_have_with_pictures_of_their_own_is_named(tmp_path):
    rows = [row(i) for i in range(6)]
    again = row(2, _timestamp_ms=START_MS + 300)
    again["cam/image_array"] = "other_cam_image_array_.jpg"
    report = import_recording(tub(tmp_path / "tub", [[*rows, again]]), tmp_path / "out")
    assert (losses(report), report.steps) == ({}, 7)
    assert any(note.startswith("1 rows have an index") for note in report.notes)


@pytest.mark.req("R-EPISODE-46")
def test_a_full_disk_leaves_no_finished_file_and_the_import_can_be_repeated(
    tmp_path, monkeypatch
):
    source = tub(tmp_path / "tub", [[row(i) for i in range(6)]])
    written = 0
    append = FileSink.append

    def small(sink, buffers):
        nonlocal written
        written += sum(map(len, buffers))
        if written > 14_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(sink, buffers)

    monkeypatch.setattr(FileSink, "append", small)
    with pytest.raises(DataError, match="E-RLDS-IMPORT-006") as caught:
        import_recording(source, tmp_path / "out", episode_steps=3)
    assert caught.value.exit_code == 1
    kept = list((tmp_path / "out").iterdir())
    assert [open_recording(path).end_reason for path in kept] == [EndReason.SLICE]
    monkeypatch.undo()
    report = import_recording(source, tmp_path / "out", episode_steps=3)
    assert (report.exit_code, len(report.episodes)) == (0, 2)


@pytest.mark.req("R-EPISODE-46")
def test_a_file_size_limit_of_the_system_is_met_the_same_way(tmp_path, monkeypatch):
    source = tub(tmp_path / "tub", [[row(i) for i in range(20)]])
    # Python would cut the bytecode of what it imports meanwhile at the limit, unasked,
    # and leave it to every later process.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, hard))
    try:
        with pytest.raises(DataError, match="E-RLDS-IMPORT-006"):
            import_recording(source, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.req("R-EPISODE-47")
def test_the_report_says_what_the_validator_thinks_of_the_episodes(tmp_path):
    source = tub(tmp_path / "tub", [[row(i) for i in range(4)]])
    report = import_recording(source, tmp_path / "out", episode_steps=2)
    verdict = report.as_dict()["verdict"]
    assert (verdict["episodes"], verdict["lenient_ok"]) == (2, 2)
    assert verdict["lenient_errors"] == {}
    assert report.as_dict()["format"] == "donkeycar-tub-v2"


@pytest.mark.req("R-EPISODE-42")
def test_deleted_rows_stay_out_and_are_no_loss(tmp_path):
    source = tub(tmp_path / "tub", [[row(i) for i in range(4)]], deleted=[1])
    report = import_recording(source, tmp_path / "out")
    assert (report.exit_code, report.steps, len(report.episodes)) == (0, 3, 2)
    assert any("deleted" in note for note in report.notes)


@pytest.mark.req("R-EPISODE-42")
@pytest.mark.parametrize(
    ("build", "code"),
    [
        (lambda d: tub(d, [[row(0), row(1)]], deleted=[0, 1]), "IMPORT-008"),
        (lambda d: tub(d, [[]]), "IMPORT-008"),
        (lambda d: (d.mkdir(), d)[1], "IMPORT-001"),
        (lambda d: (d.mkdir(), (d / "notes.txt").write_text("hello"), d)[2], "IMPORT-001"),
        (lambda d: d, "IMPORT-001"),
        (lambda d: (d.write_bytes(b"\x1f\x8b broken"), d)[1], "IMPORT-001"),
        (lambda d: (tub(d, [[row(0)]]), (d / "manifest.json").write_text('["a'), d)[2], "TUB-001"),
        (lambda d: (tub(d, [[row(0)]]), (d / "manifest.json").write_text("{}"), d)[2], "TUB-001"),
        (lambda d: (tub(d, [[row(0)]]), (d / "manifest.json").write_text("[" * 200_000), d)[2], "TUB-001"),
        (lambda d: tub(d, [[row(i, _timestamp_ms=START_MS - 50 * i) for i in range(9)]]), "TUB-002"),
        (lambda d: tub(d, [[row(i, **{"user/mode": "local"}) for i in range(3)]]), "IMPORT-008"),
        (lambda d: tub(d, [[]], images={"1_cam_image_array_.jpg": b"left"}), "IMPORT-008"),
        (lambda d: (tub(d / "a", [[row(0)]]), tub(d / "b", [[row(0)]]), d)[2], "IMPORT-002"),
    ],
)  # fmt: skip
def test_what_holds_nothing_usable_is_refused_with_exit_1(tmp_path, build, code):
    source = build(tmp_path / "source")
    with pytest.raises(DataError, match=code) as caught:
        import_recording(source, tmp_path / "out")
    assert caught.value.exit_code == 1
    assert not list((tmp_path).glob("out/*"))


def test_a_packed_tub_imports_as_the_folder_does(tmp_path):
    source = tub(tmp_path / "tub", [[row(i) for i in range(3)]])
    packed = tmp_path / "tub.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(source, "tub")
    plain = import_recording(source, tmp_path / "a")
    unpacked = import_recording(packed, tmp_path / "b")
    assert [p.read_bytes() for p in plain.episodes] == [
        p.read_bytes() for p in unpacked.episodes
    ]


@pytest.mark.req("R-EPISODE-45")
def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    packed = tmp_path / "evil.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        for name in ("../evil.txt", "/tmp/continuon-evil.txt"):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
        link = tarfile.TarInfo("manifest.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with pytest.raises(DataError, match="IMPORT-001"):
        import_recording(packed, tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()
    assert not Path("/tmp/continuon-evil.txt").exists()


@pytest.mark.req("R-EPISODE-45")
def test_what_an_archive_holds_beside_plain_files_is_named_as_lost(tmp_path):
    source = tub(tmp_path / "tub", [[row(i) for i in range(3)]])
    packed = tmp_path / "tub.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(source, "tub")
        archive.addfile(tarfile.TarInfo("../evil.txt"))
        archive.addfile(tarfile.TarInfo("._litter.jpg"))
        link = tarfile.TarInfo("tub/images/7.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    report = import_recording(packed, tmp_path / "out")
    assert (report.exit_code, losses(report)) == (3, {"001": 2})
    assert report.losses[0].text.endswith("../evil.txt, tub/images/7.jpg")


def zipped(source, target):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            archive.write(path, f"tub/{path.relative_to(source)}")
    return target


@pytest.mark.req("R-EPISODE-45")
def test_a_zipped_tub_imports_as_the_folder_does_and_tells_what_it_left(tmp_path):
    source = tub(tmp_path / "tub", [[row(i) for i in range(3)]])
    plain = import_recording(source, tmp_path / "a")
    packed = zipped(source, tmp_path / "tub.bin")  # no suffix is believed
    unpacked = import_recording(packed, tmp_path / "b")
    assert (unpacked.exit_code, losses(unpacked)) == (0, {})
    assert [len(open_recording(p).streams["rgb"]) for p in unpacked.episodes] == [
        len(open_recording(p).streams["rgb"]) for p in plain.episodes
    ]
    with zipfile.ZipFile(packed, "a") as archive:
        link = zipfile.ZipInfo("tub/images/9.jpg")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        for name in ("../evil.txt", "/tmp/continuon-evil.txt", "tub/._x.jpg"):
            archive.writestr(name, b"evil")
    again = import_recording(packed, tmp_path / "c")
    assert (again.exit_code, losses(again)) == (3, {"001": 3})
    assert not (tmp_path / "evil.txt").exists()
    assert not Path("/tmp/continuon-evil.txt").exists()


@pytest.mark.req("R-EPISODE-45")
@pytest.mark.parametrize("place", [0.3, 0.6])
def test_a_damaged_zip_is_named_and_not_taken_for_whole(tmp_path, place):
    source = tub(tmp_path / "tub", [[row(i) for i in range(3)]])
    packed = zipped(source, tmp_path / "tub.zip")
    data = bytearray(packed.read_bytes())
    at = int(place * len(data))
    data[at : at + 40] = bytes(byte ^ 0x55 for byte in data[at : at + 40])
    packed.write_bytes(data)
    with pytest.raises(DataError, match="IMPORT-004"):
        import_recording(packed, tmp_path / "out")


@pytest.mark.req("R-EPISODE-45")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_measured_by_what_comes_out_of_it(tmp_path, monkeypatch, kind):
    source = tub(tmp_path / "tub", [[row(i) for i in range(3)]])
    (source / "big").write_bytes(bytes(100_000))
    packed = tmp_path / "packed"
    if kind == "zip":
        zipped(source, packed)
    else:
        with tarfile.open(packed, "w:gz") as archive:
            archive.add(source, "tub")
    monkeypatch.setattr("continuon.rlds.importers.unpack._MAX_UNPACKED_BYTES", 90_000)
    with pytest.raises(DataError, match="IMPORT-003"):
        import_recording(packed, tmp_path / "out")


def test_an_episode_has_at_least_one_step(tmp_path):
    with pytest.raises(UsageError, match="IMPORT-005"):
        import_recording(tmp_path, tmp_path / "out", episode_steps=0)


@pytest.mark.req("R-EPISODE-32")
def test_stamps_of_a_conversion_are_called_so_and_refused_by_strict(tmp_path):
    rows = [row(i, _timestamp_ms=START_MS + 3 * i) for i in range(20)]
    report = import_recording(tub(tmp_path / "tub", [rows]), tmp_path / "out")
    strict = validate_recording(report.episodes[0])
    assert strict.figures["stamp_source"] == "conversion"
    assert {f.code for f in strict.errors} == {"E-EPISODE-TIME-003"}
    assert validate_recording(report.episodes[0], profile="lenient").ok


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "steps", "stamps"),
    [
        ("tub-garage/dev", 2000, "write"),
        ("tub-usi/dev-track1", 2000, "write"),
        ("tub-donkeycar-test/tub.tar.gz", 1000, "conversion"),
    ],
)
def test_real_tubs_import_without_loss(tmp_path, name, steps, stamps):
    if not (DATA / name).exists():
        pytest.skip("the real recordings are not on this machine")
    report = import_recording(DATA / name, tmp_path, episode_steps=500)
    assert (report.exit_code, report.steps) == (0, steps)
    figures = validate_recording(report.episodes[0], profile="lenient").figures
    assert figures["stamp_source"] == stamps
    assert figures["rgb_size"] == [160, 120]
    assert figures["depth_size"] is None
