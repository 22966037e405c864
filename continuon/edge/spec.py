"""What a compiled policy expects and gives: `spec.json` beside its artifacts."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import attrs
import msgspec

from continuon.errors import DataError

__all__ = [
    "SPEC_FILE",
    "STATE_PREFIX",
    "Artifact",
    "PolicySpec",
    "TensorSpec",
    "read_spec",
]

SPEC_FILE = "spec.json"
SPEC_VERSION = 1
STATE_PREFIX = "state/"


@attrs.frozen
class TensorSpec:
    """Shape and numpy dtype of one tensor."""

    shape: tuple[int, ...]
    dtype: str


@attrs.frozen
class Artifact:
    """One file that a backend can run, or a placeholder that none can.

    Attributes:
        precision: of the static weights, fp32, fp16 or int8.
        measure: how its golden error counts: `worst` is the largest error of any
            output, `action` the mean error of the actions.
        tolerance: of that error; None means the golden file's own.
        fold_every: ticks between two runs of the artifact's second signature, which
            must not be left out; 0 where it has none.
    """

    path: str
    backend: str
    bytes: int
    sha256: str
    is_placeholder: bool = False
    precision: str = "fp32"
    measure: str = "worst"
    tolerance: float | None = None
    fold_every: int = 0


@attrs.frozen(kw_only=True)
class PolicySpec:
    """The interface of one policy; written last, so its presence means all is there.

    Attributes:
        name: model name.
        image_height, image_width: pixels of the uint8 RGB input; 0 without image.
        depth_height, depth_width: pixels of the float32 depth input; 0 without depth.
        instruction_size: numbers of the hashed instruction; 0 without one.
        proprio: names of the float32 inputs, units in the names.
        action: names of the float32 outputs, each in [-1, 1].
        use_previous_action: whether a[t-1] is an input; the backend keeps it.
        control_rate_hz: ticks per second that the policy was trained for.
        state: recurrent tensors by name; all start as zeros.
        config_digest: SHA-256 of the network's config, hex.
        checkpoint_sha256: the checkpoint from which all artifacts were made.
        golden_sha256: digest of golden.json.
        artifacts: files in the order in which a robot should prefer them.
        parameters: number of trained scalars.
    """

    version: int = SPEC_VERSION
    name: str
    image_height: int
    image_width: int
    proprio: tuple[str, ...]
    action: tuple[str, ...]
    use_previous_action: bool
    control_rate_hz: float
    state: dict[str, TensorSpec]
    config_digest: str
    checkpoint_sha256: str
    golden_sha256: str
    artifacts: tuple[Artifact, ...]
    parameters: int
    depth_height: int = 0
    depth_width: int = 0
    instruction_size: int = 0

    @property
    def senses(self) -> dict[str, TensorSpec]:
        """What is fed at each tick, by name; a previous action is not sensed."""
        image = (self.image_height, self.image_width, 3)
        depth = (self.depth_height, self.depth_width)
        told = {
            "image": TensorSpec(image, "uint8"),
            "proprio": TensorSpec((len(self.proprio),), "float32"),
            "depth": TensorSpec(depth, "float32"),
            "instruction": TensorSpec((self.instruction_size,), "float32"),
        }
        return {name: tensor for name, tensor in told.items() if all(tensor.shape)}

    @property
    def observation_size(self) -> int:
        """Scalars sensed per tick."""
        return sum(math.prod(tensor.shape) for tensor in self.senses.values())

    @property
    def state_bytes(self) -> int:
        """Bytes of the recurrent state."""
        return sum(4 * math.prod(tensor.shape) for tensor in self.state.values())

    def entry(self, backend: str) -> Artifact | None:
        """Return what the spec says of a backend's artifact, None if it has none."""
        usable = (a for a in self.artifacts if not a.is_placeholder)
        return next((a for a in usable if a.backend == backend), None)

    def artifact(self, directory: Path, backend: str) -> Path:
        """Return the checked file for a backend.

        Raises:
            DataError: E-EDGE-ARTIFACT-001 where there is none that can run, and
                E-EDGE-ARTIFACT-002 where its bytes are not the spec's.
        """
        usable = {a.backend: a for a in self.artifacts if not a.is_placeholder}
        if backend not in usable:
            raise DataError(
                "E-EDGE-ARTIFACT-001",
                "the policy has no artifact that this backend can run",
                where=directory,
                seen=backend,
                allowed=", ".join(usable),
            )
        path = directory / usable[backend].path
        seen = file_sha256(path)
        if seen != usable[backend].sha256:
            raise DataError(
                "E-EDGE-ARTIFACT-002",
                "the artifact's bytes are not those that the spec names",
                where=path,
                seen=seen,
                allowed=usable[backend].sha256,
                hint="compile or fetch the policy again",
            )
        return path


def read_spec(directory: Path) -> PolicySpec:
    """Read `spec.json`.

    Raises:
        DataError: E-EDGE-SPEC-001 absent, -002 unreadable, -003 unknown version.
    """
    path = directory / SPEC_FILE
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=PolicySpec)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(
            "E-EDGE-SPEC-001",
            "there is no compiled policy here",
            where=path,
            hint="`continuon compile` writes one",
        ) from error
    except msgspec.DecodeError as error:
        raise DataError(
            "E-EDGE-SPEC-002", f"the policy's spec is broken: {error}", where=path
        ) from error
    if spec.version != SPEC_VERSION:
        raise DataError(
            "E-EDGE-SPEC-003",
            "the policy's spec has a version that is not known here",
            where=path,
            seen=spec.version,
            allowed=SPEC_VERSION,
        )
    return spec


def file_sha256(path: Path) -> str:
    """Return a file's SHA-256, hex.

    Raises:
        DataError: E-EDGE-ARTIFACT-003 where there is no such file.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError as error:
        raise DataError(
            "E-EDGE-ARTIFACT-003", "a file of the policy is missing", where=path
        ) from error
