"""Kill or refuse a fetch at each of its state-changing system calls, one at a time.

Needs `strace`. The victim is the shipping updater with a repository of static files: it
refreshes the trusted metadata, commits it, fetches, stages and activates. After
each injection the device must still run its good bundle, must trust nothing older than
before, and must take the very same update in a new process.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from continuon._specs.stager.sweep import INJECT, Sweep, points_in, run_sweep
from continuon.bundle import (
    build_bundle,
    generate_key,
    load_public_key,
    sign_bundle,
)
from continuon.errors import ContinuonError
from continuon.ota import (
    Downloader,
    GateReport,
    Updater,
    generate_repository_keys,
    publish,
)

ROLES = ("root", "timestamp", "snapshot", "targets")


def device(folder: Path) -> Updater:
    """Return the device below `folder` as a fresh process would."""
    model = folder / "model"
    repository = Downloader(
        folder / "repository", (folder / "root.json").read_bytes(), model / "tuf"
    )
    key = load_public_key(folder / "release.pub.pem")
    return Updater(model, [key], repository=repository)


def prepare(folder: Path) -> Path:
    """Make a device that runs release 1, and a repository that offers release 2."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    key, keys = generate_key(), generate_repository_keys()
    (folder / "release.pub.pem").write_bytes(key.public.pem)
    for number in (1, 2):
        artifacts = folder / f"artifacts{number}"
        artifacts.mkdir()
        (artifacts / "policy.tflite").write_bytes(b"TFL3" * 30_000 * number)
        for name in ("spec.json", "golden.json"):
            (artifacts / name).write_bytes(b"{}")
        info = build_bundle(
            folder / f"bundle{number}",
            artifacts_dir=artifacts,
            model_name="sweep",
            version=f"1.0.{number}",
            release_counter=number,
            source="sweep",
            created_at_unix_ms=1,
            origins=["synthetic"],
        )
        sign_bundle(info.directory, [key])
        published = publish(
            info.directory, folder / "repository", keys, bundle_keys=[key.public]
        )
        if number == 1:
            (folder / "root.json").write_bytes(published.root_path.read_bytes())
            update(device(folder))
            commit(device(folder))
    return folder


def update(updater: Updater) -> None:
    """Fetch, stage and activate what is on offer."""
    updater.fetch()
    updater.stage()
    updater.activate()


def commit(updater: Updater) -> None:
    """Commit what is on trial, with figures that no gate refuses."""
    trial = updater.slots.load().trial
    assert trial is not None, "nothing is on trial"
    updater.commit(
        GateReport(
            bundle=trial.bundle,
            golden_max_error=0.0,
            latency_p99_ms=1.0,
            ticks=9999,
            veto_fraction=0.0,
            non_finite=0,
            missed_periods=0,
            elapsed_s=1.0,
        )
    )


def trusted(folder: Path) -> dict[str, int]:
    """Return the version of each role in the trusted metadata, -1 for none."""
    found = {}
    for role in ROLES:
        path = folder / "model" / "tuf" / f"{role}.json"
        whole = json.loads(path.read_bytes()) if path.exists() else None
        found[role] = whole["signed"]["version"] if whole else -1
    return found


def command(folder: Path) -> list[str]:
    """Return the victim's command line."""
    return [sys.executable, "-IB", "-m", __spec__.name, "victim", str(folder)]


def sweep(
    scratch: Path,
    mode: str,
    *,
    every: int = 1,
    points: Sequence[tuple[str, int]] | None = None,
) -> Sweep:
    """Inject at every point, or at those named, and judge what is left."""
    found = Sweep()
    seed, work = prepare(scratch / "seed"), scratch / "work"
    _renew(seed, work)
    chosen = points_in(command(work), work / "model") if points is None else points
    for name, ordinal in chosen[::every]:
        _renew(seed, work)
        before = trusted(work)
        inject = f"inject={name}:{INJECT[mode]}:when={ordinal}"
        quiet = ["strace", "-qq", "-o", "/dev/null", "-f", "-e", f"trace={name}"]
        run = [*quiet, "-e", inject, *command(work)]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        found.points += 1
        found.took_effect += done.returncode != 0
        try:
            assert "Traceback" not in done.stderr, done.stderr[-200:]
            judge(work, before)
        except (AssertionError, ContinuonError, OSError, ValueError) as error:
            found.bad.append(f"{name} {ordinal}: {type(error).__name__}: {error}")
    return found


def _renew(seed: Path, work: Path) -> None:
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(seed, work, symlinks=True)


def judge(folder: Path, before: dict[str, int]) -> None:
    """Start again, compare, and take the same update."""
    updater = device(folder)
    updater.recover()
    record = updater.slots.load()
    good = record.good
    assert good is not None, "no good bundle is left"
    updater.installed.verify(updater.installed.slot_dir(good), expected=good)
    after = trusted(folder)
    older = [role for role in ROLES if after[role] < before[role]]
    assert not older, f"trusts older metadata than before: {older}"
    if record.trial is None:
        update(updater)
    commit(device(folder))
    assert device(folder).slots.load().release_high == 2


def main(arguments: list[str]) -> int:
    """Sweep once and print what was found; return 1 if anything was bad."""
    if arguments[:1] == ["victim"]:
        try:
            update(device(Path(arguments[1])))
        except ContinuonError as error:
            print(error.code)
            return 1
        return 0
    return run_sweep(sweep, arguments, __spec__.name, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
