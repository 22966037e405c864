"""Golden ticks: recorded inputs and JAX's outputs, to be met again on the device."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import attrs
import msgspec
import numpy as np

from continuon.edge.policy import NOT_FINITE, Policy
from continuon.edge.spec import file_sha256
from continuon.errors import DataError

__all__ = [
    "GOLDEN_FILE",
    "Golden",
    "GoldenReport",
    "check_golden",
    "decode_array",
    "read_golden",
]

GOLDEN_FILE = "golden.json"
GOLDEN_VERSION = 1


@attrs.frozen
class EncodedArray:
    """An array in JSON: numpy dtype (little-endian), shape, base64 of the bytes."""

    dtype: str
    shape: tuple[int, ...]
    base64: str


@attrs.frozen(kw_only=True)
class Golden:
    """One episode from its first tick: inputs by name [T, ...], expected outputs.

    Attributes:
        origin: of the inputs: real, imported, simulated, synthetic or replayed.
        inputs: `image` uint8 [T, h, w, 3], `proprio` float32 [T, P], as the spec has.
        outputs: `action` float32 [T, A], `surprise` float32 [T].
        tolerance: largest allowed error, as a share of max(1, largest |expected|).
        config_digest: of the network that gave the outputs.
    """

    version: int = GOLDEN_VERSION
    origin: str
    inputs: dict[str, EncodedArray]
    outputs: dict[str, EncodedArray]
    tolerance: float
    config_digest: str


@attrs.frozen
class GoldenReport:
    """Error over all golden ticks, by the artifact's own measure; see `Artifact`."""

    backend: str
    ticks: int
    max_abs_error: float
    tolerance: float
    ok: bool

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return attrs.asdict(self)


def check_golden(policy: Policy, directory: Path) -> GoldenReport:
    """Replay the golden ticks in closed loop; the policy is reset before and after.

    A number that is not finite misses them: the error is NaN.

    Raises:
        DataError: E-EDGE-GOLDEN-* if the file is absent, altered or of another
            network.
    """
    path = directory / GOLDEN_FILE
    golden = read_golden(path)
    seen = (file_sha256(path), golden.config_digest)
    if seen != (policy.spec.golden_sha256, policy.spec.config_digest):
        raise DataError(
            "E-EDGE-GOLDEN-003",
            "the golden ticks are not those that the spec names",
            where=path,
            seen=seen,
            allowed=(policy.spec.golden_sha256, policy.spec.config_digest),
        )
    entry = policy.spec.entry(policy.backend)
    measure = "worst" if entry is None else entry.measure
    told = None if entry is None else entry.tolerance
    tolerance = golden.tolerance if told is None else told
    error, ticks = _replay_error(policy, golden, measure)
    ok = math.isfinite(error) and error <= tolerance
    return GoldenReport(policy.backend, ticks, error, tolerance, ok)


def _replay_error(policy: Policy, golden: Golden, measure: str) -> tuple[float, int]:
    """Return the error, as the artifact's measure has it, and the ticks."""
    inputs = {name: decode_array(value) for name, value in golden.inputs.items()}
    expected = {name: decode_array(value) for name, value in golden.outputs.items()}
    ticks = len(expected["action"])
    policy.reset()
    try:
        given = [
            policy.step(**{name: value[tick] for name, value in inputs.items()})
            for tick in range(ticks)
        ]
    except DataError as error:
        if error.code != NOT_FINITE:
            raise
        return math.nan, ticks
    finally:
        policy.reset()
    if measure == "action":
        actions = np.stack([out.action for out in given]).astype(np.float64)
        return float(np.abs(actions - expected["action"]).mean()), ticks
    pairs = [
        (np.stack([out.action for out in given]), expected["action"]),
        (np.array([out.surprise for out in given]), expected["surprise"]),
    ]
    errors = [
        np.max(np.abs(seen.astype(np.float64) - right)) / max(1.0, np.abs(right).max())
        for seen, right in pairs
    ]
    return float(np.max(errors)), ticks


def read_golden(path: Path) -> Golden:
    """Read golden.json.

    Raises:
        DataError: E-EDGE-GOLDEN-001 absent, -002 unreadable or of another version.
    """
    try:
        golden = msgspec.json.decode(path.read_bytes(), type=Golden)
    except FileNotFoundError as error:
        raise DataError(
            "E-EDGE-GOLDEN-001", "there are no golden ticks here", where=path
        ) from error
    except msgspec.DecodeError as error:
        raise DataError(
            "E-EDGE-GOLDEN-002", f"the golden ticks are broken: {error}", where=path
        ) from error
    if golden.version != GOLDEN_VERSION:
        raise DataError(
            "E-EDGE-GOLDEN-002",
            "the golden ticks have a version that is not known here",
            where=path,
            seen=golden.version,
            allowed=GOLDEN_VERSION,
        )
    return golden


def decode_array(value: EncodedArray) -> np.ndarray[Any, Any]:
    """Return the array that stands in the JSON.

    Raises:
        DataError: E-EDGE-GOLDEN-002 if the bytes do not fit the shape.
    """
    try:
        data = base64.b64decode(value.base64, validate=True)
        return np.frombuffer(data, np.dtype(value.dtype)).reshape(value.shape)
    except (ValueError, TypeError) as error:
        raise DataError(
            "E-EDGE-GOLDEN-002", f"an array does not fit its description: {error}"
        ) from error
