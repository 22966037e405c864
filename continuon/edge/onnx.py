"""The ONNX Runtime backend: the state stays in the runtime's own buffers.

The artifact holds the step; the fold, which is run before each step whose number is a
positive multiple of `fold_every` (see `continuon.edge.litert`), is a small model of its
own in the first one's metadata.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import numpy as np

from continuon.edge.signature import LOG_PREFIX, check_signatures
from continuon.edge.spec import STATE_PREFIX, Artifact, PolicySpec
from continuon.errors import DataError, MissingPackageError

__all__ = ["OnnxEngine"]

NEXT_PREFIX, FOLD = "next/", "fold"
DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32}
Array = np.ndarray[Any, Any]


class OnnxEngine:
    """Sessions on one thread, with two sets of state buffers that take turns.

    What one step writes is what the next one reads: no state is copied but what a fold
    changes.
    """

    def __init__(self, path: Path, spec: PolicySpec, entry: Artifact) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackageError.for_extra(
                "onnxruntime", "onnx", purpose="running an .onnx policy"
            ) from error
        self._step = _session(onnxruntime, path, str(path))
        self._every, self._tick, self._turn = entry.fold_every, 0, 0
        folded = self._step.get_modelmeta().custom_metadata_map.get(FOLD)
        self._fold = None if folded is None else _decoded(onnxruntime, path, folded)
        state = _inputs(self._step, STATE_PREFIX)
        more = _inputs(self._fold, STATE_PREFIX) if self._fold else {}
        self._logs = _inputs(self._fold, LOG_PREFIX) if self._fold else {}
        told = [node.name for node in self._step.get_outputs()]
        check_signatures(
            path,
            spec,
            step=(_names(self._step.get_inputs()), _names(self._step.get_outputs())),
            fold=(set(more) | set(self._logs), _given(self._fold)),
            every=(self._every, {len(log) for log in self._logs.values()}),
        )
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        changed = {n.removeprefix(NEXT_PREFIX) for n in told if NEXT_PREFIX in n}
        self._zeros = more | state
        # the runtime may work in the very memory it is given, so each gets its own;
        # what no step changes is one buffer, seen at both turns
        shared = {
            n: value(v.copy()) for n, v in self._zeros.items() if n not in changed
        }
        self._buffers = [
            shared | {name: value(state[name].copy()) for name in changed}
            for _ in range(2)
        ]
        answers = {
            "action": np.zeros((1, len(spec.action)), np.float32),
            "surprise": np.zeros(1, np.float32),
        } | {name: log[:1].copy() for name, log in self._logs.items()}
        self._answers = {name: value(zeros) for name, zeros in answers.items()}
        self._bindings = [self._bind(turn, state, changed) for turn in (0, 1)]

    def _bind(self, turn: int, state: dict[str, Array], changed: set[str]) -> Any:
        binding = self._step.io_binding()
        for name in state:
            binding.bind_ortvalue_input(name, self._buffers[turn][name])
        for name in changed:
            target = self._buffers[1 - turn][name]
            binding.bind_ortvalue_output(NEXT_PREFIX + name, target)
        for name, value in self._answers.items():
            binding.bind_ortvalue_output(name, value)
        return binding

    def reset(self) -> None:
        """Set the recurrent state to zeros."""
        self._turn = self._tick = 0
        for name, value in self._buffers[0].items():
            value.update_inplace(self._zeros[name])
        for log in self._logs.values():
            log[...] = 0

    def advance(self, inputs: dict[str, Array]) -> tuple[Array, float]:
        """Run one tick; see `Engine`."""
        row = self._tick % self._every if self._every else 0
        if self._every and self._tick and row == 0:
            self._write()
        binding = self._bindings[self._turn]
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value[None])
        self._step.run_with_iobinding(binding)
        self._turn, self._tick = 1 - self._turn, self._tick + 1
        for name, log in self._logs.items():
            log[row] = self._answers[name].numpy()[0]
        action = self._answers["action"].numpy()[0].copy()
        return action, float(self._answers["surprise"].numpy()[0])

    def _write(self) -> None:
        """Run the fold on the newest state and the log."""
        assert self._fold is not None
        buffers = self._buffers[self._turn]
        names = [node.name for node in self._fold.get_inputs()]
        given = {n: buffers[n].numpy() for n in names if n not in self._logs}
        told = [node.name for node in self._fold.get_outputs()]
        for name, value in zip(
            told, self._fold.run(told, given | self._logs), strict=True
        ):
            buffers[name.removeprefix(NEXT_PREFIX)].update_inplace(value)


def _session(runtime: Any, path: Path, model: str | bytes) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return runtime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise DataError(
            "E-EDGE-ONNX-001",
            "ONNX Runtime cannot load the artifact",
            where=path,
            seen=str(error).splitlines()[0],
        ) from error


def _decoded(runtime: Any, path: Path, text: str) -> Any:
    try:
        model = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise DataError(
            "E-EDGE-ONNX-002",
            f"the fold in the artifact's metadata is no base64: {error}",
            where=path,
            hint="compile the policy again",
        ) from error
    return _session(runtime, path, model)


def _inputs(session: Any, prefix: str) -> dict[str, Array]:
    """Return zeros for the inputs whose names begin so."""
    return {
        node.name: np.zeros(node.shape, DTYPES[node.type])
        for node in session.get_inputs()
        if node.name.startswith(prefix)
    }


def _names(nodes: Any) -> set[str]:
    return {node.name.removeprefix(NEXT_PREFIX) for node in nodes}


def _given(session: Any) -> set[str]:
    return _names(session.get_outputs()) if session else set()
