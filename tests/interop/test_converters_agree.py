"""Two ways from a step to a `.tflite` agree: litert-converter's and TensorFlow's.

Both start at the StableHLO that JAX lowers to; what rewrites it into LiteRT's operators
is another program. An error of one of them would have to be the other's too.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from continuon._specs.edge.examples import CONFIG
from continuon._specs.hope.examples import parameters
from continuon.export.lean_lowering import lower_lean
from continuon.export.litert import to_litert
from continuon.export.lowering import lower
from continuon.hope.checkpoint import Checkpoint

tf = pytest.importorskip("tensorflow")
jax2tf = pytest.importorskip("jax.experimental.jax2tf")


def by_tensorflow(lowered, folder):
    """Return a `.tflite` whose inputs and outputs are numbered, not named."""
    names = [f"in{index}" for index in range(len(lowered.inputs))]
    converted = jax2tf.convert(lowered.function)

    def numbered(**given):
        told = converted(*(given[name] for name in names))
        return {f"out{index}": value for index, value in enumerate(told)}

    module = tf.Module()
    module.step = tf.function(numbered, autograph=False)
    specs = {
        name: tf.TensorSpec(zeros.shape, tf.as_dtype(zeros.dtype), name=name)
        for name, zeros in zip(names, lowered.inputs.values(), strict=True)
    }
    concrete = module.step.get_concrete_function(**specs)
    tf.saved_model.save(module, str(folder), signatures={"step": concrete})
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=["step"]
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter.convert()


def answers(model, names, given, outputs):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=model, num_threads=1).get_signature_runner(
        "step"
    )
    told = runner(**dict(zip(names, given, strict=True)))
    return [np.array(told[name]) for name in outputs]


def functions():
    """Return the network's own step, the rearranged one, and its fold."""
    checkpoint = Checkpoint(CONFIG, parameters(CONFIG, spread=0.05), {}, "")
    lean = lower_lean(checkpoint)
    return {"plain step": lower(checkpoint), "lean step": lean.step, "fold": lean.fold}


@pytest.mark.req("R-EXPORT-12")
@pytest.mark.parametrize("which", ["plain step", "lean step", "fold"])
def test_both_converters_make_the_same_function(which, tmp_path):
    lowered = functions()[which]
    rng = np.random.default_rng(0)
    models = {
        "litert-converter": to_litert(lowered),
        "tensorflow": by_tensorflow(lowered, tmp_path / "saved"),
    }
    names, outputs = list(lowered.inputs), list(lowered.outputs)
    numbered = [f"in{i}" for i in range(len(names))]
    moved = 0.0
    for tick in range(3):
        given = [drawn(rng, zeros, tick) for zeros in lowered.inputs.values()]
        wanted = [np.asarray(v) for v in jax.jit(lowered.function)(*given)]
        left = answers(models["litert-converter"], names, given, outputs)
        right = answers(
            models["tensorflow"],
            numbered,
            given,
            [f"out{i}" for i in range(len(wanted))],
        )
        for one, other, jaxs in zip(left, right, wanted, strict=True):
            scale = max(1.0, float(np.abs(jaxs).max(initial=0)))
            assert np.abs(one - other).max(initial=0) / scale < 1e-5
            assert np.abs(other - jaxs).max(initial=0) / scale < 1e-5
            moved = max(moved, float(np.ptp(jaxs)) if jaxs.size else 0.0)
    assert moved > 0.01


def drawn(rng, zeros, tick):
    if zeros.dtype == np.uint8:
        return rng.integers(0, 256, zeros.shape, np.uint8)
    if zeros.dtype == np.int32:
        return np.full_like(zeros, 16 * tick)
    return (0.3 * rng.standard_normal(zeros.shape)).astype(np.float32)
