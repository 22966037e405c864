"""The ONNX Runtime backend: the state stays in the runtime's own buffers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from continuon.edge.signature import check_names
from continuon.edge.spec import STATE_PREFIX, PolicySpec
from continuon.errors import DataError, MissingPackageError

__all__ = ["OnnxEngine"]

NEXT_PREFIX = "next/"
Array = np.ndarray[Any, Any]


class OnnxEngine:
    """A session on one thread, with two sets of state buffers that take turns.

    What one step writes is what the next one reads: no state is copied.
    """

    def __init__(self, path: Path, spec: PolicySpec) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackageError.for_extra(
                "onnxruntime", "onnx", purpose="running an .onnx policy"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise DataError(
                "E-EDGE-ONNX-001",
                "ONNX Runtime cannot load the artifact",
                where=path,
                seen=str(error).splitlines()[0],
            ) from error
        session = self._session
        given = {node.name for node in session.get_inputs()}
        told = {n.name.removeprefix(NEXT_PREFIX) for n in session.get_outputs()}
        check_names(path, spec, given, told)
        held = {
            STATE_PREFIX + name: np.zeros(tensor.shape, tensor.dtype)
            for name, tensor in spec.state.items()
        }
        # the runtime may work in the very memory it is given, so each gets its own
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._buffers = [
            {name: value(zeros.copy()) for name, zeros in held.items()}
            for _ in range(2)
        ]
        self._zeros = held
        answers = {
            "action": np.zeros((1, len(spec.action)), np.float32),
            "surprise": np.zeros(1, np.float32),
        }
        self._answers = {name: value(zeros) for name, zeros in answers.items()}
        self._bindings = [
            self._bind(self._buffers[i], self._buffers[1 - i]) for i in (0, 1)
        ]
        self._turn = 0

    def _bind(self, source: dict[str, Any], target: dict[str, Any]) -> Any:
        binding = self._session.io_binding()
        for name, value in source.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in target.items():
            binding.bind_ortvalue_output(NEXT_PREFIX + name, value)
        for name, value in self._answers.items():
            binding.bind_ortvalue_output(name, value)
        return binding

    def reset(self) -> None:
        """Set the recurrent state to zeros."""
        self._turn = 0
        for name, value in self._buffers[0].items():
            value.update_inplace(self._zeros[name])

    def advance(self, inputs: dict[str, Array]) -> tuple[Array, float]:
        """Run one tick; see `Engine`."""
        binding = self._bindings[self._turn]
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value[None])
        self._session.run_with_iobinding(binding)
        self._turn = 1 - self._turn
        action = self._answers["action"].numpy()[0].copy()
        return action, float(self._answers["surprise"].numpy()[0])
