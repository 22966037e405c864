"""Messages of a ROS bag (1 or 2) or an MCAP file, one after the other."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs

from continuon.errors import ContinuonError, DataError, MissingPackageError
from continuon.rlds.layout import OPENING
from continuon.rlds.wire import fields

__all__ = ["BagMessage", "BagSource", "mcap_source", "rosbag_source"]

_MAX_SCHEMA_BYTES = 1 << 16


@attrs.frozen(eq=False, kw_only=True)
class BagMessage:
    """One message.

    Attributes:
        kind: its type, as `sensor_msgs/msg/Image` or a schema's name.
        log_ns: when it was recorded.
        value: decoded: a message object, or JSON's bytes; None where it is not known
            how, and `raw` is all there is.
        picture: an encoded picture, where the message is Foxglove's.
    """

    topic: str
    kind: str
    log_ns: int
    raw: bytes
    value: Any = None
    json: bytes | None = None
    picture: bytes | None = None


@attrs.define
class BagSource:
    """A bag that can be walked more than once.

    Attributes:
        damage: why the last walk ended early, None if it did not.
        schemas: by type, what describes messages that are kept as raw bytes.
    """

    walk: Callable[[BagSource], Iterator[BagMessage]]
    damage: str | None = None
    undecoded: int = 0
    schemas: dict[str, str] = attrs.field(factory=dict)

    def messages(self) -> Iterator[BagMessage]:
        """Yield all messages, up to the first damage."""
        self.damage, self.undecoded = None, 0
        walk = self.walk(self)
        while True:
            try:
                message = next(walk)
            except StopIteration:
                return
            except ContinuonError:
                raise
            except Exception as error:  # noqa: BLE001 - others' readers, damaged bytes
                self.damage = f"{type(error).__name__}: {error}"
                return
            yield message


def rosbag_source(path: Path) -> BagSource:
    """Return a ROS 1 bag, a ROS 2 bag's folder, or its SQLite file.

    Raises:
        MissingPackageError: rosbags is not installed.
    """
    highlevel = _rosbags("highlevel")

    def walk(source: BagSource) -> Iterator[BagMessage]:
        with _named(path) as named, highlevel.AnyReader([named]) as reader:
            for connection, log_ns, raw in reader.messages():
                kind = connection.msgtype
                yield BagMessage(
                    topic=connection.topic,
                    kind=kind,
                    log_ns=int(log_ns),
                    raw=bytes(raw),
                    value=_decoded(source, reader.deserialize, raw, kind),
                )

    return BagSource(walk)


@contextmanager
def _named(path: Path) -> Iterator[Path]:
    """Give a file the suffix by which its reader tells the kind; its bytes decide."""
    if path.is_dir():
        yield path
        return
    with path.open("rb") as file:
        suffix = ".bag" if file.read(7) == b"#ROSBAG" else ".db3"
    if path.suffix == suffix:
        yield path
        return
    with TemporaryDirectory(prefix="continuon-bag-") as folder:
        link = Path(folder) / f"{path.stem}{suffix}"
        link.symlink_to(path.resolve())
        yield link


def mcap_source(path: Path) -> BagSource:
    """Return an MCAP file by anyone, whole or torn; chunks may be compressed.

    Raises:
        DataError: it is an episode of this library.
        MissingPackageError: mcap or rosbags is not installed.
    """
    stream_reader, records = _mcap()
    decoder = _CdrDecoder()

    def walk(source: BagSource) -> Iterator[BagMessage]:
        schemas: dict[int, Any] = {}
        channels: dict[int, Any] = {}
        with path.open("rb") as file:
            for record in stream_reader.StreamReader(file, validate_crcs=True).records:
                if isinstance(record, records.Schema):
                    schemas[record.id] = record
                elif isinstance(record, records.Channel):
                    channels[record.id] = record
                elif isinstance(record, records.Metadata):
                    if record.name == OPENING:
                        raise _own(path)
                elif isinstance(record, records.Message):
                    channel = channels[record.channel_id]
                    schema = schemas.get(channel.schema_id)
                    yield _mcap_message(source, record, channel, schema, decoder)

    return BagSource(walk)


def _own(path: Path) -> DataError:
    return DataError(
        "E-RLDS-IMPORT-010",
        "this file is an episode of continuon and needs no import",
        where=path,
        hint="every command that takes episodes reads it as it is",
    )


def _mcap_message(
    source: BagSource, record: Any, channel: Any, schema: Any, decoder: _CdrDecoder
) -> BagMessage:
    kind = schema.name if schema is not None else channel.message_encoding
    encoding = channel.message_encoding
    value = json = picture = None
    if encoding == "json":
        json = record.data
    elif encoding in {"cdr", "ros1"} and schema is not None:
        kind = decoder.type_name(schema)
        decode = partial(decoder.decode, schema, encoding)
        value = _decoded(source, decode, record.data, kind)
    elif encoding == "protobuf" and kind == "foxglove.CompressedImage":
        picture = _protobuf_picture(record.data)
    if value is None and json is None and picture is None and schema is not None:
        packed = base64.b64encode(schema.data[:_MAX_SCHEMA_BYTES]).decode()
        source.schemas[kind] = f"{encoding} {schema.encoding} {packed}"
    return BagMessage(
        topic=channel.topic,
        kind=kind,
        log_ns=record.log_time,
        raw=record.data,
        value=value,
        json=json,
        picture=picture,
    )


def _protobuf_picture(data: bytes) -> bytes | None:
    """Return field 2, the picture, of a foxglove.CompressedImage."""
    try:
        for number, content, _ in fields(memoryview(data)):
            if number == 2 and not isinstance(content, int):
                return bytes(content)
    except DataError:
        return None
    return None


def _decoded(
    source: BagSource, decode: Callable[[Any, str], Any], raw: Any, kind: str
) -> Any:
    """Return a decoded message; None, counted, where its type or bytes do not allow."""
    try:
        return decode(raw, kind)
    except Exception:  # noqa: BLE001 - decoders made from a file's own text
        source.undecoded += 1
        return None


class _CdrDecoder:
    """Decodes messages whose definitions stand in the file."""

    def __init__(self) -> None:
        self._types = _rosbags("typesys")
        self._stores: dict[str, Any] = {}

    def type_name(self, schema: Any) -> str:
        """Return `package/msg/Name`, also for the ROS 1 form `package/Name`."""
        package, _, name = str(schema.name).rpartition("/")
        return f"{package}/{name}" if "/" in package else f"{package}/msg/{name}"

    def decode(self, schema: Any, encoding: str, raw: bytes, kind: str) -> Any:
        """Return a message decoded; raises whatever its definition or bytes cause."""
        key = f"{encoding} {schema.name}"
        if key not in self._stores:
            stores = self._types.Stores
            base = stores.ROS1_NOETIC if encoding == "ros1" else stores.ROS2_HUMBLE
            store = self._types.get_typestore(base)
            known = self._definitions(schema)
            fresh = {k: v for k, v in known.items() if k not in store.fielddefs}
            store.register(fresh)
            self._stores[key] = store
        store = self._stores[key]
        if encoding == "ros1":
            return store.deserialize_ros1(raw, kind)
        return store.deserialize_cdr(raw, kind)

    def _definitions(self, schema: Any) -> Mapping[str, Any]:
        text = schema.data.decode()
        parse = (
            self._types.get_types_from_idl
            if schema.encoding == "ros2idl"
            else lambda t: self._types.get_types_from_msg(t, self.type_name(schema))
        )
        found: Mapping[str, Any] = parse(text)
        return found


def _rosbags(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"rosbags.{module}")
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "rosbags", "ros", purpose="reading ROS bags"
        ) from error


def _mcap() -> tuple[Any, Any]:
    try:
        import mcap.records
        import mcap.stream_reader
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "mcap", "ros", purpose="reading others' MCAP files"
        ) from error
    return mcap.stream_reader, mcap.records
