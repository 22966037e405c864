"""Updates: batches of episodes in, parameters out, and proof that it was learning.

Importing this room is light; JAX is loaded when something is trained or evaluated.
"""

from continuon.learn.baselines import fit_mean, fit_ridge
from continuon.learn.data import (
    EpisodeArrays,
    digest_of,
    load_arrays,
    origin_of,
    require_episodes,
    split_by_time,
)
from continuon.learn.evaluate import EpisodeTrace, EvaluationReport, evaluate
from continuon.learn.mid import MidReport, run_mid
from continuon.learn.mid_gate import ActionBounds, GateLimits
from continuon.learn.mid_guard import MidGuard, MidLimits
from continuon.learn.proof import DEFAULT_PROOF_STEPS, ProofReport, run_proof
from continuon.learn.recipe import Recipe
from continuon.learn.resources import Level, ResourceMonitor
from continuon.learn.sanity import METRIC_COLUMNS, SanityReport, run_sanity
from continuon.learn.slow import DEFAULT_STEPS, TrainReport, train

__all__ = [
    "DEFAULT_PROOF_STEPS",
    "DEFAULT_STEPS",
    "METRIC_COLUMNS",
    "ActionBounds",
    "EpisodeArrays",
    "EpisodeTrace",
    "EvaluationReport",
    "GateLimits",
    "Level",
    "MidGuard",
    "MidLimits",
    "MidReport",
    "ProofReport",
    "Recipe",
    "ResourceMonitor",
    "SanityReport",
    "TrainReport",
    "digest_of",
    "evaluate",
    "fit_mean",
    "fit_ridge",
    "load_arrays",
    "origin_of",
    "require_episodes",
    "run_mid",
    "run_proof",
    "run_sanity",
    "split_by_time",
    "train",
]
