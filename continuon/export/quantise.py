"""Smaller weights for a `.tflite`: only the static weight products, never the state.

The state runs in a loop: an error in it feeds back at every tick, and quantising it
makes the policy useless. Products of the state with itself stay float32 whole.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from continuon.errors import MissingPackageError

__all__ = ["to_fp16", "to_int8"]


def to_int8(model: bytes) -> bytes:
    """Return the model with the weights of its matrix products as int8, by channel.

    The runtime quantises what meets them at each call; sums are int32.

    Raises:
        MissingPackageError: ai-edge-quantizer is not installed.
    """
    quantiser, kinds = _quantiser(model)
    quantiser.add_dynamic_config(
        regex=".*", operation_name=kinds.TFLOperationName.FULLY_CONNECTED, num_bits=8
    )
    return _run(quantiser)


def to_fp16(model: bytes) -> bytes:
    """Return the model with weights of products and convolutions as float16.

    The runtime widens them to float32 when it loads the model.

    Raises:
        MissingPackageError: ai-edge-quantizer is not installed.
    """
    quantiser, kinds = _quantiser(model)
    names = kinds.TFLOperationName
    config = kinds.OpQuantizationConfig(
        weight_tensor_config=kinds.TensorQuantizationConfig(
            num_bits=16, dtype=kinds.TensorDataType.FLOAT
        ),
        compute_precision=kinds.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    for name in (names.FULLY_CONNECTED, names.CONV_2D):
        quantiser.update_quantization_recipe(
            regex=".*",
            operation_name=name,
            op_config=config,
            algorithm_key="float_casting",
        )
    return _run(quantiser)


def _quantiser(model: bytes) -> tuple[Any, Any]:
    try:
        package = import_module("ai_edge_quantizer.quantizer")
        kinds = import_module("ai_edge_quantizer.qtyping")
    except ImportError as error:
        raise MissingPackageError.for_extra(
            "ai-edge-quantizer", "export", purpose="compiling smaller weights"
        ) from error
    return package.Quantizer(bytearray(model)), kinds


def _run(quantiser: Any) -> bytes:
    result = quantiser.quantize(enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)
