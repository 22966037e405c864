"""A TUF repository that misbehaves on request, its web server, and two clients of it.

`World` signs and publishes what a test wants, right or wrong. `Client` runs our command
line beside python-tuf itself, each on a directory of its own, and fails where the two
do not end alike: python-tuf is the oracle of every test that uses it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import http.server
import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import attrs
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadError, RepositoryError
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
from tuf.ngclient.updater import Updater

from continuon.ota.tuf_cli import main

__all__ = ["TOP", "Client", "World", "make_signers", "serve"]

TOP = ("root", "timestamp", "snapshot", "targets")
_LIFE = dt.timedelta(days=30)


def make_signers(count: int) -> list[CryptoSigner]:
    """Return new Ed25519 signers."""
    return [CryptoSigner.generate_ed25519() for _ in range(count)]


class World:
    """All metadata of one repository, unsigned as it stands and signed as published.

    `with_hashes` lists lengths and digests of metadata in snapshot and timestamp.
    """

    def __init__(self, *, with_hashes: bool = False) -> None:
        self.with_hashes = with_hashes
        expires = dt.datetime.now(dt.UTC).replace(microsecond=0) + _LIFE
        self.expires = expires
        self.roles: dict[str, Any] = {
            "root": Root(expires=expires, consistent_snapshot=True),
            "timestamp": Timestamp(expires=expires),
            "snapshot": Snapshot(expires=expires),
            "targets": Targets(expires=expires),
        }
        self.signers: dict[str, list[Any]] = {}
        self.served: dict[str, list[bytes]] = {}
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        for role in TOP:
            self.signers[role] = make_signers(1)
            self.root.add_key(self.signers[role][0].public_key, role)
        self.publish(*TOP)

    @property
    def root(self) -> Any:
        """The root metadata as it stands."""
        return self.roles["root"]

    def publish(self, *names: str, bump: bool = True) -> None:
        """Sign roles and serve them, in an order that lists each before its lister."""
        order = ("targets", "snapshot", "timestamp", "root")
        ranked = sorted(names, key=lambda n: order.index(n) if n in order else -1)
        for role in ranked:
            signed = self.roles[role]
            if role in self.served and bump:
                signed.version += 1
            metadata = Metadata(signed)
            for signer in self.signers[role]:
                metadata.sign(signer, append=True)
            data = metadata.to_bytes()
            self.served.setdefault(role, []).append(data)
            facts: dict[str, Any] = {}
            if self.with_hashes:
                facts = {
                    "length": len(data),
                    "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
                }
            if role == "snapshot":
                meta = MetaFile(signed.version, **facts)
                self.roles["timestamp"].snapshot_meta = meta
            elif role not in ("root", "timestamp"):
                meta = MetaFile(signed.version, **facts)
                self.roles["snapshot"].meta[f"{role}.json"] = meta

    def release(self, *names: str) -> None:
        """Publish delegated roles and everything that lists them."""
        self.publish(*names, "targets", "snapshot", "timestamp")

    @contextlib.contextmanager
    def alter(self, role: str) -> Iterator[dict[str, Any]]:
        """Yield what is served last of a role, to be changed behind its signatures."""
        value = json.loads(self.served[role].pop())
        yield value
        self.served[role].append(json.dumps(value).encode())

    def keys_of(
        self, role: str, keys: Iterable[Any], signers: Iterable[Any], *, threshold: int
    ) -> None:
        """Give a role other keys, other signers and a threshold."""
        self.root.roles[role].keyids.clear()
        self.root.roles[role].threshold = threshold
        for signer in keys:
            self.root.add_key(signer.public_key, role)
        self.signers[role] = list(signers)

    def rotate(self, role: str) -> None:
        """Replace a role's keys by a new one."""
        fresh = make_signers(1)
        self.keys_of(role, fresh, fresh, threshold=1)

    def delegate(
        self,
        parent: str,
        name: str,
        paths: Iterable[str] = ("*",),
        *,
        terminating: bool = False,
        signer: Any = None,
    ) -> Any:
        """Let `parent` delegate to `name`; return the delegated targets."""
        holder = self.roles[parent]
        if holder.delegations is None:
            holder.delegations = Delegations({}, {})
        role = DelegatedRole(name, [], 1, terminating, list(paths))
        holder.delegations.roles[name] = role
        chosen = signer or (self.signers.get(name) or make_signers(1))[0]
        holder.add_key(chosen.public_key, name)
        self.signers.setdefault(name, [chosen])
        return self.roles.setdefault(name, Targets(expires=self.expires))

    def add(
        self,
        path: str,
        data: bytes,
        *,
        role: str = "targets",
        algorithms: Iterable[str] = ("sha256",),
    ) -> TargetFile:
        """List a target file and serve it."""
        info = TargetFile.from_data(path, data, list(algorithms))
        self.roles[role].targets[path] = info
        self.files[path] = data
        return info

    def answer(self, path: str) -> bytes | None:
        """Return what a URL path gives, None for 404."""
        kind, _, rest = path.partition("/")
        if kind == "metadata":
            version, _, name = rest.removesuffix(".json").partition(".")
            self.requests.append(rest.removesuffix(".json"))
            if not name:
                found = self.served.get("timestamp")
                return found[-1] if found else None
            index = int(version) - 1
            found = self.served.get(unquote(name), [])
            return found[index] if 0 <= index < len(found) else None
        folder, slash, name = rest.rpartition("/")
        self.requests.append(rest)
        return self.files.get(f"{folder}{slash}{name.partition('.')[2]}")


@contextlib.contextmanager
def serve() -> Iterator[tuple[str, dict[str, World]]]:
    """Yield a loopback address and the worlds below it; the oracle is not counted."""
    worlds: dict[str, World] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, _, path = self.path.lstrip("/").partition("/")
            who, _, path = path.partition("/")
            world = worlds[name]
            before = len(world.requests)
            data = world.answer(path)
            if who == "oracle":
                del world.requests[before:]
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", worlds
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@attrs.define
class Client:
    """Our command line on `folder`, and python-tuf beside it as the oracle."""

    url: str
    folder: Path

    @property
    def metadata(self) -> Path:
        """Where our client keeps what it trusts."""
        return self.folder / "metadata"

    @property
    def targets(self) -> Path:
        """Where our client puts what it downloads."""
        return self.folder / "targets"

    def arguments(self, command: str, *names: str) -> list[str]:
        """Return the words of a refresh or a download."""
        words = ["--metadata-url", f"{self.url}/client/metadata/"]
        words += ["--metadata-dir", str(self.metadata)]
        for name in names:
            words += ["--target-name", name]
        if names:
            words += ["--target-dir", str(self.targets)]
            words += ["--target-base-url", f"{self.url}/client/targets/"]
        return [*words, command]

    def init(self, root: bytes) -> int:
        """Start both clients from a root."""
        for path in (self.metadata, self.targets, self.folder / "oracle" / "t"):
            path.mkdir(parents=True, exist_ok=True)
        trusted = self.folder / "initial_root.json"
        trusted.write_bytes(root)
        oracle = self.folder / "oracle" / "root.json"
        oracle.unlink(missing_ok=True)  # python-tuf's is a link into its history
        oracle.write_bytes(root)
        return main(["--metadata-dir", str(self.metadata), "init", str(trusted)])

    def refresh(self) -> int:
        """Refresh both; return our exit status."""
        return self._both("refresh")

    def download(self, *names: str) -> int:
        """Download with both; return our exit status."""
        return self._both("download", *names)

    def trusted(self) -> dict[str, int]:
        """Return the version of each role that our client trusts."""
        return {
            path.stem: Metadata.from_file(str(path)).signed.version
            for path in sorted(self.metadata.glob("*.json"))
        }

    def contents(self) -> set[bytes]:
        """Return the bytes of all downloaded files."""
        found = [path for path in self.targets.rglob("*") if path.is_file()]
        return {path.read_bytes() for path in found}

    def _both(self, command: str, *names: str) -> int:
        ours = main(self.arguments(command, *names))
        theirs = self._oracle(names)
        assert ours == theirs, f"ours ended with {ours}, the oracle with {theirs}"
        oracle = self.folder / "oracle"
        kept = {path.name: path.read_bytes() for path in oracle.glob("*.json")}
        mine = {path.name: path.read_bytes() for path in self.metadata.glob("*.json")}
        assert mine == kept or not mine, "another trust than the oracle's"
        return ours

    def _oracle(self, names: Iterable[str]) -> int:
        folder = self.folder / "oracle"
        base = f"{self.url}/oracle"
        try:
            updater = Updater(
                str(folder),
                f"{base}/metadata/",
                str(folder / "t"),
                f"{base}/targets/",
                bootstrap=None,
            )
            updater.refresh()
            for name in names:
                target = updater.get_targetinfo(name)
                if target is None:
                    return 1
                path = folder / "t" / hashlib.sha256(name.encode()).hexdigest()
                if updater.find_cached_target(target, str(path)) is None:
                    updater.download_target(target, str(path))
        except (RepositoryError, DownloadError, OSError, ValueError):
            return 1
        return 0


def role_path(name: str) -> str:
    """Return how a role's name stands in a URL and in a file name."""
    return quote(name, safe="")
