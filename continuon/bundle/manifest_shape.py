"""The shapes of `edge_manifest.json` and of the safety manifest, as plain tables.

`manifest` and `safety` define the same keys as typed values, and say what they mean.
These tables stand apart because a verifier that is a short command must not pay for
the libraries that make typed values; see decision 0207.
"""

from __future__ import annotations

from continuon.bundle.shape import Many, Maybe, OneOf

__all__ = [
    "E_STOP_ACTIONS",
    "MANIFEST_NAME",
    "MANIFEST_SHAPE",
    "ORIGINS",
    "SAFETY_SCHEMA",
    "SAFETY_SHAPE",
    "SCHEMA",
    "SENSES",
    "SIGNATURE_NAME",
]

SCHEMA = "continuon.edge-manifest/1"
SAFETY_SCHEMA = "continuon.safety/1"
MANIFEST_NAME = "edge_manifest.json"
SIGNATURE_NAME = "model.sig"
ORIGINS = ("real", "imported", "simulated", "synthetic", "replayed")
SENSES = ("depth", "image", "instruction", "proprio")
"""What a policy may be given at each tick."""
E_STOP_ACTIONS = ("neutral", "full_off")
"""What an emergency stop does to the outputs, mildest first."""

_FILE = {"path": (str,), "bytes": (int,), "sha256": (str,)}
MANIFEST_SHAPE = {
    "schema": (str, SCHEMA),
    "model_name": (str,),
    "version": (str,),
    "release_counter": (int,),
    "created_at_unix_ms": (int,),
    "source": (str,),
    "origins": (Many(str),),
    "compat": (
        {
            "library_min": (str, "0.1.0"),
            "library_below": (Maybe(str), None),
            "boards": (Many(str), ()),
            "accelerators": (
                Many(
                    {"name": (str,), "runtime_min": (str,), "runtime_below": (str,)},
                ),
                (),
            ),
            "observation_sha256": (Maybe(str), None),
            "action_sha256": (Maybe(str), None),
            "control_rate_hz": (Maybe(float), None),
            "min_free_bytes": (int, 0),
            "base_bundle": (Maybe(str), None),
            "senses": (Many(str), ()),
        },
    ),
    "artifacts": (Many({**_FILE, "role": (str,), "backend": (Maybe(str),)}),),
    "backends": (
        Many(
            {
                "name": (str,),
                "artifact": (str,),
                "golden": (str,),
                "tolerance": (float,),
                "latency_budget_ms": (float,),
            }
        ),
    ),
    "safety": ({"path": (str,), "sha256": (str,), "min_base_rule_version": (int,)},),
    "health_gate": (
        {
            "golden_max_error": (float,),
            "latency_p99_ms": (float,),
            "soak_ticks": (int,),
            "timeout_s": (float,),
            "max_veto_fraction": (float,),
            "max_shadow_mean": (float, 0.3),
            "max_shadow_peak": (float, 1.0),
        },
    ),
    "evidence": (Many({**_FILE, "kind": (str,)}), ()),
    "deltas": (Many({**_FILE, "from_sha256": (str,), "codec": (str,)}), ()),
    "safety_critical": (bool, False),
    "extensions": (object, {}),
}

SAFETY_SHAPE = {
    "schema": (str, SAFETY_SCHEMA),
    "base_rule_version": (int,),
    "channels": (
        Many(
            {
                "name": (str,),
                "min": (float,),
                "max": (float,),
                "max_rate_per_s": (Maybe(float), None),
            }
        ),
    ),
    "max_speed_mps": (Maybe(float), None),
    "max_force_n": (Maybe(float), None),
    "e_stop_action": (OneOf(E_STOP_ACTIONS), "full_off"),
    "e_stop_latching": (bool, True),
    "heartbeat_timeout_ms": (float, 200.0),
    "max_observation_age_ms": (float, 500.0),
}
