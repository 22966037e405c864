"""Write a whole recording at once from samples that are at hand: no threads, no drops.

For copies (export, cuts, joins): nothing is encoded again, an error of the disk is
raised where it happens, and the file is there whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from continuon.errors import DataError
from continuon.rlds.episode import EndReason
from continuon.rlds.episode_log import EpisodeLog
from continuon.rlds.file_sink import FileSink
from continuon.rlds.layout import PART_SUFFIX, SUFFIX, Opening
from continuon.rlds.payloads import check_time
from continuon.rlds.recorder import RecordingSummary
from continuon.rlds.sample_queue import Sample

__all__ = ["write_recording"]


def write_recording(
    directory: Path,
    opening: Opening,
    samples: Iterable[Sample],
    *,
    end_reason: EndReason,
    drops: Mapping[str, int] | None = None,
) -> RecordingSummary:
    """Write `<episode_id>.mcap`; returns its summary.

    Args:
        directory: where it will stand; made if absent.
        opening: metadata, and the streams whose channel is their number from 1.
        samples: in the order in which they shall lie in the file, pictures encoded.
        end_reason: why the episode ended.
        drops: samples by stream that it lacks.

    Raises:
        ContractError: a time that a file cannot hold.
        DataError: there is such an episode already.
        OSError: the disk refused; nothing remains of the file then.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    name = opening.metadata.episode_id
    final, part = directory / f"{name}{SUFFIX}", directory / f"{name}{PART_SUFFIX}"
    for path in (final, part):
        if path.exists():
            raise DataError(
                "E-RLDS-RECORD-001",
                "this episode exists already, and nothing recorded is overwritten",
                where=path,
                hint="take a new episode id, or another folder",
            )
    numbers = {spec.name: i for i, spec in enumerate(opening.streams, start=1)}
    names = {number: name for name, number in numbers.items()}
    sink = FileSink(part)
    try:
        log = EpisodeLog(sink, opening)
        log.open()
        for sample in samples:
            check_time(names.get(sample.channel, "clock_offset"), sample.capture_ns)
            log.add(sample)
        log.flush()
        lost = {numbers[name]: count for name, count in (drops or {}).items()}
        total = log.finish(end_reason, lost)
        counts = log.counts()
        sink.publish(final)
    except BaseException:
        sink.close()
        part.unlink(missing_ok=True)
        raise
    return RecordingSummary(
        path=final,
        episode_id=name,
        end_reason=end_reason,
        counts={name: counts.get(number, 0) for name, number in numbers.items()},
        drops=total,
        bytes=log.size,
    )
