"""Write episodes as Rerun recordings, one `.rrd` each, every stream at its own times.

Pictures are `EncodedImage` and `EncodedDepthImage` with the bytes as they are and the
metres of a count as Rerun wants them, counts to a metre; vectors are `Scalars` with
their names; documents are text. Two timelines: `capture` in the recorder's timebase and
`device` where a device stamped too; both in nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import continuon
from continuon.errors import DataError, MissingPackageError
from continuon.rlds.depth_codecs import depth_pngs
from continuon.rlds.episode import metadata_to_json
from continuon.rlds.exporters.report import FormatReport, Omission, build_beside
from continuon.rlds.recording import Recording, Stream, open_recording
from continuon.rlds.steps import recordings_in
from continuon.rlds.vocabulary import Codec

__all__ = ["write_rerun"]

_MEDIA = {Codec.JPEG: "image/jpeg", Codec.PNG: "image/png", Codec.PNG16: "image/png"}


def write_rerun(
    input_dir: Path,
    output_dir: Path,
    *,
    progress: Callable[[int, str], None] | None = None,
) -> FormatReport:
    """Write every recording in `input_dir` as `output_dir/<episode id>.rrd`.

    Streams of blobs have no place in a viewer and are listed.

    Raises:
        DataError: no recording, none that can be read, or the output is not empty.
        MissingPackageError: rerun-sdk is not installed.
        OSError: the disk refused; nothing is at `output_dir` then.
    """
    files = recordings_in(Path(input_dir))
    rerun = _rerun()
    skipped: list[str] = []
    omitted: list[Omission] = []
    counts: list[int] = []

    def build(work: Path) -> None:
        for number, file in enumerate(files):
            try:
                with open_recording(file) as recording:
                    counts.append(_write(rerun, recording, work, omitted))
            except DataError as error:
                skipped.append(f"{file.name}: {error.code} {error.what}")
            if progress is not None:
                progress(number + 1, file.name)
        if not counts:
            raise DataError(
                "E-RLDS-FORMAT-002",
                "not one episode fits this format",
                where=input_dir,
                seen="; ".join(skipped[:3]),
            )

    number, size = build_beside(Path(output_dir), build)
    return FormatReport(
        format="rerun",
        directory=Path(output_dir),
        episodes=len(counts),
        steps=sum(counts),
        files=number,
        bytes=size,
        skipped=tuple(skipped),
        omitted=tuple(omitted),
        notes=(f"written by rerun-sdk {rerun.__version__}",),
    )


def _rerun() -> Any:
    try:
        import rerun
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "rerun-sdk", "viz", purpose="writing Rerun recordings"
        ) from error
    return rerun


def _write(
    rerun: Any, recording: Recording, work: Path, omitted: list[Omission]
) -> int:
    """Write one recording; returns the number of its samples."""
    metadata = recording.metadata
    name = metadata.episode_id
    target = rerun.RecordingStream("continuon", recording_id=name, send_properties=True)
    target.save(str(work / f"{name}.rrd"))
    target.send_recording_name(name)
    facts = metadata_to_json(metadata).decode()
    media = "application/json"
    target.log("metadata", rerun.TextDocument(facts, media_type=media), static=True)
    closing = f"end: {recording.end_reason}; continuon {continuon.__version__}"
    target.log("end", rerun.TextDocument(closing), static=True)
    written = 0
    for stream_name, stream in recording.streams.items():
        if stream.spec.codec in {Codec.BLOB, Codec.AUDIO}:
            if len(stream):
                omitted.append(Omission(f"blobs of {name}/{stream_name}", len(stream)))
            continue
        if len(stream):
            _write_stream(rerun, target, stream_name, stream)
            written += len(stream)
    target.flush()
    target.disconnect()
    return written


def _write_stream(rerun: Any, target: Any, name: str, stream: Stream) -> None:
    times = _times(rerun, stream)
    spec = stream.spec
    path = f"/{name}"
    if spec.codec is Codec.VECTOR:
        names = rerun.SeriesLines(names=list(spec.names))
        target.log(path, names, static=True)
        rows = rerun.Scalars.columns(scalars=stream.vectors.reshape(-1))
        rows = rows.partition(np.full(len(stream), len(spec.names)))
        target.send_columns(path, indexes=times, columns=rows)
        return
    pictures = depth_pngs(stream.blobs) if spec.codec.is_depth else stream.blobs
    blobs = [bytes(blob) for blob in pictures]
    if spec.codec is Codec.DOCUMENT:
        texts = [blob.decode() for blob in blobs]
        rows = rerun.TextDocument.columns(
            text=texts, media_type=["application/json"] * len(texts)
        )
    elif spec.codec.is_depth:
        rows = rerun.EncodedDepthImage.columns(
            blob=blobs,
            media_type=["image/png"] * len(blobs),
            meter=[1.0 / spec.depth_unit_m] * len(blobs),
        )
    else:
        rows = rerun.EncodedImage.columns(
            blob=blobs, media_type=[_MEDIA[spec.codec]] * len(blobs)
        )
    target.send_columns(path, indexes=times, columns=rows)


def _times(rerun: Any, stream: Stream) -> list[Any]:
    """Return the timelines; a device's own where it differs from the capture time."""
    times = [_timeline(rerun, "capture", stream.capture_ns)]
    if not np.array_equal(stream.device_ns, stream.capture_ns):
        times.append(_timeline(rerun, "device", stream.device_ns))
    return times


def _timeline(rerun: Any, name: str, stamps: NDArray[np.int64]) -> Any:
    return rerun.TimeColumn(name, duration=stamps.astype("timedelta64[ns]"))
