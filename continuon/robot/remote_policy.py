"""A policy in another process, stepped over a packet socket as if it were here.

The loop's end. Nothing is loaded here, so a swap costs the loop one connection and one
reference; a policy that crashes or hangs is one that says nothing.

A question is a head and raw little-endian values (proprio, depth and instruction
float32, image uint8, as far as the policy has them); an answer is a head and the
action float32, or a reason. Numbers match them, so an answer that comes too late is
never taken for a later one's.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import attrs
import numpy as np
from numpy.typing import NDArray

from continuon.errors import ContinuonError, ContractError

__all__ = [
    "ANSWER",
    "DRIVE",
    "MAX_PACKET_BYTES",
    "QUESTION",
    "RESET",
    "STEP",
    "RemoteOutput",
    "RemotePolicy",
    "RemoteSpec",
]

QUESTION = struct.Struct("<IB")
ANSWER = struct.Struct("<IBf")
RESET, STEP, DRIVE = 0, 1, 2
MAX_PACKET_BYTES = 150_000
"""A packet must fit a socket's buffer, 212,992 bytes on Linux unless told otherwise."""


@attrs.frozen(kw_only=True)
class RemoteSpec:
    """What the loop must know of a policy's interface; names as in the edge spec."""

    image_height: int
    image_width: int
    proprio: tuple[str, ...]
    action: tuple[str, ...]
    depth_height: int = 0
    depth_width: int = 0
    instruction_size: int = 0

    @property
    def senses(self) -> tuple[tuple[str, str, tuple[int, ...]], ...]:
        """Name, type and shape of each part of a question, in its order."""
        parts = (
            ("proprio", "<f4", (len(self.proprio),)),
            ("depth", "<f4", (self.depth_height, self.depth_width)),
            ("instruction", "<f4", (self.instruction_size,)),
            ("image", "<u1", (self.image_height, self.image_width, 3)),
        )
        return tuple(part for part in parts if all(part[2]))

    @property
    def question_bytes(self) -> int:
        """Bytes of a question after its head."""
        sizes = (np.dtype(t).itemsize * math.prod(shape) for _, t, shape in self.senses)
        return sum(sizes)

    def pack(self, given: Mapping[str, NDArray[Any] | None]) -> bytes:
        """Return a question's values.

        Raises:
            ContractError: E-ROBOT-POLICY-005, one is missing, too much or mis-shaped.
        """
        parts = []
        wanted = {name: (kind, shape) for name, kind, shape in self.senses}
        for name, value in given.items():
            seen = None if value is None else tuple(value.shape)
            allowed = wanted[name][1] if name in wanted else None
            if seen != allowed:
                raise ContractError(
                    "E-ROBOT-POLICY-005",
                    "what the policy is to be given is not what it takes",
                    where=name,
                    seen="none" if seen is None else list(seen),
                    allowed="none" if allowed is None else list(allowed),
                    hint="give what the policy's spec.json names, as it names it",
                )
        for name, (kind, _) in wanted.items():
            value = given[name]
            assert value is not None  # its shape was compared
            parts.append(np.ascontiguousarray(value, kind).tobytes())
        return b"".join(parts)

    def unpack(self, data: bytes, at: int) -> dict[str, NDArray[Any]]:
        """Return the values of a question that begin at `at`, by name; no copies."""
        given = {}
        for name, kind, shape in self.senses:
            flat = np.frombuffer(data, kind, math.prod(shape), at)
            given[name] = flat.reshape(shape)
            at += flat.nbytes
        return given

    @classmethod
    def like(cls, spec: Any) -> Self:
        """Return the part of a policy's own spec that both ends must know."""
        return cls(
            image_height=spec.image_height,
            image_width=spec.image_width,
            proprio=tuple(spec.proprio),
            action=tuple(spec.action),
            depth_height=spec.depth_height,
            depth_width=spec.depth_width,
            instruction_size=spec.instruction_size,
        )

    @classmethod
    def of(cls, spec: Any) -> Self:
        """Return the part of a policy's own spec that crosses the border.

        Raises:
            ContractError: E-ROBOT-SWAP-008, its observation is too large for that.
        """
        made = cls.like(spec)
        if made.question_bytes > MAX_PACKET_BYTES:
            raise ContractError(
                "E-ROBOT-SWAP-008",
                "the policy's observation is too large to be handed over",
                seen=f"{made.question_bytes} bytes",
                allowed=f"{MAX_PACKET_BYTES} bytes",
            )
        return made


@attrs.frozen
class RemoteOutput:
    """One decision: `action` float32 [channels], and the policy's surprise."""

    action: NDArray[np.float32]
    surprise: float


class RemotePolicy:
    """The loop's end of a policy host; has `spec`, `reset` and `step` of any policy.

    Args:
        spec: its interface.
        link: a connected packet socket.
        timeout_s: an answer that takes longer is none.
    """

    def __init__(
        self, spec: RemoteSpec, link: socket.socket, *, timeout_s: float = 0.1
    ) -> None:
        self.spec = spec
        self._link = link
        self._timeout_s = timeout_s
        self._number = 0
        whole_s = math.floor(timeout_s)
        wait = struct.pack("ll", whole_s, round((timeout_s - whole_s) * 1e6))
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, wait)

    @classmethod
    def connect(cls, path: Path, spec: RemoteSpec, *, timeout_s: float = 0.1) -> Self:
        """Return the policy whose host listens at `path`; never waits.

        Raises:
            OSError: nobody listens there.
        """
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            link.connect(str(path))
        except OSError:
            link.close()
            raise
        return cls(spec, link, timeout_s=timeout_s)

    def reset(self) -> None:
        """Forget everything, as at the start of an episode; never waits."""
        self._send(RESET, b"")

    def drive(self) -> None:
        """Tell the host that the loop waits for it from now on; never waits itself."""
        self._send(DRIVE, b"")

    def step(
        self,
        image: NDArray[np.uint8] | None,
        proprio: NDArray[np.float32] | None,
        *,
        depth: NDArray[np.float32] | None = None,
        instruction: NDArray[np.float32] | None = None,
    ) -> RemoteOutput:
        """Return the decision on an observation.

        Args:
            image: uint8 [image_height, image_width, 3], None where the spec has none.
            proprio: float32 [proprio], None where the spec has none.
            depth: float32 [depth_height, depth_width] in metres, likewise.
            instruction: float32 [instruction_size], hashed, likewise.

        Raises:
            ContinuonError: E-ROBOT-POLICY-002 it failed or is gone, -003 too late.
        """
        number = self.ask(image, proprio, depth=depth, instruction=instruction)
        while True:
            try:
                found, output = self._receive(0)
            except BlockingIOError:
                raise ContinuonError(
                    "E-ROBOT-POLICY-003",
                    "the policy does not answer in time",
                    allowed=f"{self._timeout_s:g} s",
                ) from None
            if found == number:
                return output

    def ask(
        self,
        image: NDArray[np.uint8] | None,
        proprio: NDArray[np.float32] | None,
        *,
        depth: NDArray[np.float32] | None = None,
        instruction: NDArray[np.float32] | None = None,
    ) -> int:
        """Hand over an observation and return its number; never waits.

        Raises:
            ContinuonError: E-ROBOT-POLICY-002, the host is gone or stuck; -005, this is
                not what the policy takes.
        """
        given = {"image": image, "proprio": proprio}
        told = {"depth": depth, "instruction": instruction}
        return self._send(STEP, self.spec.pack(given | told))

    def answers(self) -> Iterator[tuple[int, RemoteOutput]]:
        """Yield what has been answered by now, by number; never waits.

        Raises:
            ContinuonError: E-ROBOT-POLICY-002, the policy failed or is gone.
        """
        while True:
            try:
                yield self._receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return

    def close(self) -> None:
        """Let the host go; it ends by itself."""
        self._link.close()

    def _send(self, kind: int, payload: bytes) -> int:
        self._number = (self._number + 1) & 0xFFFFFFFF
        try:
            head = QUESTION.pack(self._number, kind)
            self._link.send(head + payload, socket.MSG_DONTWAIT)
        except OSError as error:
            raise _gone(error.strerror or type(error).__name__) from None
        return self._number

    def _receive(self, flags: int) -> tuple[int, RemoteOutput]:
        try:
            data = self._link.recv(4096, flags)
        except BlockingIOError:
            raise
        except OSError as error:
            raise _gone(error.strerror or type(error).__name__) from None
        if len(data) < ANSWER.size:
            raise _gone("it closed the connection")
        number, failed, surprise = ANSWER.unpack_from(data)
        if failed:
            raise _gone(data[ANSWER.size :].decode("utf-8", "replace"))
        action = np.frombuffer(data, "<f4", offset=ANSWER.size)
        if len(action) != len(self.spec.action):
            raise _gone(f"{len(action)} action channels")
        return number, RemoteOutput(action.astype(np.float32), surprise)


def _gone(seen: str) -> ContinuonError:
    return ContinuonError(
        "E-ROBOT-POLICY-002",
        "the policy failed in its own process, or that process is gone",
        seen=seen,
        hint="the loop holds and stops by itself; roll the bundle back",
    )
