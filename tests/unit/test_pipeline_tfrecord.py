"""Phase 6: an export that is there already counts only when it verifies."""

from __future__ import annotations

import pytest

pytest.importorskip("simplejpeg")

from continuon._specs.episode.drafts import legal_draft, write_draft
from continuon.home import Home
from continuon.pipeline.phases.tfrecord import _export
from continuon.pipeline.secret import export_signer
from continuon.rlds.export_manifest import MANIFEST, verify_export


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    home.episodes.mkdir(parents=True)
    write_draft(legal_draft(3), home.episodes)
    return home


def _export_all(home):
    return _export(home, home.export / "pi5", "pi5")


@pytest.mark.req("R-TFRECORD-01")
def test_an_export_that_verifies_is_kept_as_it_is(home):
    (episode,) = _export_all(home).episodes
    before = episode.stat().st_ino
    assert _export_all(home).episodes == (episode,)
    assert episode.stat().st_ino == before


@pytest.mark.req("R-TFRECORD-01")
@pytest.mark.parametrize("damage", ["altered", "emptied", "no manifest", "added"])
def test_an_export_that_does_not_verify_is_made_again(home, damage):
    (episode,) = _export_all(home).episodes
    whole = episode.read_bytes()
    if damage == "altered":
        episode.write_bytes(whole[:200] + b"x" + whole[201:])
    elif damage == "emptied":
        episode.write_bytes(b"")
    elif damage == "no manifest":
        (episode.parent / MANIFEST).unlink()
    else:
        (episode.parent / "more.mcap").write_bytes(whole)
    assert _export_all(home).episodes == (episode,)
    assert episode.read_bytes() == whole
    verify_export(episode.parent, export_signer(home).public)
