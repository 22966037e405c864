"""Every artifact of a policy: its file, its backend, and what it may differ by."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import attrs

from continuon.errors import UsageError

__all__ = ["DEFAULT", "FP32_TOLERANCE", "VARIANTS", "Variant", "available", "chosen"]

DEFAULT = ("onnx", "int8")
"""Made unless told otherwise, where their packages are installed."""

_NEEDS = {
    "onnx": ("onnx", "onnxruntime"),
    "int8": ("ai_edge_quantizer",),
    "fp16": ("ai_edge_quantizer",),
}

FP32_TOLERANCE = 1e-5
"""Largest error of a float32 artifact, as a share of max(1, largest output)."""


@attrs.frozen(kw_only=True)
class Variant:
    """One artifact.

    Attributes:
        name: what a caller asks for; empty for what is always made.
        path: its file. backend: what runs it.
        precision: of the static weights.
        measure: `worst`, the largest scaled error of any output over the golden ticks,
            or `action`, the mean error of the actions: weights of 8 bits are another
            network, and are judged by what they make the robot do.
        tolerance: of that error when compiling; None for what cannot run.
    """

    name: str = ""
    path: str
    backend: str
    precision: str = "fp32"
    measure: str = "worst"
    tolerance: float | None
    is_placeholder: bool = False

    @property
    def folds(self) -> bool:
        """Whether it holds the lean step: what changes at chunk ends is apart."""
        return self.path.endswith((".tflite", ".onnx"))


VARIANTS = (
    Variant(path="policy.tflite", backend="litert", tolerance=FP32_TOLERANCE),
    Variant(
        name="int8",
        path="policy.int8.tflite",
        backend="litert-int8",
        precision="int8",
        measure="action",
        tolerance=0.02,
    ),
    Variant(
        name="fp16",
        path="policy.fp16.tflite",
        backend="litert-fp16",
        precision="fp16",
        tolerance=2e-3,
    ),
    Variant(
        name="onnx",
        path="policy.onnx",
        backend="onnxruntime",
        tolerance=FP32_TOLERANCE,
    ),
    Variant(path="policy.weights", backend="numpy", tolerance=FP32_TOLERANCE),
    Variant(path="policy.stablehlo", backend="stablehlo", tolerance=FP32_TOLERANCE),
    Variant(
        path="policy.hef.json", backend="hailo", tolerance=None, is_placeholder=True
    ),
)
"""In the order in which a robot should prefer them, unless measured otherwise."""


def available(
    names: Sequence[str] = DEFAULT,
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the variants that can be made and judged here, and what the others lack.

    Returns:
        names; and for each other one a sentence that names the missing packages.
    """
    lacking = {
        name: [package for package in _NEEDS[name] if find_spec(package) is None]
        for name in names
    }
    missing = {
        name: f"not made: {', '.join(packages)} is not installed "
        f"(pip install 'continuon[{'onnx' if name == 'onnx' else 'export'}]')"
        for name, packages in lacking.items()
        if packages
    }
    return tuple(name for name in names if name not in missing), missing


def chosen(names: Sequence[str]) -> tuple[Variant, ...]:
    """Return what is always made and what was asked for.

    Raises:
        UsageError: E-EXPORT-VARIANT-001, there is no such variant.
    """
    known = {variant.name for variant in VARIANTS if variant.name}
    if set(names) - known:
        raise UsageError(
            "E-EXPORT-VARIANT-001",
            "there is no such variant of an artifact",
            seen=", ".join(sorted(set(names) - known)),
            allowed=", ".join(sorted(known)),
        )
    return tuple(v for v in VARIANTS if not v.name or v.name in names)
