"""`continuon ota`: from a published bundle to the slot that runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from continuon.cli.render import Result
from continuon.errors import DataError, TrustError, UsageError
from continuon.home import Home

__all__ = [
    "activate",
    "check",
    "commit",
    "delegate",
    "fetch",
    "publish",
    "recover",
    "rollback",
    "stage",
    "status",
]

HomeDir = Annotated[
    Path | None, Parameter(help="The device's root; default CONTINUON_HOME.")
]
Keys = Annotated[
    Sequence[Path] | None,
    Parameter(help="Trusted public keys; default keys/release.pub.pem of the home."),
]
Retry = Annotated[
    bool, Parameter(help="Try again a bundle that failed on this robot before.")
]
Channel = Annotated[str, Parameter(help="Which list of offers.")]
Repository = Annotated[str | None, Parameter(help="The repository's directory or URL.")]


def publish(
    bundle: Path,
    *,
    repository: Path,
    keys_dir: Path | None = None,
    key: Keys = None,
    channel: str = "stable",
    publisher: str | None = None,
    publisher_key: Sequence[Path] = (),
    deltas_dir: Path | None = None,
    rollout_percent: float = 100.0,
    home: HomeDir = None,
) -> Result:
    """Verify a bundle and put it on offer; static files, for any web server.

    Parameters
    ----------
    bundle
        A signed bundle.
    repository
        The repository's directory; it is made if need be.
    keys_dir
        The repository's private keys; default keys/repository below the home, made
        on first use.
    channel
        Where it is offered.
    publisher
        Sign as this publisher, on its own channels; needs the online keys alone.
    publisher_key
        The publisher's private keys.
    deltas_dir
        The patches that `continuon bundle build --delta-from` made.
    rollout_percent
        Share of the robots that may have it, by a hash of their names.
    """
    from continuon.bundle import load_private_key, load_public_key
    from continuon.ota import Publisher, load_repository_keys, new_repository_keys
    from continuon.ota import publish as publish_bundle

    root = _home(home)
    folder = keys_dir or root.keys / "repository"
    password = os.environ.get("CONTINUON_KEY_PASSWORD")
    made = not (folder / "online-1.pem").exists()
    load = new_repository_keys if made else load_repository_keys
    report = publish_bundle(
        bundle,
        repository,
        load(folder, password=password),
        bundle_keys=[load_public_key(path) for path in _keys(root, key)],
        channel=channel,
        deltas_dir=deltas_dir,
        rollout_percent=rollout_percent,
        publisher=Publisher(
            publisher,
            tuple(load_private_key(path, password=password) for path in publisher_key),
        )
        if publisher is not None
        else None,
    )
    text = (
        f"published {report.version} (release {report.release_counter}) on "
        f"{report.channel}: {report.new_payload_bytes} new bytes\n"
        f"trust root for robots: {report.root_path}"
    )
    return Result(data=report, text=text)


def delegate(
    name: str,
    *,
    repository: Path,
    publisher_key: Sequence[Path],
    threshold: int = 1,
    keys_dir: Path | None = None,
    home: HomeDir = None,
) -> Result:
    """Let a publisher sign its own channels in a repository; needs the targets keys.

    Parameters
    ----------
    name
        The publisher; its channels are called NAME/CHANNEL.
    repository
        The repository's directory.
    publisher_key
        The publisher's public keys; they take the place of those it had.
    threshold
        How many of them must sign.
    keys_dir
        The repository's private keys; default keys/repository below the home.
    """
    from continuon.bundle import load_public_key
    from continuon.ota import delegate as delegate_to
    from continuon.ota import load_repository_keys

    folder = keys_dir or _home(home).keys / "repository"
    password = os.environ.get("CONTINUON_KEY_PASSWORD")
    versions = delegate_to(
        repository,
        load_repository_keys(folder, password=password),
        name,
        [load_public_key(path) for path in publisher_key],
        threshold=threshold,
    )
    data = {"publisher": name, "metadata_versions": versions}
    return Result(data=data, text=f"{name} signs the channels {name}/* from now on")


def check(
    *,
    repository: Repository = None,
    root: Path | None = None,
    channel: Channel = "stable",
    retry: Retry = False,
    key: Keys = None,
    home: HomeDir = None,
) -> Result:
    """Say which bundle the repository offers, and whether it is one for this robot.

    Parameters
    ----------
    root
        The repository's first root.json; default keys/root.json of the home.
    """
    updater = _updater(home, key, _Remote(repository, root, channel))
    report = updater.check(retry=retry)
    text = (
        f"newer: {report.version} (release {report.release_counter})"
        if report.newer
        else f"nothing to do: {report.why_not}"
    )
    return Result(data=report, text=text)


def fetch(
    *,
    repository: Repository = None,
    root: Path | None = None,
    channel: Channel = "stable",
    no_full: bool = False,
    retry: Retry = False,
    key: Keys = None,
    home: HomeDir = None,
) -> Result:
    """Download the offered bundle, whole and verified; what is there is reused.

    Parameters
    ----------
    root
        The repository's first root.json; default keys/root.json of the home.
    no_full
        Refuse rather than download a whole file where a patch would do.
    """
    updater = _updater(home, key, _Remote(repository, root, channel))
    report = updater.fetch(allow_full=not no_full, retry=retry)
    text = (
        f"fetched {report.version}: {report.fetched_bytes} bytes, "
        f"{report.reused_bytes} reused, {report.resumed_bytes} resumed"
    )
    return Result(data=report, text=text)


def stage(
    source: Path | None = None,
    *,
    retry: Retry = False,
    key: Keys = None,
    home: HomeDir = None,
) -> Result:
    """Verify a bundle into a slot; nothing that runs is touched.

    Parameters
    ----------
    source
        A bundle directory at hand, on a USB stick say; default what was fetched.
    """
    report = _updater(home, key).stage(source, retry=retry)
    text = f"staged {report.version}: {report.directory}"
    if not report.freeze_protection:
        text += (
            "\nno freeze protection: it came by hand, so nobody vouches that there "
            "is no newer one"
        )
    return Result(data=report, text=text)


def activate(*, retry: Retry = False, key: Keys = None, home: HomeDir = None) -> Result:
    """Put the staged slot on trial; the robot's loop switches to it."""
    report = _updater(home, key).activate(retry=retry)
    return Result(data=report, text=f"on trial: {report.bundle}")


def commit(report: Path, *, key: Keys = None, home: HomeDir = None) -> Result:
    """Make the slot on trial the good one, if its measured figures allow it.

    Parameters
    ----------
    report
        The trial's figures as JSON, as the robot's health gate wrote them.
    """
    import msgspec

    from continuon.ota import GateReport

    try:
        figures = msgspec.json.decode(report.read_bytes(), type=GateReport)
    except msgspec.DecodeError as error:
        raise DataError(
            "E-CLI-OTA-003",
            "this is no report of a health gate",
            where=report,
            seen=error,
            hint="the robot writes one at the end of a trial",
        ) from error
    done = _updater(home, key).commit(figures)
    return Result(data=done, text=f"committed {done.version}")


def rollback(
    *,
    reason: str = "asked for by a person",
    evidence: Sequence[Path] = (),
    key: Keys = None,
    home: HomeDir = None,
) -> Result:
    """Return to the last good slot; the failed bundle is kept with its reason.

    Parameters
    ----------
    reason
        Why; it goes into the record.
    evidence
        Files that tell why, such as the gate's report or a log; their ends are kept.
    """
    kept = {path.name: path.read_bytes() for path in evidence}
    done = _updater(home, key).rollback(reason, code="E-OTA-PERSON-001", evidence=kept)
    return Result(data=done, text=f"runs again: {done.active or 'nothing'}")


def status(*, key: Keys = None, home: HomeDir = None) -> Result:
    """Say in five lines what runs, what is good or failed and why, what comes next."""
    trusted = _keys(_home(home), key)
    missing = [path for path in trusted if not path.exists()]
    report = _updater(home, key, trusting=not missing).status()
    if missing:
        step = f"put the publisher's public key at {missing[0]}; {report.next_step}"
        report = attrs.evolve(report, next_step=step)
    return Result(data=report, text="\n".join(report.lines()))


def recover(*, key: Keys = None, home: HomeDir = None) -> Result:
    """Finish or undo what a power cut left; every start of the robot does this."""
    report = _updater(home, key).recover()
    lost = report.rolled_back is not None or bool(report.lost)
    return Result(data=report, exit_code=3 if lost else 0)


def _home(home: Path | None) -> Home:
    return Home(home) if home is not None else Home.from_environment()


def _keys(home: Home, key: Sequence[Path] | None) -> list[Path]:
    return list(key) if key else [home.keys / "release.pub.pem"]


@attrs.frozen
class _Remote:
    """A repository as the command line names it."""

    repository: str | None
    root: Path | None
    channel: str


def _updater(
    home: Path | None,
    key: Sequence[Path] | None,
    remote: _Remote | None = None,
    *,
    trusting: bool = True,
) -> Any:
    import continuon
    from continuon.bundle import load_public_key
    from continuon.ota import Device, Updater
    from continuon.ota.robot_files import RobotFiles
    from continuon.ota.robot_senses import known_senses

    place = _home(home)
    senses = known_senses(place.state)
    robot = RobotFiles(place.keys, place.state)
    downloader = _downloader(place, robot, remote) if remote else None
    paths = _keys(place, key) if trusting else []
    keys = [load_public_key(path) for path in paths]
    return Updater(
        place.model,
        keys,
        repository=downloader,
        device=Device(library_version=continuon.__version__, senses=senses),
        entitlement=robot.entitlement(),
    )


def _downloader(place: Home, robot: Any, remote: _Remote) -> Any:
    from continuon.ota import Downloader

    if remote.repository is None:
        raise UsageError(
            "E-CLI-OTA-001",
            "no repository was named",
            hint="--repository DIRECTORY or URL, or set it in continuon.toml",
        )
    trust = remote.root or place.keys / "root.json"
    if not trust.is_file():
        # As with a missing key: the words were right, but nothing can be trusted.
        raise TrustError(
            "E-CLI-OTA-002",
            "this robot has no trust root for the repository",
            where=trust,
            hint="copy the repository's metadata/1.root.json there, by hand",
        )
    identity = robot.identity()
    return Downloader(
        remote.repository,
        trust.read_bytes(),
        place.model / "tuf",
        channel=remote.channel,
        robot_id=identity.robot_id if identity else None,
    )
