"""One protocol for every backend: reset, then step once per fresh camera frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import attrs
import numpy as np

from continuon.edge.spec import PolicySpec, read_spec
from continuon.errors import ContractError, DataError, UsageError

__all__ = ["NOT_FINITE", "Backend", "Policy", "PolicyOutput", "load_policy"]

Backend = Literal["litert", "litert-fp16", "litert-int8", "onnxruntime", "numpy"]
NOT_FINITE = "E-EDGE-OUTPUT-001"
Array = np.ndarray[Any, Any]


@attrs.frozen(eq=False)
class PolicyOutput:
    """One decision: `action` float32 [A] in [-1, 1], and `surprise` >= 0."""

    action: Array
    surprise: float


class Engine(Protocol):
    """What a backend does: zero its state, or advance it by one tick."""

    def reset(self) -> None:
        """Set the recurrent state to zeros."""
        ...

    def advance(self, inputs: dict[str, Array]) -> tuple[Array, float]:
        """Run one tick on what the spec's `senses` name, and `previous_action` [A]."""
        ...


class Policy:
    """A loaded policy; it owns its recurrent state, so use one per robot."""

    def __init__(self, spec: PolicySpec, backend: str, engine: Engine) -> None:
        self.spec = spec
        self.backend = backend
        self._engine = engine
        self._senses = spec.senses
        self._previous = np.zeros(len(spec.action), np.float32)

    def reset(self) -> None:
        """Forget the episode: the state is zeros, as at its first tick."""
        self._engine.reset()
        self._previous = np.zeros(len(self.spec.action), np.float32)

    def step(
        self,
        image: Array | None = None,
        proprio: Array | None = None,
        *,
        depth: Array | None = None,
        instruction: Array | None = None,
        previous_action: Array | None = None,
    ) -> PolicyOutput:
        """Decide once and advance the state.

        Args:
            image: uint8 [h, w, 3], where the spec has an image, else None.
            proprio: float32 [P], where the spec has proprio, else None.
            depth: float32 [h, w] in metres, where the spec has depth, else None; what
                is not finite or not above 0 is unknown.
            instruction: float32 [n], hashed, where the spec has one, else None.
            previous_action: what was really applied last; by default what this
                policy last gave. Only used where the spec says so.

        Raises:
            ContractError: E-EDGE-INPUT-001 shape or type, -002 not finite. The state
                is unchanged.
            DataError: E-EDGE-OUTPUT-001, the network gave a number that is not
                finite; call `reset` before going on.
        """
        given = {"image": image, "proprio": proprio, "depth": depth}
        inputs = self._inputs(given | {"instruction": instruction}, previous_action)
        action, surprise = self._engine.advance(inputs)
        if not (np.isfinite(action).all() and np.isfinite(surprise)):
            raise DataError(
                NOT_FINITE,
                "the policy gave a number that is not finite",
                where=self.spec.name,
                seen=f"action {action.tolist()}, surprise {surprise}",
                hint="hold the last safe action and reset the policy",
            )
        self._previous = action.copy()
        return PolicyOutput(action, surprise)

    def _inputs(
        self, given: dict[str, Array | None], previous: Array | None
    ) -> dict[str, Array]:
        spec, inputs = self.spec, {}
        for name, value in given.items():
            wanted = self._senses.get(name)
            if wanted is not None:
                seen = _known(value) if name == "depth" else value
                dtype = np.dtype(np.uint8) if name == "image" else None
                inputs[name] = _checked(name, seen, wanted.shape, dtype)
            elif value is not None and np.size(value):
                raise _wrong(name, value, f"no {name}")
        if spec.use_previous_action:
            last = self._previous if previous is None else previous
            inputs["previous_action"] = _checked(
                "previous_action", last, (len(spec.action),)
            )
        return inputs


def load_policy(directory: Path, *, backend: Backend = "litert") -> Policy:
    """Load a compiled policy; its bytes are checked against the spec.

    Raises:
        UsageError: E-EDGE-BACKEND-001 for a backend that is not known.
        DataError: E-EDGE-SPEC-*, E-EDGE-ARTIFACT-*.
        MissingPackageError: LiteRT is not installed.
    """
    if backend not in get_args(Backend):
        raise UsageError(
            "E-EDGE-BACKEND-001",
            "there is no such backend",
            seen=backend,
            allowed=", ".join(get_args(Backend)),
        )
    spec = read_spec(directory)
    path, entry = spec.artifact(directory, backend), spec.entry(backend)
    engine: Engine
    if backend.startswith("litert"):
        from continuon.edge.litert import LiteRtEngine

        assert entry is not None
        engine = LiteRtEngine(path, spec, entry)
    elif backend == "onnxruntime":
        from continuon.edge.onnx import OnnxEngine

        assert entry is not None
        engine = OnnxEngine(path, spec, entry)
    else:
        from continuon.edge.network import NumpyEngine

        engine = NumpyEngine.from_file(path)
    policy = Policy(spec, backend, engine)
    policy.reset()
    return policy


def _known(depth: Array | None) -> Array | None:
    """Return depth whose unknown pixels are 0."""
    if depth is None:
        return None
    metres = np.asarray(depth, np.float32)
    return np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(0))


def _checked(
    name: str,
    value: Array | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any] | None = None,
) -> Array:
    if value is None or np.shape(value) != shape:
        raise _wrong(name, value, f"shape {list(shape)}")
    array = np.asarray(value)
    if dtype is not None:
        if array.dtype != dtype:
            raise _wrong(name, value, str(dtype))
        return array
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ContractError(
            "E-EDGE-INPUT-002",
            f"the input {name} is not finite",
            where=name,
            seen=array.tolist(),
            allowed="finite numbers",
        )
    return array


def _wrong(name: str, value: Array | None, allowed: str) -> ContractError:
    kind = (
        "None" if value is None else f"{np.asarray(value).dtype}{list(np.shape(value))}"
    )
    return ContractError(
        "E-EDGE-INPUT-001",
        f"the input {name} does not fit the policy",
        where=name,
        seen=kind,
        allowed=allowed,
    )
