"""Hypothesis strategies for legal manifests, versions and safety limits."""

from __future__ import annotations

from hypothesis import strategies as st

from continuon.bundle.manifest import (
    ORIGINS,
    Artifact,
    Backend,
    Compat,
    Delta,
    Evidence,
    HealthGate,
    Manifest,
    SafetyReference,
)
from continuon.bundle.manifest_rules import DELTA_CODECS
from continuon.bundle.safety import ChannelLimit, EStopAction, SafetyManifest
from continuon.bundle.semver import SemVer

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
positive = st.floats(min_value=1e-6, max_value=1e6)
_word = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=8)
_numeric = st.integers(0, 10**6).map(str)
_alphanumeric = _word.filter(lambda text: not text.isdigit())

versions = st.builds(
    SemVer,
    st.integers(0, 99),
    st.integers(0, 99),
    st.integers(0, 99),
    st.lists(_numeric | _alphanumeric, max_size=3).map(tuple),
    st.lists(_word, max_size=2).map(tuple),
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Return legal manifests."""
    size = st.integers(0, 1 << 36)
    safety_digest = draw(digests)
    artifacts = [
        Artifact(path="policy.tflite", role="policy", backend="litert",
                 bytes=draw(size), sha256=draw(digests)),
        Artifact(path="golden.json", role="golden", backend=None,
                 bytes=draw(size), sha256=draw(digests)),
        Artifact(path="safety.json", role="safety", backend=None,
                 bytes=draw(size), sha256=safety_digest),
    ]  # fmt: skip
    deltas = st.builds(
        Delta,
        path=st.just("policy.tflite"),
        from_sha256=digests,
        codec=st.sampled_from(DELTA_CODECS),
        bytes=st.integers(1, 1 << 30),
        sha256=digests,
    )
    names = draw(st.lists(_word, unique=True, max_size=3))
    return Manifest(
        model_name=draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)),
        version=str(draw(versions)),
        release_counter=draw(st.integers(0, 2**31 - 1)),
        created_at_unix_ms=draw(st.integers(1, 2**43 - 1)),
        source=draw(st.text("abc xyzé/", min_size=1, max_size=40)),
        origins=tuple(
            draw(st.lists(st.sampled_from(ORIGINS), unique=True, min_size=1))
        ),
        compat=Compat(
            control_rate_hz=draw(st.none() | st.floats(1, 1000)),
            observation_sha256=draw(st.none() | digests),
            min_free_bytes=draw(st.integers(0, 1 << 40)),
        ),
        artifacts=tuple(artifacts),
        backends=(
            Backend(
                name="litert",
                artifact="policy.tflite",
                golden="golden.json",
                tolerance=draw(positive),
                latency_budget_ms=draw(positive),
            ),
        ),
        safety=SafetyReference(
            path="safety.json",
            sha256=safety_digest,
            min_base_rule_version=draw(st.integers(1, 9)),
        ),
        health_gate=HealthGate(
            golden_max_error=draw(positive),
            latency_p99_ms=draw(positive),
            soak_ticks=draw(st.integers(1, 10**6)),
            timeout_s=draw(positive),
            max_veto_fraction=draw(st.floats(0, 0.99)),
            max_shadow_mean=draw(st.floats(0.01, 2.0)),
            max_shadow_peak=draw(st.floats(0.01, 2.0)),
        ),
        evidence=tuple(
            Evidence(
                kind="proof",
                path=f"evidence/{name}.json",
                bytes=3,
                sha256=draw(digests),
            )
            for name in names
        ),
        deltas=tuple(draw(st.lists(deltas, max_size=2))),
        extensions=draw(st.dictionaries(_word.map("x-{}".format), _word, max_size=2)),
    )


@st.composite
def limits(draw: st.DrawFn, name: str) -> ChannelLimit:
    """Return limits of one channel, all of which allow 0."""
    return ChannelLimit(
        name=name,
        min=draw(st.floats(-2, 0)),
        max=draw(st.floats(0, 2)),
        max_rate_per_s=draw(st.none() | positive),
    )


@st.composite
def safety_manifests(draw: st.DrawFn, base_rule_version: int = 1) -> SafetyManifest:
    """Return legal safety manifests that can be merged with each other."""
    names = draw(st.sets(st.sampled_from(["a", "steering", "throttle"]), min_size=1))
    return SafetyManifest(
        base_rule_version=base_rule_version,
        channels=tuple(draw(limits(name)) for name in sorted(names)),
        max_speed_mps=draw(st.none() | positive),
        max_force_n=draw(st.none() | positive),
        e_stop_action=draw(st.sampled_from(EStopAction)),
        e_stop_latching=draw(st.booleans()),
        heartbeat_timeout_ms=draw(positive),
        max_observation_age_ms=draw(positive),
    )
