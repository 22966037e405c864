"""Receipts: ten phases, each with a gate that measures and refuses."""

from continuon.pipeline.gates import GateCheck, PhaseGate, Verdict, load_gates
from continuon.pipeline.receipt import Receipt, read_receipt, write_receipt

__all__ = [
    "GateCheck",
    "PhaseGate",
    "Receipt",
    "Verdict",
    "load_gates",
    "read_receipt",
    "write_receipt",
]
