"""A file is replaced whole or not at all, whatever step the medium refuses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from continuon.durable import replace_file, sync_directory

STEPS = ("open", "write", "file flush", "rename")


class Refusing:
    """Counts the state-changing calls and refuses one of them."""

    def __init__(self, monkeypatch, refused):
        self.seen = []
        self.refused = refused
        self._wrap(monkeypatch, os, "open", self._name_of_open)
        self._wrap(monkeypatch, os, "fdopen", lambda *_: "write")
        self._wrap(monkeypatch, os, "fsync", self._name_of_flush)
        self._wrap(monkeypatch, Path, "replace", lambda *_: "rename")

    def _name_of_open(self, _path, flags, *_):
        return "folder open" if flags & os.O_DIRECTORY else "open"

    def _name_of_flush(self, handle):
        return (
            "folder flush" if Path(f"/proc/self/fd/{handle}").is_dir() else "file flush"
        )

    def _wrap(self, monkeypatch, owner, name, label):
        real = getattr(owner, name)

        def call(*args, **kwargs):
            step = label(*args)
            self.seen.append(step)
            if step == self.refused:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("step", STEPS)
def test_a_refused_step_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, step):
    path = tmp_path / "record.json"
    replace_file(path, b"old")
    Refusing(monkeypatch, step)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["record.json"]


def test_the_bytes_are_on_the_medium_before_they_take_the_name(tmp_path, monkeypatch):
    log = Refusing(monkeypatch, None)
    replace_file(tmp_path / "record.json", b"new")
    want = ["open", "write", "file flush", "rename", "folder open", "folder flush"]
    assert log.seen == want


def test_parts_are_written_in_order_with_the_mode_asked_for(tmp_path):
    path = tmp_path / "deep" / "secret"
    replace_file(path, b"one ", memoryview(b"two"), mode=0o600)
    assert path.read_bytes() == b"one two"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_is_no_folder_to_flush(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        sync_directory(tmp_path / "file")


def test_a_folder_in_the_way_is_named_itself_and_stays(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        replace_file(tmp_path / "x", b"new")
    assert caught.value.filename == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]
