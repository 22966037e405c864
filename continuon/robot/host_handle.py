"""The supervisor's end of a policy host: start it, learn whether it may drive."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import attrs
import msgspec

from continuon.errors import BudgetError, ContinuonError, error_from_dict
from continuon.robot.channel import channel_pair
from continuon.robot.policy_host import HostConfig

__all__ = ["HostHandle"]

_END_TIMEOUT_S = 5.0


@attrs.define(eq=False)
class HostHandle:
    """A host that has prepared its policy and waits for the loop.

    Attributes:
        offer: what the loop must be told of it.
    """

    offer: dict[str, Any]
    _process: subprocess.Popen[bytes]
    _folder: Path

    @classmethod
    def start(cls, config: HostConfig, *, timeout_s: float) -> Self:
        """Start a host and wait until its policy is loaded, warm and checked.

        Raises:
            ContinuonError: it may not drive, in the host's own words;
                E-ROBOT-SWAP-005, the host ended without a word.
            BudgetError: E-ROBOT-SWAP-009, it took longer than `timeout_s`.
        """
        folder = Path(tempfile.mkdtemp(prefix="continuon-host-"))
        config = attrs.evolve(config, socket_path=str(folder / "link"))
        mine, theirs = channel_pair()
        command = [sys.executable, "-m", "continuon.robot.policy_host"]
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*command, "--fd", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=os.environ | threads,
        )
        theirs.close()
        handle = cls({}, process, folder)
        try:
            mine.send(msgspec.to_builtins(config))
            message = mine.receive(timeout_s=timeout_s)
            if "error" in message:
                raise error_from_dict(message["error"])
        except TimeoutError:
            handle.close()
            raise BudgetError(
                "E-ROBOT-SWAP-009",
                "the policy was not ready in time",
                allowed=f"{timeout_s:g} s",
                where=config.artifact_dir,
            ) from None
        except (EOFError, ConnectionError):
            code = handle.close()
            raise ContinuonError(
                "E-ROBOT-SWAP-005",
                "the policy's process ended before it was ready",
                seen=f"exit status {code}",
                where=config.artifact_dir,
                hint="the previous policy goes on driving; look at the bundle",
            ) from None
        except ContinuonError:
            handle.close()
            raise
        finally:
            mine.close()
        handle.offer = {"path": config.socket_path, **message}
        return handle

    @property
    def alive(self) -> bool:
        """Whether the process runs; one that has ended is reaped."""
        if self._process.poll() is None:
            return True
        shutil.rmtree(self._folder, ignore_errors=True)
        return False

    @property
    def pid(self) -> int:
        """The host's process id."""
        return self._process.pid

    def close(self) -> int:
        """End the process; returns its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            code = self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
        return code
