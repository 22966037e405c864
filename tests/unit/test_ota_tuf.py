import datetime as dt
import json
import os
import shutil
import threading
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("tuf")

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from continuon.clock import ManualClock
from continuon.errors import DataError, TrustError
from continuon.ota.client import RepositoryClient
from continuon.ota.metadata_io import MetadataDirectory
from continuon.ota.source_io import DirectorySource
from continuon.ota.tuf_cli import main

DAY = dt.timedelta(days=1)
NOW = dt.datetime(2026, 9, 1, tzinfo=dt.UTC)
NOW_NS = int(NOW.timestamp()) * 10**9


class Repository:
    """A small TUF repository that can be told to misbehave."""

    def __init__(self, path, *, now=NOW):
        self.path, self.now = path, now
        self.signers = {
            role: [CryptoSigner.generate_ecdsa()]
            for role in ("root", "timestamp", "snapshot", "targets")
        }
        self.root = Root(consistent_snapshot=True, expires=now + 365 * DAY)
        for role, signers in self.signers.items():
            self.root.add_key(signers[0].public_key, role)
        self.targets = Targets(expires=now + 90 * DAY)
        self.snapshot = Snapshot(expires=now + 30 * DAY)
        self.timestamp = Timestamp(expires=now + 7 * DAY)
        self.delegated = {}
        for folder in ("metadata", "targets"):
            (path / folder).mkdir(parents=True)
        self.write("root", self.root, self.signers["root"])
        self.add("file.txt", b"content")
        self.release(bump=False)

    def sign(self, signed, signers):
        metadata = Metadata(signed)
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def write(self, role, signed, signers):
        name = f"{signed.version}.{quote(role, safe='')}.json"
        name = "timestamp.json" if role == "timestamp" else name
        (self.path / "metadata" / name).write_bytes(self.sign(signed, signers))

    def add(self, path, data, into=None):
        info = TargetFile.from_data(path, data, ["sha256"])
        (into or self.targets).targets[path] = info
        folder, _, name = path.rpartition("/")
        target = self.path / "targets" / folder / f"{info.hashes['sha256']}.{name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def delegate(self, name, paths, *, parent=None, terminating=False):
        signer = CryptoSigner.generate_ed25519()
        holder = self.delegated[parent][0] if parent else self.targets
        if holder.delegations is None:
            holder.delegations = Delegations({}, {})
        role = DelegatedRole(name, [], 1, terminating, paths)
        holder.delegations.roles[name] = role
        holder.add_key(signer.public_key, name)
        child = Targets(expires=self.now + 30 * DAY)
        self.delegated[name] = (child, signer)
        return child

    def release(self, *, bump=True):
        for signed in (self.targets, self.snapshot, self.timestamp):
            signed.version += bump
        self.write("targets", self.targets, self.signers["targets"])
        self.snapshot.meta = {"targets.json": MetaFile(version=self.targets.version)}
        for name, (child, signer) in self.delegated.items():
            self.write(name, child, [signer])
            self.snapshot.meta[f"{name}.json"] = MetaFile(version=child.version)
        self.write("snapshot", self.snapshot, self.signers["snapshot"])
        self.timestamp.snapshot_meta = MetaFile(version=self.snapshot.version)
        self.write("timestamp", self.timestamp, self.signers["timestamp"])

    def rotate(self, *, keep_old=True, version=None):
        """Replace the root key; sign with both unless told otherwise."""
        fresh = CryptoSigner.generate_ecdsa()
        old = self.signers["root"]
        self.root.revoke_key(old[0].public_key.keyid, "root")
        self.root.add_key(fresh.public_key, "root")
        self.root.version = version or self.root.version + 1
        self.write("root", self.root, [*old, fresh] if keep_old else [fresh])
        self.signers["root"] = [fresh]

    def serve(self, url_path):
        return (self.path / url_path).read_bytes()


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "repository")


@pytest.fixture
def client(repository, tmp_path):
    root = (repository.path / "metadata" / "1.root.json").read_bytes()
    clock = ManualClock(wall_offset_ns=NOW_NS)
    return RepositoryClient(
        DirectorySource(repository.path), tmp_path / "trusted", root, clock
    )


def versions(directory):
    return {
        path.stem: json.loads(path.read_bytes())["signed"]["version"]
        for path in directory.glob("*.json")
    }


def test_a_target_is_read_after_a_full_refresh(client):
    assert client.read_targets("file.txt") == {"file.txt": b"content"}
    assert versions(client.metadata_dir) == {
        "root": 1,
        "timestamp": 1,
        "snapshot": 1,
        "targets": 1,
    }
    with pytest.raises(DataError, match="TUF-003"):
        client.read_targets("other.txt")


@pytest.mark.req("R-OTA-09")
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_metadata_that_goes_back_is_refused(client, repository, role):
    shutil.copytree(repository.path, repository.path.with_name("old"))
    repository.release()
    client.read_targets("file.txt")
    signed = getattr(repository, role)
    signed.version -= 1
    if role != "timestamp":
        repository.timestamp.version += 1
    if role == "targets":
        repository.snapshot.version += 1
    meta = {"targets.json": MetaFile(version=repository.targets.version)}
    repository.snapshot.meta = meta
    for name in ("targets", "snapshot"):
        repository.write(name, getattr(repository, name), repository.signers[name])
    repository.timestamp.snapshot_meta = MetaFile(version=repository.snapshot.version)
    repository.write("timestamp", repository.timestamp, repository.signers["timestamp"])
    with pytest.raises(TrustError, match="TUF-001"):
        client.read_targets("file.txt")
    assert versions(client.metadata_dir)[role] == 2


@pytest.mark.req("R-OTA-09")
@pytest.mark.parametrize(
    ("role", "days"),
    [("timestamp", 8), ("snapshot", 31), ("targets", 91), ("root", 366)],
)
def test_a_frozen_repository_is_noticed_when_its_metadata_expires(
    client, repository, role, days
):
    client.read_targets("file.txt")
    for name in ("timestamp", "snapshot", "targets", "root"):
        if name != role:
            getattr(repository, name).expires = NOW + 1000 * DAY
    repository.root.version += 1
    repository.write("root", repository.root, repository.signers["root"])
    repository.release()
    client.clock.advance_ns(days * 86400 * 10**9)
    with pytest.raises(TrustError, match="TUF-002"):
        client.read_targets("file.txt")


@pytest.mark.req("R-OTA-16")
def test_a_clock_that_is_turned_back_does_not_thaw_expired_metadata(
    client, repository, tmp_path
):
    import attrs

    late = NOW_NS + 8 * 86400 * 10**9
    floored = attrs.evolve(client, clock=ManualClock(), t_floor_ns=late)
    with pytest.raises(TrustError, match="TUF-002"):
        floored.read_targets("file.txt")
    assert attrs.evolve(client, clock=ManualClock()).read_targets("file.txt")


@pytest.mark.req("R-OTA-09")
def test_a_rotated_root_is_followed_and_a_forged_one_is_not(client, repository):
    client.read_targets("file.txt")
    repository.rotate()
    client.read_targets("file.txt")
    assert versions(client.metadata_dir)["root"] == 2
    repository.rotate(keep_old=False)
    with pytest.raises(TrustError, match="TUF-001"):
        client.read_targets("file.txt")
    assert versions(client.metadata_dir)["root"] == 2


@pytest.mark.req("R-OTA-09")
def test_a_root_version_that_is_skipped_or_repeated_is_refused(client, repository):
    repository.rotate(version=3)
    (repository.path / "metadata" / "3.root.json").rename(
        repository.path / "metadata" / "2.root.json"
    )
    with pytest.raises(TrustError, match="TUF-001"):
        client.read_targets("file.txt")


@pytest.mark.req("R-OTA-09")
@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_a_key_that_is_not_the_roles_own_is_refused(client, repository, role):
    client.read_targets("file.txt")
    repository.signers[role] = [CryptoSigner.generate_ecdsa()]
    if role == "root":
        repository.root.version += 1
        repository.write("root", repository.root, repository.signers["root"])
    repository.release()
    with pytest.raises(TrustError, match="TUF-001"):
        client.read_targets("file.txt")


@pytest.mark.req("R-OTA-09")
def test_one_signature_below_the_threshold_is_refused(client, repository):
    second = CryptoSigner.generate_ed25519()
    repository.root.add_key(second.public_key, "targets")
    repository.root.roles["targets"].threshold = 2
    repository.root.version += 1
    repository.write("root", repository.root, repository.signers["root"])
    repository.release()
    with pytest.raises(TrustError, match="TUF-001"):
        client.read_targets("file.txt")
    repository.signers["targets"].append(second)
    repository.release()
    assert client.read_targets("file.txt")
    repository.signers["targets"] = [second, second]
    repository.release()
    with pytest.raises(TrustError, match="TUF-001"):
        client.read_targets("file.txt")


@pytest.mark.req("R-OTA-09")
def test_targets_of_another_snapshot_are_not_mixed_in(client, repository):
    metadata = repository.path / "metadata"
    repository.add("new.txt", b"new")
    repository.targets.version += 1
    repository.write("targets", repository.targets, repository.signers["targets"])
    shutil.copy(metadata / "2.targets.json", metadata / "1.targets.json")
    with pytest.raises(TrustError, match="TUF-001"):
        client.read_targets("new.txt")


@pytest.mark.req("R-OTA-09")
def test_a_target_with_other_bytes_is_refused(client, repository):
    for path in (repository.path / "targets").glob("*.file.txt"):
        path.write_bytes(b"CONTENT")
    with pytest.raises(TrustError, match="TUF-001"):
        client.read_targets("file.txt")


@pytest.mark.req("R-OTA-13")
def test_endless_metadata_is_refused(client, repository):
    path = repository.path / "metadata" / "timestamp.json"
    path.write_bytes(path.read_bytes() + b" " * (1 << 20))
    with pytest.raises((TrustError, DataError)):
        client.read_targets("file.txt")


def cli(repository, tmp_path, *command, base=()):
    return main([*base, "--metadata-dir", str(tmp_path / "m"), *command])


@pytest.fixture
def web(repository):
    """The repository behind a loopback web server."""
    import http.server
    import threading

    class Bucket(http.server.BaseHTTPRequestHandler):
        """Serve keys as they were asked for, without decoding them, as a bucket does."""

        def do_GET(self):
            path = repository.path / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            data = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(web, repository, tmp_path):
    base = ["--metadata-url", f"{web}/metadata", "--metadata-dir", str(tmp_path / "m")]

    def call(command, *names):
        extra = [part for name in names for part in ("--target-name", name)]
        if names:
            extra += [
                "--target-dir",
                str(tmp_path / "t"),
                "--target-base-url",
                f"{web}/targets",
            ]
        return main([*base, *extra, command])

    root = tmp_path / "initial_root.json"
    root.write_bytes((repository.path / "metadata" / "1.root.json").read_bytes())
    assert main(["--metadata-dir", str(tmp_path / "m"), "init", str(root)]) == 0
    repository.now = dt.datetime.now(dt.UTC)
    for role in ("root", "timestamp", "snapshot", "targets"):
        getattr(repository, role).expires = repository.now + 30 * DAY
    repository.release()
    return call


@pytest.mark.req("R-OTA-11")
def test_init_stores_the_root_as_it_was_given(repository, tmp_path):
    root = repository.path / "metadata" / "1.root.json"
    assert main(["--metadata-dir", str(tmp_path / "m"), "init", str(root)]) == 0
    assert (tmp_path / "m" / "root.json").read_bytes() == root.read_bytes()
    assert [path.name for path in (tmp_path / "m").glob("*.json")] == ["root.json"]


@pytest.mark.req("R-OTA-11")
def test_a_file_that_is_no_trusted_root_is_refused_with_status_1(
    repository, tmp_path, capsys
):
    timestamp = repository.path / "metadata" / "timestamp.json"
    forged = tmp_path / "forged.json"
    forged.write_bytes(
        (repository.path / "metadata" / "1.root.json")
        .read_bytes()
        .replace(b'"version":1', b'"version":2')
    )
    for path in (timestamp, forged, tmp_path / "none.json"):
        assert main(["--metadata-dir", str(tmp_path / "m"), "init", str(path)]) == 1
    assert capsys.readouterr().err


@pytest.mark.req("R-OTA-11")
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["refresh"],
        ["--metadata-dir", "x", "refresh"],
        ["--metadata-dir", "x", "dance"],
    ],
)
def test_a_usage_error_exits_with_1_too(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 1


@pytest.mark.req("R-OTA-11")
def test_refresh_leaves_every_role_as_it_was_served(run, repository, tmp_path):
    assert run("refresh") == 0
    assert versions(tmp_path / "m") == {
        "root": 1,
        "timestamp": 2,
        "snapshot": 2,
        "targets": 2,
    }
    served = repository.path / "metadata"
    assert (tmp_path / "m" / "timestamp.json").read_bytes() == (
        served / "timestamp.json"
    ).read_bytes()
    assert (tmp_path / "m" / "targets.json").read_bytes() == (
        served / "2.targets.json"
    ).read_bytes()


@pytest.mark.req("R-OTA-11")
def test_targets_are_downloaded_and_not_downloaded_again(run, repository, tmp_path):
    repository.add("dir/odd name%20.txt", b"odd")
    repository.release()
    assert run("download", "file.txt") == 0
    assert [path.read_bytes() for path in (tmp_path / "t").iterdir()] == [b"content"]
    for path in (repository.path / "targets").glob("*.file.txt"):
        path.unlink()
    assert run("download", "file.txt") == 0
    assert run("download", "file.txt", "none.txt") == 1


@pytest.mark.req("R-OTA-11")
def test_a_new_root_stays_trusted_although_the_timestamp_is_refused(
    run, repository, tmp_path
):
    assert run("refresh") == 0
    repository.rotate()
    repository.timestamp.version -= 1
    repository.write("timestamp", repository.timestamp, repository.signers["timestamp"])
    assert run("refresh") == 1
    assert versions(tmp_path / "m")["root"] == 2
    assert versions(tmp_path / "m")["timestamp"] == 2


@pytest.mark.req("R-OTA-11")
def test_delegations_are_walked_in_order_and_end_where_told(run, repository, tmp_path):
    one = repository.delegate("one", ["a*"])
    two = repository.delegate("two", ["*"])
    repository.add("a.txt", b"from one", into=one)
    repository.add("a.txt", b"from two", into=two)
    repository.add("b.txt", b"from two only", into=two)
    deep = repository.delegate("quoted/../role", ["c*"], parent="two")
    repository.add("c.txt", b"deep", into=deep)
    repository.release()
    assert run("download", "a.txt", "b.txt", "c.txt") == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()} == {
        "a.txt": b"from one", "b.txt": b"from two only", "c.txt": b"deep",
    }  # fmt: skip
    assert {"one", "two", "quoted%2F..%2Frole"} <= set(versions(tmp_path / "m"))


@pytest.mark.req("R-OTA-11")
@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_trust_continues_from_what_is_on_disk(run, repository, tmp_path, role):
    assert run("refresh") == 0
    (tmp_path / "m" / f"{role}.json").unlink()
    assert run("refresh") == 0
    assert versions(tmp_path / "m")[role] == 2


CONFORMANCE = (
    Path(__file__).parents[3]
    / "shared/data/crypto-vectors/tuf/conformance/tuf-on-ci-0.11"
)


@pytest.mark.req("R-OTA-11")
@pytest.mark.skipif(
    not CONFORMANCE.is_dir(), reason="the public repository is not here"
)
def test_a_public_tuf_on_ci_repository_is_accepted_at_its_own_time(tmp_path):
    text = (CONFORMANCE / "faketime").read_text().strip()
    when = dt.datetime.fromisoformat(text.replace("Z", "+00:00").lstrip("@"))
    when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
    clock = ManualClock(wall_offset_ns=int(when.timestamp()) * 10**9)
    target = (CONFORMANCE / "targetpath").read_text().strip()
    client = RepositoryClient(
        DirectorySource(CONFORMANCE),
        tmp_path / "m",
        (CONFORMANCE / "initial_root.json").read_bytes(),
        clock,
    )
    assert client.read_targets(target)[target]


@pytest.mark.req("R-OTA-10")
def test_a_process_that_dies_anywhere_leaves_the_old_metadata_or_the_new(
    tmp_path, monkeypatch
):
    """Raise at each of the commit's own system calls in turn."""

    class Killed(BaseException):
        pass

    def seed(path):
        with MetadataDirectory(path).working_copy() as copy:
            for name in ("root", "timestamp"):
                (copy / f"{name}.json").write_text("old")

    def update(path):
        with MetadataDirectory(path).working_copy() as copy:
            for name in ("root", "timestamp", "snapshot"):
                (copy / f"{name}.json").unlink(missing_ok=True)
                (copy / f"{name}.json").write_text("new")

    points = 0
    while True:
        path = tmp_path / str(points)
        seed(path)
        left = points

        def trap(original):
            def call(*arguments, **keywords):
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                return original(*arguments, **keywords)

            return call

        with monkeypatch.context() as patch:
            for owner, name in (
                (Path, "rename"),
                (Path, "symlink_to"),
                (Path, "unlink"),
                (os, "fsync"),
            ):
                patch.setattr(owner, name, trap(getattr(owner, name)))
            try:
                update(path)
                finished = True
            except Killed:
                finished = False
        texts = {
            name: (path / name).read_text() for name in MetadataDirectory(path).names()
        }
        assert texts in (
            {"root.json": "old", "timestamp.json": "old"},
            {"root.json": "new", "timestamp.json": "new", "snapshot.json": "new"},
        )
        update(path)
        assert {
            (path / name).read_text() for name in MetadataDirectory(path).names()
        } == {"new"}
        points += 1
        if finished:
            break
    assert points > 5


@pytest.mark.req("R-OTA-10")
def test_a_switch_that_a_power_cut_takes_back_still_leads_to_whole_metadata(tmp_path):
    """The link's rename is flushed with what comes next; until then the old is kept."""
    directory = MetadataDirectory(tmp_path)

    def write(text):
        with directory.working_copy() as copy:
            (copy / "root.json").unlink(missing_ok=True)
            (copy / "root.json").write_text(text)

    for number in range(4):
        before = (tmp_path / ".current").readlink() if number else None
        write(f"version {number}")
        after = (tmp_path / ".current").readlink()
        if before is not None:
            directory._link(".current", str(before))
            assert (tmp_path / "root.json").read_text() == f"version {number - 1}"
            directory._link(".current", str(after))
        assert (tmp_path / "root.json").read_text() == f"version {number}"
        assert len(list(tmp_path.glob(".gen-*"))) <= 2
    kept = (tmp_path / ".current").readlink()
    write("version 3")
    assert (tmp_path / ".current").readlink() == kept
    assert len(list(tmp_path.glob(".gen-*"))) <= 2


@pytest.mark.req("R-OTA-10")
def test_a_copy_that_lost_its_root_is_never_committed(tmp_path):
    """A full disk can end python-tuf between taking the root away and replacing it."""
    directory = MetadataDirectory(tmp_path)
    with directory.working_copy() as copy:
        (copy / "root.json").write_text("second root")

    def half_done():
        with directory.working_copy() as copy:
            (copy / "root.json").unlink()
            (copy / "timestamp.json").write_text("newer")
            raise OSError(28, "full")

    with pytest.raises(OSError, match="full"):
        half_done()
    assert (tmp_path / "root.json").read_text() == "second root"
    assert directory.names() == ("root.json",)


@pytest.mark.req("R-OTA-10")
def test_of_two_refreshes_at_once_the_later_never_brings_older_trust_back(tmp_path):
    directory = MetadataDirectory(tmp_path / "m")

    def trust(version):
        with directory.working_copy() as copy:
            (copy / "root.json").write_bytes(b"%d" % version)

    other = threading.Thread(target=trust, args=(2,))
    with directory.working_copy() as copy:
        (copy / "root.json").write_bytes(b"1")
        other.start()
        other.join(0.2)  # without the lock it has ended by now
    other.join()
    assert (tmp_path / "m" / "root.json").read_bytes() == b"2"
