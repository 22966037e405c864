"""A package that is not installed is said to be missing; nothing is called damaged."""

import sys

import numpy as np
import pytest

from continuon._specs.episode.drafts import legal_draft, legal_metadata, write_draft
from continuon.errors import MissingPackageError
from continuon.rlds.episode import Codec, EndReason, StreamSpec
from continuon.rlds.images import decode_jpeg, encode_jpeg
from continuon.rlds.importers.own_times import is_whole_picture
from continuon.rlds.overview import contact_sheet
from continuon.rlds.recorder import EpisodeRecorder
from continuon.rlds.recording import open_recording
from continuon.rlds.steps import steps_of
from continuon.rlds.windows import open_windows

pytestmark = pytest.mark.req("R-EPISODE-97")
PIXELS = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def bare(monkeypatch):
    """Take simplejpeg away, once what needs it for the test was made."""
    return lambda: monkeypatch.setitem(sys.modules, "simplejpeg", None)


def test_a_jpeg_is_not_called_damaged(bare):
    blob = encode_jpeg(PIXELS)
    bare()
    with pytest.raises(MissingPackageError, match=r"continuon\[data\]"):
        decode_jpeg(blob)
    with pytest.raises(MissingPackageError):
        is_whole_picture(blob, Codec.JPEG)


def test_a_page_about_an_episode_is_not_drawn_red(tmp_path, bare):
    steps = steps_of(write_draft(legal_draft(), tmp_path))
    bare()
    with pytest.raises(MissingPackageError):
        contact_sheet(steps, count=2, width=8, height=6)


def test_windows_say_it(tmp_path, bare):
    path = write_draft(legal_draft(), tmp_path)
    bare()
    with pytest.raises(MissingPackageError):
        open_windows(path, length=2)
    assert len(open_windows(path, length=2, columns=("action",))) == 7


def test_a_recorder_says_it_and_finishes_its_file(tmp_path, bare):
    streams = (StreamSpec(name="rgb", codec="jpeg"),)
    recorder = EpisodeRecorder(
        tmp_path, legal_metadata(), streams, lossless_pacing=True
    )
    bare()
    recorder.open()
    recorder.rgb(PIXELS, capture_ns=1)
    with pytest.raises(MissingPackageError):
        recorder.close()
    assert open_recording(recorder.path).end_reason is EndReason.FAULT
