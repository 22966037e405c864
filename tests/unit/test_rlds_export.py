"""Anonymised export: what is not allowed by name does not leave."""

import json

import attrs
import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.errors import DataError, UsageError
from continuon.rlds.episode import Share, StreamSpec
from continuon.rlds.export import export_episodes, pseudonym
from continuon.rlds.images import decode_depth_png, decode_jpeg, encode_jpeg
from continuon.rlds.png16 import encode_depth_png
from continuon.rlds.png_file import png_chunk
from continuon.rlds.recording import open_recording
from continuon.rlds.scrub import bare_jpeg, bare_png

SECRET = b"0123456789abcdef-test"
PLANTED = "Xk7PLANTEDq9"


def planted_jpeg(image):
    data = encode_jpeg(image)
    mark = PLANTED.encode()
    exif = b"\xff\xe1" + (2 + 6 + len(mark)).to_bytes(2, "big") + b"Exif\0\0" + mark
    note = b"\xff\xfe" + (2 + len(mark)).to_bytes(2, "big") + mark
    return data[:2] + exif + note + data[2:] + mark


def planted_png(depth):
    data = encode_depth_png(depth)
    text = png_chunk(b"tEXt", b"Author\0" + PLANTED.encode())
    return data[:33] + text + data[33:] + PLANTED.encode()


def planted_draft(episode_id="a"):
    draft = legal_draft(3)
    metadata = legal_metadata(
        episode_id=f"{PLANTED}-{episode_id}",
        environment_id=PLANTED,
        robot_id=PLANTED,
        robot_model=PLANTED,
        frame_convention=PLANTED,
        task=PLANTED,
        tags=(f"instruction:{PLANTED}",),
        software={PLANTED: PLANTED},
        provenance=dict.fromkeys(
            ("source_name", "stamp_source", "format", "source_origin"), PLANTED
        ),
        capabilities=(PLANTED,),
        owner=PLANTED,
        share=Share(license=PLANTED),
    )
    streams = list(draft.streams)
    streams[0] = attrs.evolve(streams[0], clock=PLANTED)
    streams[2] = attrs.evolve(streams[2], names=(PLANTED,))
    image, depth = np.zeros((12, 16, 3), np.uint8), np.ones((12, 16), np.uint16)
    samples = dict(draft.samples)
    samples["rgb"] = tuple(
        (at, planted_jpeg(image + i)) for i, (at, _) in enumerate(samples["rgb"])
    )
    samples["depth"] = tuple((at, planted_png(depth)) for at, _ in samples["depth"])
    return attrs.evolve(
        draft, metadata=metadata, streams=tuple(streams), samples=samples
    )


@pytest.fixture
def source(tmp_path):
    directory = tmp_path / "in"
    directory.mkdir()
    for name in ("a", "b"):
        write_draft(planted_draft(name), directory)
    return directory


@pytest.mark.req("R-EPISODE-60")
def test_what_was_once_simulated_says_so_after_an_export_too(tmp_path):
    draft = legal_draft(3)
    metadata = attrs.evolve(
        draft.metadata, origin="imported", provenance={"source_origin": "simulated"}
    )
    (tmp_path / "in").mkdir()
    write_draft(attrs.evolve(draft, metadata=metadata), tmp_path / "in")
    report = export_episodes(
        tmp_path / "in", tmp_path / "out", secret=SECRET, origin_tag="pi5"
    )
    facts = open_recording(report.episodes[0]).metadata.provenance
    assert facts["source_origin"] == "simulated"


@pytest.mark.req("R-EPISODE-60")
def test_a_planted_secret_is_nowhere_in_the_output(tmp_path, source):
    report = export_episodes(source, tmp_path / "out", secret=SECRET, origin_tag="pi5")
    assert report.exit_code == 0
    for path in (tmp_path / "out").iterdir():
        assert PLANTED not in path.name
        content = path.read_bytes()
        assert PLANTED.encode() not in content
        assert SECRET not in content
        assert str(tmp_path).encode() not in content


@pytest.mark.req("R-EPISODE-62")
def test_two_go_in_and_two_come_out_with_pixels_values_and_origin(tmp_path, source):
    report = export_episodes(source, tmp_path / "out", secret=SECRET, origin_tag="pi5")
    assert len(set(report.episodes)) == 2
    before = open_recording(min(source.iterdir()))
    after = open_recording(
        tmp_path
        / "out"
        / f"episode-{pseudonym(SECRET, 'episode', f'{PLANTED}-a')}.mcap"
    )
    assert after.metadata.origin is before.metadata.origin
    for name, stream in before.streams.items():
        copy = after.streams[name]
        np.testing.assert_array_equal(copy.vectors, stream.vectors)
        np.testing.assert_array_equal(
            np.diff(copy.capture_ns), np.diff(stream.capture_ns)
        )
    np.testing.assert_array_equal(
        decode_jpeg(after.streams["rgb"].blob(2)),
        decode_jpeg(encode_jpeg(np.full((12, 16, 3), 2, np.uint8))),
    )
    assert decode_depth_png(after.streams["depth"].blob(0)).max() == 1


@pytest.mark.req("R-EPISODE-61")
def test_the_same_secret_gives_the_same_bytes_and_another_gives_other_names(
    tmp_path, source
):
    runs = [
        export_episodes(source, tmp_path / name, secret=secret, origin_tag="pi5")
        for name, secret in (("1", SECRET), ("2", SECRET), ("3", SECRET + b"!"))
    ]
    contents = [
        [path.read_bytes() for path in (*run.episodes, run.manifest_path)]
        for run in runs
    ]
    assert contents[0] == contents[1]
    assert {p.name for p in runs[0].episodes}.isdisjoint(
        p.name for p in runs[2].episodes
    )


def test_the_manifest_names_each_file_with_its_digest_and_the_origin_tag(
    tmp_path, source
):
    report = export_episodes(source, tmp_path / "out", secret=SECRET, origin_tag="pi5")
    manifest = json.loads(report.manifest_path.read_bytes())
    assert manifest["origin_tag"] == "pi5"
    assert manifest["package_id"] == report.package_id
    assert {entry["path"] for entry in manifest["episodes"]} == {
        path.name for path in report.episodes
    }
    assert manifest["capture_window_utc_days"] == [19675, 19675]


@pytest.mark.req("R-EPISODE-62")
def test_a_public_episode_that_is_not_cleared_is_held_back_by_pseudonym(
    tmp_path, source
):
    metadata = legal_metadata(episode_id="open", share=Share(public=True))
    write_draft(attrs.evolve(legal_draft(2), metadata=metadata), source)
    report = export_episodes(source, tmp_path / "out", secret=SECRET, origin_tag="x")
    assert report.exit_code == 3
    assert [item.code for item in report.skipped] == ["E-RLDS-EXPORT-006"]
    assert b"open.mcap" not in report.manifest_path.read_bytes()


def test_a_stream_that_is_not_on_the_list_holds_its_episode_back(tmp_path):
    (tmp_path / "in").mkdir()
    draft = legal_draft(2)
    extra = StreamSpec(name="audio", codec="vector", names=("x",))
    write_draft(attrs.evolve(draft, streams=(*draft.streams, extra)), tmp_path / "in")
    with pytest.raises(DataError, match=r"EXPORT-004.*EXPORT-005"):
        export_episodes(
            tmp_path / "in", tmp_path / "out", secret=SECRET, origin_tag="x"
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("secret", "tag", "code"),
    [
        (b"short", "x", "EXPORT-001"),
        (SECRET, "a/b", "EXPORT-002"),
        (SECRET, "", "EXPORT-002"),
    ],
)
def test_a_weak_secret_or_a_telling_tag_is_refused(tmp_path, source, secret, tag, code):
    with pytest.raises(UsageError, match=code):
        export_episodes(source, tmp_path / "out", secret=secret, origin_tag=tag)


def test_an_export_is_never_overwritten(tmp_path, source):
    export_episodes(source, tmp_path / "out", secret=SECRET, origin_tag="x")
    with pytest.raises(DataError, match="EXPORT-003"):
        export_episodes(source, tmp_path / "out", secret=SECRET, origin_tag="x")


@pytest.mark.parametrize("bare", [bare_jpeg, bare_png])
def test_a_torn_picture_is_not_passed_on(bare):
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    whole = (
        encode_jpeg(image)
        if bare is bare_jpeg
        else encode_depth_png(image[..., 0].astype(np.uint16))
    )
    bare(whole)
    for size in range(len(whole)):
        with pytest.raises(DataError, match="SCRUB-001"):
            bare(whole[:size])


def test_one_episode_that_cannot_be_copied_is_held_back_and_leaves_no_file(tmp_path):
    """A command that is not a number stops its own episode, not the export."""
    (tmp_path / "in").mkdir()
    draft = legal_draft(8)
    write_draft(draft, tmp_path / "in")
    stamp, _ = draft.samples["action"][2]
    bad = (stamp, np.array([np.nan, 0.1], np.float32))
    actions = (*draft.samples["action"][:2], bad, *draft.samples["action"][3:])
    metadata = legal_metadata(episode_id="bad")
    samples = {**draft.samples, "action": actions}
    write_draft(
        attrs.evolve(draft, metadata=metadata, samples=samples), tmp_path / "in"
    )
    report = export_episodes(
        tmp_path / "in", tmp_path / "out", secret=SECRET, origin_tag="pi5"
    )
    assert [item.code for item in report.skipped] == ["E-RLDS-ACTION-001"]
    assert (len(report.episodes), report.exit_code) == (1, 3)
    assert len(list((tmp_path / "out").iterdir())) == 2
