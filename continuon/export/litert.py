"""StableHLO to a LiteRT flatbuffer by litert-converter, without TensorFlow."""

from __future__ import annotations

from typing import Any

import jax

from continuon.errors import MissingPackageError
from continuon.export.lowering import Lowered

__all__ = ["to_litert"]

SIGNATURE, FOLD = "step", "fold"


def to_litert(step: Lowered, fold: Lowered | None = None) -> bytes:
    """Return the bytes of a `.tflite` with the signatures `step` and, if told, `fold`.

    Raises:
        MissingPackageError: litert-converter is not installed (x86-64 Linux only).
    """
    try:
        from litert_converter import converter_api_ext as converter
        from litert_converter.mlir import ir, passmanager
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "litert-converter", "export", purpose="compiling to LiteRT"
        ) from error
    context = ir.Context()
    converter.prepare_mlir_context(context)
    context.allow_unregistered_dialects = True
    signatures = {SIGNATURE: step} | ({} if fold is None else {FOLD: fold})
    with context:
        parts = []
        for name, lowered in signatures.items():
            part = ir.Module.parse(_text(lowered, name))
            inputs, outputs = list(lowered.inputs), list(lowered.outputs)
            converter.set_signature(_public(part, name), name, inputs, outputs)
            parts.append(part)
        module = parts[0] if fold is None else converter.merge_modules(parts)
        converter.run_convert_to_tfl_passes(
            module, passmanager.PassManager(), converter.ConvertToTFLConfig()
        )
        return bytes(converter.export_flatbuffer_to_bytes(module.operation))


def _text(lowered: Lowered, name: str) -> str:
    """Return StableHLO whose one public function has this name."""
    # keep_unused: without it unused inputs vanish and the names shift
    stage = jax.jit(lowered.function, keep_unused=True).lower(*lowered.specs())
    hlo: Any = stage.compiler_ir("stablehlo")
    text = hlo.operation.get_asm(large_elements_limit=None, enable_debug_info=False)
    return str(text).replace("@main(", f"@{name}(", 1)


def _public(module: Any, name: str) -> Any:
    """Return the function of this name in a module."""
    found = (
        op for op in module.body.operations if op.attributes["sym_name"].value == name
    )
    return next(found).operation
