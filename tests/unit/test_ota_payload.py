import contextlib
import hashlib
import socket
import threading

import pytest

from continuon.clock import ManualClock
from continuon.errors import BudgetError, DataError, TrustError, UsageError
from continuon.ota.payload_io import FetchLimits, fetch_payload, payload_path
from continuon.ota.source_io import DirectorySource, Stream, open_source

DATA = bytes(range(256)) * 40
DIGEST = hashlib.sha256(DATA).hexdigest()


class Scripted:
    """A source that serves what it is told to, counting what it was asked for."""

    name = "scripted"

    def __init__(self, data=DATA, *, stop_at=None, ranges=True, tick=None):
        self.data, self.stop_at, self.ranges, self.tick = data, stop_at, ranges, tick
        self.offsets = []

    @contextlib.contextmanager
    def open(self, path, *, offset=0):
        self.offsets.append((path, offset))
        yield Stream(
            offset if self.ranges else 0, self.chunks(offset if self.ranges else 0)
        )

    def chunks(self, start):
        end = len(self.data) if self.stop_at is None else self.stop_at
        for first in range(start, end, 1000):
            if self.tick:
                self.tick()
            yield self.data[first : min(first + 1000, end)]


@pytest.mark.req("R-OTA-12")
def test_a_broken_download_continues_where_it_stopped(tmp_path):
    target = tmp_path / "file"
    with pytest.raises(DataError, match="FETCH-001"):
        fetch_payload(Scripted(stop_at=5500), DIGEST, len(DATA), target)
    assert not target.exists()
    source = Scripted()
    got = fetch_payload(source, DIGEST, len(DATA), target)
    assert source.offsets == [(payload_path(DIGEST), 5500)]
    assert (got.resumed_bytes, got.fetched_bytes) == (5500, len(DATA) - 5500)
    assert target.read_bytes() == DATA
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.slow
@pytest.mark.req("R-OTA-12")
def test_a_web_server_that_drips_is_seen_before_a_whole_chunk_has_come(tmp_path):
    pytest.importorskip("urllib3")
    done = threading.Event()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"

    def drip(server):
        peer, _ = server.accept()
        with peer, contextlib.suppress(OSError):
            peer.recv(1 << 16)
            peer.sendall(head)
            while not done.wait(0.01):
                peer.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        limits = FetchLimits(min_bytes_per_s=512.0, window_s=0.2)
        try:
            with pytest.raises(BudgetError, match="FETCH-003"):
                fetch_payload(
                    open_source(url), DIGEST, 10**6, tmp_path / "file", limits=limits
                )
        finally:
            done.set()
            thread.join()


@pytest.mark.req("R-OTA-12")
def test_a_part_that_is_a_link_is_not_written_through(tmp_path):
    (tmp_path / "file.part").symlink_to(tmp_path / "elsewhere")
    fetch_payload(Scripted(), DIGEST, len(DATA), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == DATA
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.req("R-OTA-12")
def test_a_server_without_ranges_starts_again(tmp_path):
    target = tmp_path / "file"
    (tmp_path / "file.part").write_bytes(b"junk that was here before")
    got = fetch_payload(Scripted(ranges=False), DIGEST, len(DATA), target)
    assert got.resumed_bytes == 0
    assert target.read_bytes() == DATA


@pytest.mark.req("R-OTA-12")
@pytest.mark.parametrize("torn_bytes", [5000, len(DATA)])
def test_a_torn_part_is_thrown_away_and_the_file_fetched_anew(tmp_path, torn_bytes):
    target = tmp_path / "file"
    (tmp_path / "file.part").write_bytes(b"\0" * torn_bytes)
    source = Scripted()
    got = fetch_payload(source, DIGEST, len(DATA), target)
    assert target.read_bytes() == DATA
    assert source.offsets[-1] == (payload_path(DIGEST), 0)
    assert got.resumed_bytes == 0
    assert got.fetched_bytes == 2 * len(DATA) - torn_bytes


@pytest.mark.req("R-OTA-12")
def test_a_forged_file_is_asked_for_once_more_at_most(tmp_path):
    (tmp_path / "file.part").write_bytes(DATA[:700])
    forger = Scripted(b"x" * len(DATA))
    with pytest.raises(TrustError, match="FETCH-004"):
        fetch_payload(forger, DIGEST, len(DATA), tmp_path / "file")
    assert [offset for _, offset in forger.offsets] == [700, 0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.req("R-OTA-13")
def test_endless_data_is_refused_as_it_arrives(tmp_path):
    asked = []
    source = Scripted(DATA * 100, tick=lambda: asked.append(1))
    with pytest.raises(TrustError, match="FETCH-002"):
        fetch_payload(source, DIGEST, len(DATA), tmp_path / "file")
    assert len(asked) == len(DATA) // 1000 + 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.req("R-OTA-13")
def test_a_dripping_server_is_told_from_a_slow_one(tmp_path):
    clock = ManualClock()
    limits = FetchLimits(min_bytes_per_s=500.0, window_s=10.0)
    drip = Scripted(tick=lambda: clock.advance_ns(3 * 10**9))
    with pytest.raises(BudgetError, match="FETCH-003"):
        fetch_payload(
            drip, DIGEST, len(DATA), tmp_path / "file", limits=limits, clock=clock
        )
    assert (tmp_path / "file.part").exists()
    slow = Scripted(tick=lambda: clock.advance_ns(1 * 10**9))
    fetch_payload(
        slow, DIGEST, len(DATA), tmp_path / "file", limits=limits, clock=clock
    )


def test_other_bytes_are_refused(tmp_path):
    with pytest.raises(TrustError, match="FETCH-004"):
        fetch_payload(Scripted(DATA[::-1]), DIGEST, len(DATA), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_a_file(tmp_path):
    digest = hashlib.sha256(b"").hexdigest()
    fetch_payload(Scripted(b""), digest, 0, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b""


def test_a_directory_serves_its_own_files_only(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    source = DirectorySource(tmp_path)
    with source.open("a", offset=4) as stream:
        assert b"".join(stream.chunks) == b"456789"
    with pytest.raises(DataError, match="FETCH-404"), source.open("b"):
        pass
    for path in ("../a", "/etc/passwd", "a//b", "."):
        with pytest.raises(UsageError, match="FETCH-005"), source.open(path):
            pass


def test_only_directories_and_web_addresses_are_repositories(tmp_path):
    assert open_source(f"file://{tmp_path}").name == str(tmp_path)
    assert open_source("https://example.invalid/r").name == "https://example.invalid/r"
    with pytest.raises(UsageError, match="FETCH-005"):
        open_source("ftp://example.invalid")


@pytest.fixture
def served(tmp_path):
    """A web server on loopback with byte ranges, as any bucket has."""
    import http.server
    import threading

    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = tmp_path / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            span = self.headers.get("Range")
            asked.append(span)
            start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
            self.send_response(206 if span else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if span:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}"
                )
            self.end_headers()
            self.wfile.write(data[start:])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", tmp_path, asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.req("R-OTA-12")
def test_a_download_over_http_resumes_by_range(served, tmp_path):
    pytest.importorskip("urllib3")
    address, root, asked = served
    remote = root / payload_path(DIGEST)
    remote.parent.mkdir(parents=True)
    remote.write_bytes(DATA)
    part = tmp_path / "here.part"
    part.write_bytes(DATA[:700])
    got = fetch_payload(open_source(address), DIGEST, len(DATA), tmp_path / "here")
    assert got.resumed_bytes == 700
    assert asked == ["bytes=700-"]
    with pytest.raises(DataError, match="FETCH-404"), open_source(address).open("none"):
        pass
