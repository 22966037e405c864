"""The LiteRT backend: one recurrent step per invoke, state copied buffer to buffer.

An artifact may have a second signature, `fold`: what changes only every few ticks. It
is run before each step whose number is a positive multiple of the artifact's
`fold_every`; between, what it writes lies still in the interpreter, and each step's
`log/...` outputs are kept for it, a row a tick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from continuon.edge.signature import LOG_PREFIX, check_signatures
from continuon.edge.spec import STATE_PREFIX, Artifact, PolicySpec
from continuon.errors import MissingPackageError

__all__ = ["LiteRtEngine"]

SIGNATURE, FOLD = "step", "fold"
Array = np.ndarray[Any, Any]


class LiteRtEngine:
    """A LiteRT interpreter on one thread; inputs and outputs go by signature name."""

    def __init__(self, path: Path, spec: PolicySpec, entry: Artifact) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingPackageError.for_extra(
                "ai-edge-litert", "pi", purpose="running a .tflite policy"
            ) from error
        self._interpreter = Interpreter(model_path=str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        # a runner kept would hold the interpreter's memory, and invoke refuse to run
        runner = self._interpreter.get_signature_runner(SIGNATURE)
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        del runner
        self._every = entry.fold_every
        self._held: dict[str, Array] = {}
        folded: set[str] = set()
        if FOLD in self._interpreter.get_signature_list():
            fold = self._interpreter.get_signature_runner(FOLD)
            folded = set(fold.get_output_details())
            self._held = {
                name: np.zeros(detail["shape"], detail["dtype"])
                for name, detail in fold.get_input_details().items()
            }
            del fold
        rows = {len(v) for n, v in self._held.items() if n.startswith(LOG_PREFIX)}
        check_signatures(
            path,
            spec,
            step=(set(inputs), set(outputs)),
            fold=(set(self._held), folded),
            every=(self._every, rows),
        )
        self._inputs = {name: detail["index"] for name, detail in inputs.items()}
        self._outputs = {name: detail["index"] for name, detail in outputs.items()}
        self._states = [
            i for n, i in self._inputs.items() if n.startswith(STATE_PREFIX)
        ]
        self._pairs = [
            (self._inputs[name], index)
            for name, index in self._outputs.items()
            if name in self._inputs
        ]
        self._logged = [
            (self._held[name], index)
            for name, index in self._outputs.items()
            if name.startswith(LOG_PREFIX)
        ]
        self._tick = 0

    def reset(self) -> None:
        """Set the recurrent state to zeros."""
        self._tick = 0
        for target in self._states:
            zeros = np.zeros_like(self._interpreter.tensor(target)())
            self._interpreter.set_tensor(target, zeros)
        for held in self._held.values():
            held[...] = 0

    def advance(self, inputs: dict[str, Array]) -> tuple[Array, float]:
        """Run one tick; see `Engine`."""
        tensor, put = self._interpreter.tensor, self._interpreter.set_tensor
        row = self._tick % self._every if self._every else 0
        if self._every and self._tick and row == 0:
            self._fold()
        for name, value in inputs.items():
            put(self._inputs[name], value[None])
        self._interpreter.invoke()
        # the log first: one of its outputs may be an input's own memory
        for held, source in self._logged:
            held[row] = tensor(source)()[0]
        for target, source in self._pairs:
            put(target, np.asarray(tensor(source)()))
        self._tick += 1
        action = tensor(self._outputs["action"])()[0].copy()
        return action, float(tensor(self._outputs["surprise"])()[0])

    def _fold(self) -> None:
        """Run what changes only now; the newest state that a step wrote goes in."""
        interpreter, held = self._interpreter, self._held
        for name in held.keys() & self._inputs.keys():
            held[name] = interpreter.get_tensor(self._inputs[name])
        given = interpreter.get_signature_runner(FOLD)(**held)
        for name, value in given.items():
            if name in held:
                held[name] = value
            if name in self._inputs:
                interpreter.set_tensor(self._inputs[name], value)
