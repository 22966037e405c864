"""A process that holds one policy: loads, warms, checks it, and steps it on request.

Everything that takes long or takes the interpreter happens here, before the loop has
heard of the policy. It ends when the loop closes its connection.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy as np

from continuon.errors import ContinuonError
from continuon.robot.channel import Channel
from continuon.robot.policies import ActiveModel, load_checked
from continuon.robot.realtime import Wishes, make_real_time
from continuon.robot.remote_policy import (
    ANSWER,
    DRIVE,
    MAX_PACKET_BYTES,
    QUESTION,
    RESET,
    RemoteSpec,
)

__all__ = ["HostConfig", "listen", "main", "prepare", "serve"]

_ACCEPT_TIMEOUT_S = 60.0


@attrs.frozen(kw_only=True)
class HostConfig:
    """What one host holds.

    Attributes:
        artifact_dir, backend: the policy.
        loader: `module:function` of (directory, backend) -> (policy, golden check).
        action_count: channels of the robot's action.
        socket_path: where the loop will connect.
        fifo_priority: SCHED_FIFO priority once it drives; 0 asks for none.
        lock_memory: ask for mlockall once it is prepared.
    """

    artifact_dir: str
    backend: str
    loader: str
    action_count: int
    socket_path: str = ""
    fifo_priority: int = 0
    lock_memory: bool = False


def prepare(config: HostConfig) -> ActiveModel:
    """Return the policy, loaded, warmed and golden-checked.

    Raises:
        ContinuonError: it may not drive; E-ROBOT-SWAP-005 where it cannot be loaded.
    """
    module, _, name = config.loader.partition(":")
    try:
        return load_checked(
            getattr(import_module(module), name),
            config.artifact_dir,
            config.backend,
            serial=0,
            action_count=config.action_count,
        )
    except ContinuonError:
        raise
    except (OSError, ValueError, TypeError, KeyError, ImportError) as error:
        raise ContinuonError(
            "E-ROBOT-SWAP-005",
            f"the policy could not be loaded: {type(error).__name__}: {error}",
            where=config.artifact_dir,
            hint="the previous policy goes on driving; look at the bundle",
        ) from error


def listen(path: str) -> socket.socket:
    """Return a packet socket that waits for the loop at `path`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(1)
    listener.settimeout(_ACCEPT_TIMEOUT_S)
    return listener


def serve(
    policy: Any, link: socket.socket, *, on_drive: Callable[[], object] = lambda: None
) -> None:
    """Answer until the other end closes; a step that raises is answered with why."""
    spec = RemoteSpec.like(policy.spec)
    while data := link.recv(MAX_PACKET_BYTES + QUESTION.size):
        number, kind = QUESTION.unpack_from(data)
        if kind == RESET:
            policy.reset()
            continue
        if kind == DRIVE:
            on_drive()
            continue
        given = spec.unpack(data, QUESTION.size)
        image, proprio = given.pop("image", None), given.pop("proprio", None)
        try:
            output = policy.step(image, proprio, **given)
            action = np.ascontiguousarray(output.action, "<f4").tobytes()
            answer = ANSWER.pack(number, 0, float(output.surprise)) + action
        except (ContinuonError, ValueError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}".encode()[:1000]
            answer = ANSWER.pack(number, 1, 0.0) + reason
        link.send(answer)


def _yield_time() -> None:
    """From now on run in the time that nobody else wants."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def main(argv: list[str] | None = None) -> int:
    """Run one host; its settings come as the channel's first message."""
    parser = argparse.ArgumentParser(prog="continuon.robot.policy_host")
    parser.add_argument("--fd", type=int, required=True)
    channel = Channel.from_fd(parser.parse_args(argv).fd)
    config = msgspec.convert(channel.receive(), HostConfig)
    if make_real_time(Wishes(priority=config.fifo_priority)).fifo:
        # It will be granted again.
        _yield_time()
    try:
        model = prepare(config)
        spec = RemoteSpec.of(model.policy.spec)
    except ContinuonError as error:
        channel.send({"error": error.as_dict()})
        return error.exit_code
    listener = listen(config.socket_path)
    # While it only thinks along, whatever drives comes first.
    below = min(1, config.fifo_priority)
    make_real_time(Wishes(priority=below, lock_memory=config.lock_memory))
    gc.collect()
    gc.freeze()
    gc.disable()
    channel.send({"figures": model.as_dict(), "spec": msgspec.to_builtins(spec)})
    with contextlib.suppress(TimeoutError, ConnectionError):
        link, _ = listener.accept()
        Path(config.socket_path).unlink()
        link.settimeout(None)
        equal = Wishes(priority=config.fifo_priority)
        serve(model.policy, link, on_drive=partial(make_real_time, equal))
    # Giving its memory back takes long, and must not compete with whoever drives now.
    _yield_time()
    return 0


if __name__ == "__main__":
    sys.exit(main())
