"""`edge_manifest.json`: what a bundle holds, what it needs, and how it is judged.

Values only. `manifest_codec` reads and writes them, `manifest_rules` says which of
them are legal, `manifest_shape` repeats their keys for readers without these values.
"""

from __future__ import annotations

from typing import Any

import attrs

from continuon.bundle.manifest_shape import MANIFEST_NAME, ORIGINS, SCHEMA, SENSES

__all__ = [
    "MANIFEST_NAME",
    "ORIGINS",
    "SCHEMA",
    "SENSES",
    "Accelerator",
    "Artifact",
    "Backend",
    "Compat",
    "Delta",
    "Evidence",
    "HealthGate",
    "Manifest",
    "SafetyReference",
]


@attrs.frozen(kw_only=True)
class Accelerator:
    """A chip that a backend needs, with the range of runtimes that were tried."""

    name: str
    runtime_min: str
    runtime_below: str


@attrs.frozen(kw_only=True)
class Compat:
    """Where this bundle may run. A digest that is None is not asked for.

    Attributes:
        library_min: lowest continuon version, SemVer, included.
        library_below: first continuon version that is too new, or None.
        boards: board names; empty for any.
        accelerators: chips that at least one backend can use.
        observation_sha256: digest of the observation contract the policy was made for.
        action_sha256: digest of its action contract.
        control_rate_hz: rate of the control loop it was made for.
        min_free_bytes: free space that must remain once it is installed.
        base_bundle: bundle id that an adapter bundle stands on, or None.
        senses: what the policy is given, of `SENSES`; a robot that lacks one refuses
            the bundle.
    """

    library_min: str = "0.1.0"
    library_below: str | None = None
    boards: tuple[str, ...] = ()
    accelerators: tuple[Accelerator, ...] = ()
    observation_sha256: str | None = None
    action_sha256: str | None = None
    control_rate_hz: float | None = None
    min_free_bytes: int = 0
    base_bundle: str | None = None
    senses: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Artifact:
    """One payload file. `backend` is None for files that no runtime loads."""

    path: str
    role: str
    backend: str | None
    bytes: int
    sha256: str


@attrs.frozen(kw_only=True)
class Backend:
    """One way to run the policy, and what it must show before it may."""

    name: str
    artifact: str
    golden: str
    tolerance: float
    latency_budget_ms: float


@attrs.frozen(kw_only=True)
class SafetyReference:
    """The safety manifest inside the bundle; it may only tighten the base rules."""

    path: str
    sha256: str
    min_base_rule_version: int


@attrs.frozen(kw_only=True)
class HealthGate:
    """Bounds that a trial must keep before it is committed.

    Attributes:
        golden_max_error: largest absolute difference from the golden outputs.
        latency_p99_ms: 99th percentile of one policy step on the device.
        soak_ticks: control ticks that the trial must drive without a fault.
        timeout_s: time after which an unfinished trial is a failed one.
        max_veto_fraction: share of ticks on which the safety kernel may step in.
        max_shadow_mean: before it may drive, it thinks along with the policy that does:
            mean absolute difference of the actions, in the channel that differs most;
            actions are in [-1, 1].
        max_shadow_peak: largest difference of any one action in any channel.
    """

    golden_max_error: float
    latency_p99_ms: float
    soak_ticks: int
    timeout_s: float
    max_veto_fraction: float
    max_shadow_mean: float = 0.3
    max_shadow_peak: float = 1.0


@attrs.frozen(kw_only=True)
class Evidence:
    """A file that says why this bundle deserves trust."""

    kind: str
    path: str
    bytes: int
    sha256: str


@attrs.frozen(kw_only=True)
class Delta:
    """A patch that turns a file the device has (`from_sha256`) into `path`.

    `bytes` and `sha256` describe the patch, which lies in the repository's store and
    never inside the bundle.
    """

    path: str
    from_sha256: str
    codec: str
    bytes: int
    sha256: str


@attrs.frozen(kw_only=True)
class Manifest:
    """The whole of `edge_manifest.json`.

    A `safety_critical` bundle may be had without a running subscription.
    """

    schema: str = SCHEMA
    model_name: str
    version: str
    release_counter: int
    created_at_unix_ms: int
    source: str
    origins: tuple[str, ...]
    compat: Compat
    artifacts: tuple[Artifact, ...]
    backends: tuple[Backend, ...]
    safety: SafetyReference
    health_gate: HealthGate
    evidence: tuple[Evidence, ...] = ()
    deltas: tuple[Delta, ...] = ()
    safety_critical: bool = False
    extensions: dict[str, Any] = attrs.field(factory=dict)

    def files(self) -> dict[str, tuple[int, str]]:
        """Return {path: (bytes, sha256)} of every file that the manifest names."""
        listed: tuple[Artifact | Evidence, ...] = (*self.artifacts, *self.evidence)
        return {item.path: (item.bytes, item.sha256) for item in listed}

    def artifact(self, path: str) -> Artifact:
        """Return the artifact at `path`; KeyError when there is none."""
        return {item.path: item for item in self.artifacts}[path]

    @property
    def total_bytes(self) -> int:
        """Bytes of all files that the manifest names."""
        return sum(size for size, _ in self.files().values())
