"""Toy bundles for the simulated disk: a manifest of digests and the files it names."""

from __future__ import annotations

import hashlib

from continuon.errors import TrustError
from continuon.ota.simfs import SimDisk
from continuon.ota.slots import Slots

__all__ = [
    "LAST",
    "LAST_COUNTER",
    "sim_slots",
    "toy_bundle",
    "toy_counter",
    "toy_files",
]

MANIFEST = "edge_manifest.json"
PAYLOAD = ("policy", "safety")


def toy_bundle(number: int) -> tuple[str, dict[str, bytes]]:
    """Return (id, files) of a toy bundle; its id is SHA-256 of its manifest."""
    payload = {name: b"%s%06d" % (name[:1].encode(), number) for name in PAYLOAD}
    digests = [hashlib.sha256(payload[name]).hexdigest() for name in PAYLOAD]
    manifest = " ".join([str(number), *digests]).encode()
    return hashlib.sha256(manifest).hexdigest(), {MANIFEST: manifest, **payload}


def _outside(numbers: range) -> dict[str, bytes]:
    """Return the files of toy bundles as `SimDisk.outside`, keyed `id/path`."""
    return {
        f"{name}/{path}": data
        for name, files in map(toy_bundle, numbers)
        for path, data in files.items()
    }


def toy_files(bundle: str) -> dict[str, str]:
    """Return what `Slots.stage` takes for a toy bundle."""
    return {path: f"{bundle}/{path}" for path in (MANIFEST, *PAYLOAD)}


def toy_counter(bundle: str | None) -> int:
    """Return the number that a toy bundle was made from, -1 for None."""
    return -1 if bundle is None else _NUMBERS[bundle]


def sim_slots(disk: SimDisk) -> Slots:
    """Return the shipping `Slots` on a simulated disk with toy bundles."""

    def check(path: str, bundle: str) -> None:
        files = _contents(disk, path)
        manifest = files.get(MANIFEST, b"")
        if set(files) == {MANIFEST, *PAYLOAD} and _digest(manifest) == bundle:
            digests = manifest.decode("ascii").split(" ")[1:]
            if digests == [_digest(files[name]) for name in PAYLOAD]:
                return
        raise TrustError("E-TEST-TOY-001", "not whole", where=path)

    return Slots(disk, check)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _contents(disk: SimDisk, path: str) -> dict[str, bytes]:
    return {n: disk.read(f"{path}/{n}", max_bytes=1 << 20) for n in disk.entries(path)}


_COUNT = 64
OUTSIDE = _outside(range(_COUNT))
_NUMBERS = {toy_bundle(number)[0]: number for number in range(_COUNT)}
LAST_COUNTER = _COUNT - 1
LAST = toy_bundle(LAST_COUNTER)[0]
