"""Where a run's training state is kept between updates, so that a killed one goes on.

On one machine it is one checked file. On a mesh it is an Orbax folder: every host
writes its own shards, in the background and to a bucket if that is where the output
goes, and a step counts only once all of it is there.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from continuon.errors import DataError, MissingPackageError, UsageError
from continuon.learn.remote import fetch_file, is_url, remove_file, send_file

if TYPE_CHECKING:
    from continuon.learn.update import Training

__all__ = ["FileStore", "OrbaxStore", "RunStore", "orbax_store"]

_KEPT = 2
_BUCKETS = ("gs://", "s3://")
Saved = tuple["Training", list[Any]]


class RunStore(Protocol):
    """Keeps the training state of one run, told by the digest of what decides it."""

    def load(self, like: Training, *, run: str) -> Saved | None:
        """Return the newest whole state of this run and its loss curve, else None."""
        ...

    def save(self, state: Training, *, run: str, rows: list[Any]) -> None:
        """Keep a state; what was kept before stays until this one is whole."""
        ...

    def close(self, *, finished: bool) -> None:
        """Wait for what is being written."""
        ...


@attrs.frozen
class FileStore:
    """One file beside the output; with `url`, also behind it after each save.

    Attributes:
        path: of the file; it goes when the run has finished.
        url: of the folder whose copy of it outlives this machine.
    """

    path: Path
    url: str | None = None

    def load(self, like: Training, *, run: str) -> Saved | None:
        """See `RunStore`.

        Raises:
            DataError: the file is this run's and yet torn or of other shapes.
        """
        from continuon.learn.resume import load_training

        if self.url is not None and not self.path.exists():
            fetch_file(f"{self.url}/{self.path.name}", self.path)
        return load_training(self.path, like, run=run)

    def save(self, state: Training, *, run: str, rows: list[Any]) -> None:
        """See `RunStore`."""
        from continuon.learn.resume import save_training

        save_training(self.path, state, run=run, rows=rows)
        if self.url is not None:
            send_file(self.path, f"{self.url}/{self.path.name}")

    def close(self, *, finished: bool) -> None:
        """See `RunStore`; a finished run leaves no state behind."""
        if not finished:
            return
        self.path.unlink(missing_ok=True)
        if self.url is not None:
            remove_file(f"{self.url}/{self.path.name}")


@attrs.frozen
class OrbaxStore:
    """An Orbax checkpoint folder; made by `orbax_store`."""

    manager: Any
    orbax: Any

    def load(self, like: Training, *, run: str) -> Saved | None:
        """See `RunStore`.

        Raises:
            DataError: E-LEARN-RESUME-002, the state is this run's and cannot be read.
        """
        import jax

        step = self.manager.latest_step()
        if step is None:
            return None
        args = self.orbax.args
        about = self.manager.restore(step, args=args.Composite(run=args.JsonRestore()))
        if about.run.get("run") != run:
            return None
        shape: Any = jax.ShapeDtypeStruct
        wanted = jax.tree.map(
            lambda leaf: shape(leaf.shape, leaf.dtype, sharding=leaf.sharding), like
        )
        try:
            held = self.manager.restore(
                step, args=args.Composite(state=args.StandardRestore(wanted))
            )
        except (ValueError, OSError) as error:
            raise DataError(
                "E-LEARN-RESUME-002",
                "the saved training state cannot be read",
                where=self.manager.directory / str(step),
                seen=str(error).splitlines()[0],
                hint="delete that step's folder: the one before it is then taken",
            ) from error
        return held.state, list(about.run["rows"])

    def save(self, state: Training, *, run: str, rows: list[Any]) -> None:
        """See `RunStore`; returns once the state is copied off the devices."""
        args = self.orbax.args
        self.manager.save(
            int(state.step),
            args=args.Composite(
                state=args.StandardSave(state),
                run=args.JsonSave({"run": run, "rows": rows}),
            ),
        )

    def close(self, *, finished: bool) -> None:  # noqa: ARG002
        """See `RunStore`; a finished run's last state stays."""
        self.manager.wait_until_finished()
        self.manager.close()


def orbax_store(folder: Path | str) -> OrbaxStore:
    """Return the store in a local folder or a bucket.

    Raises:
        MissingPackageError: Orbax is absent.
        UsageError: E-LEARN-STORE-001, Orbax writes to no such place.
    """
    if is_url(folder) and not str(folder).startswith(_BUCKETS):
        raise UsageError(
            "E-LEARN-STORE-001",
            "many hosts cannot keep their training state behind this protocol",
            seen=str(folder),
            allowed=f"a local folder that all hosts share, {', '.join(_BUCKETS)}",
        )
    try:
        ocp: Any = import_module("orbax.checkpoint")
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "orbax-checkpoint", "tpu", purpose="training on many devices"
        ) from error
    where = str(folder) if is_url(folder) else Path(folder).absolute()
    options = ocp.CheckpointManagerOptions(max_to_keep=_KEPT, create=True)
    manager = ocp.CheckpointManager(where, options=options, item_names=("state", "run"))
    return OrbaxStore(manager, ocp)
