"""Write episodes as a TFDS data set in ArrayRecord files: random access by episode.

The tables and the records are those of our TFDS directories, the container another:
`tensorflow-datasets` reads it as a data source, without TensorFlow, and so does this
library where the `arrayrecord` extra is installed.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from continuon.durable import replace_file
from continuon.errors import DataError
from continuon.rlds.array_records import array_record_module, read_array_records
from continuon.rlds.exporters.report import FormatReport, build_beside
from continuon.rlds.tfds_index import index_of
from continuon.rlds.tfds_read import TfdsDirectory, open_tfds
from continuon.rlds.tfds_write import convert
from continuon.rlds.tfrecord import read_records

__all__ = ["write_array_record"]

_GROUP = "group_size:1"
"""One record a chunk, as TFDS itself writes: each is read without its neighbours."""


def write_array_record(input_dir: Path, output_dir: Path) -> FormatReport:
    """Write every recording in `input_dir` to `output_dir/continuon/1.0.0`.

    Every record is read back and compared before the directory gets its name.

    Raises:
        DataError: no recording, none usable, the output is not empty, or a record
            reads back differently.
        MissingPackageError: array-record is not installed.
        OSError: the disk refused; nothing is at `output_dir` then.
    """
    module = array_record_module("writing ArrayRecord files")
    output_dir = Path(output_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".continuon-", dir=output_dir.parent) as scratch:
        report = convert(Path(input_dir), Path(scratch))
        source = open_tfds(report.directory)

        def build(work: Path) -> None:
            target = work / source.name / report.directory.name
            target.mkdir(parents=True)
            for number, (shard, _) in enumerate(source.shards):
                name = _shard_name(source, number)
                _rewrite(module, shard, target / name)
            _write_tables(report.directory, target)
            index_of(target, keep=True)

        files, size = build_beside(output_dir, build)
    return FormatReport(
        format="tfds-array-record",
        directory=output_dir,
        episodes=report.episodes,
        steps=report.steps,
        files=files,
        bytes=size,
        skipped=tuple(f"{s.source}: {s.code} {s.text}" for s in report.skipped),
    )


def _shard_name(source: TfdsDirectory, number: int) -> str:
    total = len(source.shards)
    return f"{source.name}-train.array_record-{number:05d}-of-{total:05d}"


def _rewrite(module: Any, shard: Path, target: Path) -> None:
    writer = module.ArrayRecordWriter(str(target), _GROUP)
    for payload in read_records(shard):
        writer.write(bytes(payload))
    writer.close()
    wanted = (bytes(payload) for payload in read_records(shard, verify=False))
    written = (bytes(record) for record in read_array_records(target))
    if any(one != other for one, other in zip_longest(wanted, written)):
        raise DataError(
            "E-RLDS-FORMAT-003",
            "what was written reads back differently",
            where=target,
            hint="the disk or the memory is faulty; nothing was published",
        )


def _write_tables(source: Path, target: Path) -> None:
    info = msgspec.json.decode((source / "dataset_info.json").read_bytes())
    info["fileFormat"] = "array_record"
    encoded = msgspec.json.format(msgspec.json.encode(info))
    replace_file(target / "dataset_info.json", encoded)
    for name in ("features.json", "continuon.json"):
        replace_file(target / name, (source / name).read_bytes())
