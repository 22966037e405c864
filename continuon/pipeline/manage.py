"""The training manager: what is there, what is missing, and the exact next commands."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from continuon.errors import DataError, UsageError
from continuon.home import Home
from continuon.pipeline.gates import Verdict
from continuon.pipeline.phase import MINIMUM_EPISODES
from continuon.pipeline.receipt import read_receipt

__all__ = ["Inventory", "Step", "take_inventory"]

DEFAULT_SESSION = "sim-s0-8s-"
"""How the names of what a bare `continuon record` makes begin."""


@attrs.frozen(kw_only=True)
class Step:
    """One step of the plan: whether it is done, and the commands that do it."""

    name: str
    done: bool
    reason: str
    commands: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Inventory:
    """What lies below a home, counted and not judged."""

    episodes: int
    unfinished: int
    tfrecord_episodes: int
    checkpoints: int
    exported: int
    bundles: int
    steps: tuple[Step, ...]

    @property
    def next_commands(self) -> tuple[str, ...]:
        """The commands of the steps that are not done, in order."""
        return tuple(c for step in self.steps if not step.done for c in step.commands)


def take_inventory(
    home: Home, *, episodes_dir: Path | None = None, tfrecord_dir: Path | None = None
) -> Inventory:
    """Count what is there and name what is missing; writes nothing.

    Raises:
        UsageError: E-PIPE-MANAGE-002, a file stands where a folder is asked for.
        DataError: E-PIPE-MANAGE-001, a damaged dataset_info.json.
    """
    episodes = episodes_dir or home.episodes
    tfrecord = tfrecord_dir or home.tfrecord
    for folder in (home.root, episodes, tfrecord):
        _require_folder(folder)
    recorded = sorted(path.name for path in episodes.glob("*.mcap"))
    unfinished = len(list(episodes.glob("*.mcap.part")))
    converted = _tfrecord_episodes(tfrecord)
    checkpoint = home.checkpoints / "slow" / "policy.hope"
    artifacts = home.checkpoints / "artifacts"
    seed = home.checkpoints / "seed-artifacts"
    bundles = [home.root / "bundles" / name for name in ("seed", "trained")]
    exported = len(list(home.export.rglob("manifest.json")))
    proof = home.root / "proof_of_learning.json"
    steps = (
        _step(
            "recover",
            unfinished == 0,
            f"{unfinished} unfinished recordings",
            ["episodes", "recover", episodes],
        ),
        _step(
            "record",
            len(recorded) >= MINIMUM_EPISODES,
            f"{len(recorded)} of {MINIMUM_EPISODES} episodes",
            ["record", "--output-dir", episodes, "--count", _count(recorded)],
        ),
        _step(
            "prove",
            _proven(proof),
            "a proof of learning" if _proven(proof) else "no proof of learning",
            ["prove", "--rlds-dir", episodes, "--output", proof],
        ),
        _step(
            "convert",
            0 < len(recorded) <= converted,
            f"{converted} of {len(recorded)} episodes are in TFRecord",
            ["convert", "--input-dir", episodes, "--output-dir", tfrecord],
        ),
        _step(
            "export",
            exported > 0,
            f"{exported} anonymised exports",
            [
                *("export", "--episodes-dir", episodes, "--output-dir", home.export),
                *("--home", home.root),
            ],
        ),
        _step(
            "train",
            checkpoint.is_file(),
            "a trained checkpoint" if checkpoint.is_file() else "no trained checkpoint",
            ["train", "--data-path", tfrecord, "--output-dir", checkpoint.parent],
        ),
        _step(
            "compile",
            all((folder / "spec.json").is_file() for folder in (seed, artifacts)),
            f"{len(list(artifacts.glob('policy.*')))} compiled artifacts",
            ["compile", checkpoint.with_name("seed.hope"), "--output-dir", seed],
            ["compile", checkpoint, "--output-dir", artifacts],
        ),
        _step(
            "bundle",
            all((folder / "model.sig").is_file() for folder in bundles),
            f"{sum((b / 'model.sig').is_file() for b in bundles)} of 2 signed bundles",
            *_bundle_commands(home, _origins(tfrecord), proof),
        ),
        _step(
            "deploy",
            _deployed(home),
            "a bundle runs" if _deployed(home) else "no bundle runs",
            ["ota", "stage", bundles[-1], "--home", home.root],
            ["ota", "activate", "--home", home.root],
        ),
        _step(
            "validate",
            _validated(home),
            "validated" if _validated(home) else "not validated",
            ["validate", "--home", home.root],
        ),
    )
    return Inventory(
        episodes=len(recorded),
        unfinished=unfinished,
        tfrecord_episodes=converted,
        checkpoints=int(checkpoint.is_file()),
        exported=exported,
        bundles=len(list((home.root / "bundles").glob("*/edge_manifest.json"))),
        steps=steps,
    )


def _step(name: str, done: bool, reason: str, *lines: list[Any]) -> Step:  # noqa: FBT001
    commands = tuple(shlex.join(["continuon", *map(str, line)]) for line in lines)
    return Step(name=name, done=done, reason=reason, commands=commands)


def _require_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(
            "E-PIPE-MANAGE-002",
            "a file stands where a folder is asked for",
            where=folder,
            hint="name the folder that holds it",
        )


def _count(recorded: list[str]) -> int:
    """Return the --count that fills up to the minimum beside other sessions."""
    others = sum(not name.startswith(DEFAULT_SESSION) for name in recorded)
    return max(MINIMUM_EPISODES - others, 0)


def _bundle_commands(home: Home, origins: list[str], proof: Path) -> list[list[Any]]:
    """Return what makes both bundles: validation drives the seed beside the trained."""
    key = home.keys / "release.pem"
    said = [word for origin in origins or ["ORIGIN"] for word in ("--origins", origin)]
    commands: list[list[Any]] = [] if key.is_file() else [["keys", "new", key]]
    for counter, (name, artifacts, evidence) in enumerate(
        (
            ("seed", "seed-artifacts", []),
            ("trained", "artifacts", ["--evidence", proof]),
        ),
        start=1,
    ):
        bundle = home.root / "bundles" / name
        if (bundle / "model.sig").is_file():
            continue
        places = ("--artifacts-dir", home.checkpoints / artifacts)
        release = ("--version", f"0.{counter}.0", "--release-counter", counter)
        if not bundle.exists():
            commands.append(
                [
                    *("bundle", "build", *places, "--output-dir", bundle, *release),
                    *(*said, *evidence),
                ]
            )
        commands.append(["bundle", "sign", bundle, "--key", key])
    return commands


def _deployed(home: Home) -> bool:
    slots = home.model / "slots"
    return slots.is_dir() and any(slots.iterdir())


def _proven(proof: Path) -> bool:
    if not proof.is_file():
        return False
    return bool(_read(proof, lambda table: table["verdict"]) == "PASSED")


def _validated(home: Home) -> bool:
    receipt = read_receipt(home.reports / "receipts" / "10-validate.json")
    return receipt is not None and receipt.verdict is Verdict.PASSED


def _origins(tfrecord: Path) -> list[str]:
    """Return the origins that the converted episodes say of themselves."""
    found = (
        _read(path, lambda table: table["origins"]) for path in _manifests(tfrecord)
    )
    return sorted({str(origin) for origins in found for origin in origins})


def _manifests(tfrecord: Path) -> list[Path]:
    infos = sorted(tfrecord.rglob("dataset_info.json"))
    return [p for i in infos if (p := i.with_name("manifest.json")).is_file()]


def _tfrecord_episodes(folder: Path) -> int:
    def count(table: Any) -> int:
        return sum(int(n) for split in table["splits"] for n in split["shardLengths"])

    return sum(_read(path, count) for path in folder.rglob("dataset_info.json"))


def _read(path: Path, take: Callable[[Any], Any]) -> Any:
    try:
        return take(json.loads(path.read_text("utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "E-PIPE-MANAGE-001",
            f"this {path.name} is damaged",
            where=path,
            seen=f"{type(error).__name__} {error}",
            hint="remove it and make it again with the command that wrote it",
        ) from error
