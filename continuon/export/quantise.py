"""Smaller weights for a `.tflite`: only the static weight products, never the state.

The state runs in a loop: an error in it feeds back at every tick, and quantising it
makes the policy useless. Products of the state with itself stay float32 whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from continuon.errors import DataError, MissingPackageError

__all__ = ["to_fp16", "to_int8"]

Array = np.ndarray[Any, Any]


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


def to_fp16(model: bytes, products: Sequence[Array]) -> bytes:
    """Return the model with these weights as float16, and nothing else.

    The runtime widens them to float32 when it loads the model. What meets the senses
    stays whole: every pixel has the same offset, so roundings of a kernel do not cancel
    as those of a layer do. The encoder's alone moved an action by 2.8e-3, all layers'
    together by 4e-4.

    Args:
        model: a `.tflite` of the lean step.
        products: matrices [inputs, outputs] of the layers, as they were compiled.

    Raises:
        MissingPackageError: ai-edge-quantizer is not installed.
        DataError: E-EXPORT-FP16-001, the model does not hold one of them.
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
    for name in _names_of(model, products):
        quantiser.update_quantization_recipe(
            regex=f"^{re.escape(name)};?$",
            operation_name=names.FULLY_CONNECTED,
            op_config=config,
            algorithm_key="float_casting",
        )
    return _run(quantiser)


def _names_of(model: bytes, products: Sequence[Array]) -> list[str]:
    """Return the names of what the products with these matrices give."""
    tools = import_module("ai_edge_quantizer.utils.tfl_flatbuffer_utils")
    wanted = {np.ascontiguousarray(matrix.T).tobytes() for matrix in products}
    read, found, names = tools.read_model(bytearray(model)), set(), []
    for graph in read.subgraphs:
        for operator in graph.operators:
            if len(operator.inputs) < 2 or operator.inputs[1] < 0:
                continue
            tensor = graph.tensors[operator.inputs[1]]
            held = read.buffers[tensor.buffer].data
            data = b"" if held is None else bytes(held)
            if data in wanted:
                found.add(data)
                result = graph.tensors[operator.outputs[0]]
                names.append(tools.get_tensor_name(result))
    if found != wanted:
        raise DataError(
            "E-EXPORT-FP16-001",
            "the model does not hold every product that is to have fewer bits",
            seen=f"{len(found)} of {len(wanted)}",
            hint="the converter lays weights out in another way: compile without fp16",
        )
    return names


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
