"""Run a compiled policy on the robot: LiteRT or numpy, without JAX or TensorFlow."""

from continuon.edge.choice import Choice, choose_backend
from continuon.edge.golden import (
    Golden,
    GoldenReport,
    check_golden,
    decode_array,
    read_golden,
)
from continuon.edge.infer import InferReport, infer
from continuon.edge.latency import measure_latency
from continuon.edge.policy import Policy, PolicyOutput, load_policy
from continuon.edge.spec import Artifact, PolicySpec, TensorSpec, read_spec

__all__ = [
    "Artifact",
    "Choice",
    "Golden",
    "GoldenReport",
    "InferReport",
    "Policy",
    "PolicyOutput",
    "PolicySpec",
    "TensorSpec",
    "check_golden",
    "choose_backend",
    "decode_array",
    "infer",
    "load_policy",
    "measure_latency",
    "read_golden",
    "read_spec",
]
