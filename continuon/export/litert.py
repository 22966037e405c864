"""StableHLO to a LiteRT flatbuffer by litert-converter, without TensorFlow."""

from __future__ import annotations

from typing import Any

import jax

from continuon.errors import MissingPackageError
from continuon.export.lowering import Lowered

__all__ = ["to_litert"]

SIGNATURE = "step"


def to_litert(lowered: Lowered) -> bytes:
    """Return the bytes of a `.tflite` with the signature `step`.

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
    # keep_unused: without it unused inputs vanish and the names shift
    stage = jax.jit(lowered.function, keep_unused=True).lower(*lowered.specs())
    hlo: Any = stage.compiler_ir("stablehlo")
    text = hlo.operation.get_asm(large_elements_limit=None, enable_debug_info=False)
    context = ir.Context()
    converter.prepare_mlir_context(context)
    context.allow_unregistered_dialects = True
    with context:
        module = ir.Module.parse(text)
        converter.set_signature(
            module.operation, SIGNATURE, list(lowered.inputs), list(lowered.outputs)
        )
        converter.run_convert_to_tfl_passes(
            module, passmanager.PassManager(), converter.ConvertToTFLConfig()
        )
        return bytes(converter.export_flatbuffer_to_bytes(module.operation))
