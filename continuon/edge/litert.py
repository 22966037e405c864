"""The LiteRT backend: one recurrent step per invoke, state copied buffer to buffer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from continuon.edge.spec import PolicySpec
from continuon.errors import DataError, MissingPackageError

__all__ = ["LiteRtEngine"]

SIGNATURE = "step"
STATE_PREFIX = "state/"
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
        _check_names(path, spec, set(inputs), set(outputs))
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


def _check_names(
    path: Path, spec: PolicySpec, inputs: set[str], outputs: set[str]
) -> None:
    state = {STATE_PREFIX + name for name in spec.state}
    senses = {"image"} if spec.image_height else set()
    senses |= {"proprio"} if spec.proprio else set()
    senses |= {"previous_action"} if spec.use_previous_action else set()
    for seen, allowed in (
        (inputs, state | senses),
        (outputs, state | {"action", "surprise"}),
    ):
        if seen != allowed:
            raise DataError(
                "E-EDGE-LITERT-001",
                "the artifact's signature is not the one that the spec describes",
                where=path,
                seen=", ".join(sorted(seen - allowed)) or "names missing",
                allowed=", ".join(sorted(allowed - seen)) or "no more",
            )
