"""The LiteRT backend: one recurrent step per invoke, state copied buffer to buffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from continuon.edge.spec import STATE_PREFIX, PolicySpec, check_names
from continuon.errors import MissingPackageError

__all__ = ["LiteRtEngine"]

SIGNATURE = "step"
Array = np.ndarray[Any, Any]


class LiteRtEngine:
    """A LiteRT interpreter on one thread; inputs and outputs go by signature name."""

    def __init__(self, path: Path, spec: PolicySpec) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingPackageError.for_extra(
                "ai-edge-litert", "pi", purpose="running a .tflite policy"
            ) from error
        self._interpreter = Interpreter(model_path=str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        runner = self._interpreter.get_signature_runner(SIGNATURE)
        inputs = runner.get_input_details()
        outputs = runner.get_output_details()
        check_names(path, spec, set(inputs), set(outputs))
        self._inputs = {name: detail["index"] for name, detail in inputs.items()}
        self._outputs = {name: detail["index"] for name, detail in outputs.items()}
        self._pairs = [
            (self._inputs[name], self._outputs[name])
            for name in inputs
            if name.startswith(STATE_PREFIX)
        ]

    def reset(self) -> None:
        """Set the recurrent state to zeros."""
        interpreter = self._interpreter
        for target, _ in self._pairs:
            interpreter.set_tensor(target, np.zeros_like(interpreter.tensor(target)()))

    def advance(self, inputs: dict[str, Array]) -> tuple[Array, float]:
        """Run one tick; see `Engine`."""
        tensor, put = self._interpreter.tensor, self._interpreter.set_tensor
        for name, value in inputs.items():
            put(self._inputs[name], value[None])
        self._interpreter.invoke()
        for target, source in self._pairs:
            put(target, np.asarray(tensor(source)()))
        action = tensor(self._outputs["action"])()[0].copy()
        return action, float(tensor(self._outputs["surprise"])()[0])
