"""Save what is whole in recordings that were never finished."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import attrs

from continuon.durable import sync_directory
from continuon.errors import DataError
from continuon.rlds.episode import EndReason
from continuon.rlds.file_sink import FileSink, publish_file
from continuon.rlds.layout import (
    CLOSING,
    PART_SUFFIX,
    SUFFIX,
    Closing,
    closing_table,
    read_closing,
    read_opening,
)
from continuon.rlds.mcap_read import ChunkAt, McapContents, scan_mcap
from continuon.rlds.mcap_write import ChunkEntry, McapWriter, MessageRecord
from continuon.rlds.recording import map_file

_COMPRESSED = "E-RLDS-MCAP-002"
"""Another program's file, which this library neither writes nor mends."""

__all__ = ["Outcome", "RecoveredEpisode", "RecoveryReport", "recover_recordings"]


class Outcome(StrEnum):
    """What became of one file."""

    WHOLE = "whole"
    RECOVERED = "recovered"
    IN_USE = "in_use"
    UNRECOVERABLE = "unrecoverable"


@attrs.frozen(kw_only=True)
class RecoveredEpisode:
    """One file: what was saved from it, and what was lost.

    Attributes:
        saved: samples by stream that are in the finished recording.
        lost: samples by stream that are known to be missing (gaps in the numbering).
        cut_bytes: length of the torn tail that was cut off.
    """

    source: Path
    path: Path | None
    outcome: Outcome
    saved: Mapping[str, int] = attrs.field(factory=dict)
    lost: Mapping[str, int] = attrs.field(factory=dict)
    cut_bytes: int = 0
    text: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "source": str(self.source),
            "path": None if self.path is None else str(self.path),
            "outcome": self.outcome.value,
            "saved": dict(self.saved),
            "lost": dict(self.lost),
            "cut_bytes": self.cut_bytes,
            "text": self.text,
        }


@attrs.frozen
class RecoveryReport:
    """What became of every unfinished or torn recording that was found."""

    episodes: tuple[RecoveredEpisode, ...]

    @property
    def exit_code(self) -> int:
        """0 where nothing was lost, 3 where a tail was cut or a file is beyond help."""
        hurt = any(
            episode.cut_bytes or episode.outcome is Outcome.UNRECOVERABLE
            for episode in self.episodes
        )
        return 3 if hurt else 0

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON."""
        return {
            "episodes": [episode.as_dict() for episode in self.episodes],
            "exit_code": self.exit_code,
        }


def recover_recordings(path: Path) -> RecoveryReport:
    """Finish every `*.mcap.part` at `path`, cut at its last whole chunk.

    A torn `*.mcap` (a copy that broke off) is kept as `*.mcap.torn` and its whole part
    takes its place. A recording that is being written is left alone. Running it again
    after a crash of its own is safe.

    Raises:
        DataError: there is no such file or directory.
    """
    path = Path(path)
    if path.is_dir():
        parts = sorted(path.glob(f"*{PART_SUFFIX}"))
        closed = [file for file in sorted(path.glob(f"*{SUFFIX}")) if _is_torn(file)]
        return RecoveryReport(tuple(map(_recover_file, parts + closed)))
    if not path.is_file():
        raise DataError("E-RLDS-FILE-003", "there is no such file", where=path)
    return RecoveryReport((_recover_file(path),))


def _is_torn(path: Path) -> bool:
    """Return whether a file needs help; what is no MCAP at all is reported with it."""
    if not path.stat().st_size:
        return True
    try:
        return not scan_mcap(map_file(path), verify=False, where=path).is_finished
    except DataError as error:
        return error.code != _COMPRESSED


def _recover_file(source: Path) -> RecoveredEpisode:
    try:
        if source.name.endswith(PART_SUFFIX):
            final = source.with_name(source.name.removesuffix(PART_SUFFIX) + SUFFIX)
            return _finish_part(source, source, final)
        return _replace_torn(source)
    except DataError as error:
        in_use = error.code == "E-RLDS-FILE-001"
        return RecoveredEpisode(
            source=source,
            path=None,
            outcome=Outcome.IN_USE if in_use else Outcome.UNRECOVERABLE,
            text=str(error),
        )


def _replace_torn(source: Path) -> RecoveredEpisode:
    contents = scan_mcap(map_file(source), where=source)
    if contents.is_finished:
        return RecoveredEpisode(
            source=source, path=source, outcome=Outcome.WHOLE, text="nothing to do"
        )
    work = source.with_name(source.name + ".recovering")
    kept = source.with_name(source.name + ".torn")
    shutil.copyfile(source, work)
    try:
        result = _finish_part(source, work, source, keep_as=kept)
    except DataError:
        work.unlink()
        raise
    return result


def _finish_part(
    source: Path, part: Path, final: Path, *, keep_as: Path | None = None
) -> RecoveredEpisode:
    sink = FileSink(part, create=False)
    try:
        data = map_file(part)
        contents = scan_mcap(data, where=source)
        streams = read_opening(contents, where=source).streams
        names = {number: spec.name for number, spec in enumerate(streams, start=1)}
        saved, lost = _tally(contents, names)
        cut = 0
        if not contents.is_finished:
            if not any(saved.values()):
                raise DataError(
                    "E-RLDS-RECOVER-001",
                    "not one whole chunk is in this file",
                    where=source,
                    seen=contents.damage,
                    hint="nothing can be saved from it; delete it",
                )
            cut = _cut_and_close(sink, data, contents, lost, where=source)
        if keep_as is not None:
            publish_file(source, keep_as)
        sink.publish(final)
    finally:
        sink.close()
        sync_directory(part.parent)
    how = f"cut {cut} bytes: {contents.damage}" if cut else "all of it was whole"
    return RecoveredEpisode(
        source=source,
        path=final,
        outcome=Outcome.RECOVERED,
        saved=saved,
        lost=lost,
        cut_bytes=cut,
        text=how,
    )


def _cut_and_close(
    sink: FileSink,
    data: memoryview,
    contents: McapContents,
    lost: Mapping[str, int],
    *,
    where: Path,
) -> int:
    """Cut the torn tail, write the closing records; returns the bytes lost."""
    last = contents.chunks[-1]
    end = last.index_end if last.is_indexed else last.start
    tables = [table for table in contents.tables if table[0] < last.start]
    closing = None
    with contextlib.suppress(DataError):  # torn off or damaged: the usual case here
        closing = read_closing(contents, where=where)
    whole_end = max(last.end, *(at + length for at, length, _ in contents.tables))
    cut = 0 if closing is not None else len(data) - max(whole_end, last.index_end)
    closing = closing or Closing(EndReason.TRUNCATED, dict(lost), cut)
    again = None if last.is_indexed else _messages(data, last)
    sink.truncate(end)
    writer = McapWriter.resume(
        sink,
        size=end,
        statics=contents.statics,
        tables=tables,
        chunks=[
            _entry(at) for at in contents.chunks if at.is_indexed or at is not last
        ],
    )
    if again is not None:
        writer.chunk(again)
    writer.finish(CLOSING, closing_table(closing))
    return cut


def _messages(data: memoryview, chunk: ChunkAt) -> list[MessageRecord]:
    return [
        MessageRecord(
            at.channel,
            at.sequence,
            at.log_ns,
            at.publish_ns,
            [bytes(data[at.start : at.end])],
            at.end - at.start,
        )
        for at in chunk.messages
    ]


def _entry(chunk: ChunkAt) -> ChunkEntry:
    stamps = [at.log_ns for at in chunk.messages]
    size = sum(31 + at.end - at.start for at in chunk.messages)
    return ChunkEntry(
        chunk.start,
        chunk.end - chunk.start,
        min(stamps),
        max(stamps),
        size,
        chunk.index_offsets,
        chunk.index_end - chunk.end,
        Counter(at.channel for at in chunk.messages),
    )


def _tally(
    contents: McapContents, names: Mapping[int, str]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return (samples, gaps in the numbering) by stream."""
    saved = dict.fromkeys(names.values(), 0)
    highest = dict.fromkeys(names.values(), -1)
    for at in contents.messages:
        name = names.get(at.channel)
        if name is not None:
            saved[name] += 1
            highest[name] = max(highest[name], at.sequence)
    lost = {name: highest[name] + 1 - saved[name] for name in saved}
    return saved, lost
