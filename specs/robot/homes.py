"""A small robot home in which the Mid loop can learn: made up, and labelled so.

Its bundle's network was taught a little to steer where a bright stripe is; its episodes
teach it the rest. Keys, slots, recordings and records are those of a real home.
"""

from __future__ import annotations

import atexit
import shutil
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

import jax
import numpy as np

from continuon import hope
from continuon._specs.learn.examples import (
    HEIGHT,
    RECIPE,
    TINY,
    WIDTH,
    record_episode,
    stripe_episodes,
)
from continuon.bundle import build_bundle, generate_key, sign_bundle, verify_bundle
from continuon.bundle.keys import SigningKey
from continuon.bundle.manifest import HealthGate
from continuon.export import compile_checkpoint
from continuon.home import Home
from continuon.learn.loop import seed_steps
from continuon.ota import Updater
from continuon.ota.gate import GateReport
from continuon.robot.deployed import TRUSTED_KEY

__all__ = ["install", "learning_home", "stripe_artifacts"]

_STEPS = 60
GATE = HealthGate(
    golden_max_error=1e-3,
    latency_p99_ms=1000.0,
    soak_ticks=20,
    timeout_s=60.0,
    max_veto_fraction=0.99,
)
"""As loose as a busy test machine needs it; what is judged is unchanged."""


@lru_cache
def stripe_artifacts(seed: int = 0) -> Path:
    """Return a compiled network for the stripe episodes, made once a process."""
    folder = Path(mkdtemp(prefix="continuon-stripes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = hope.preset("seed", image_height=HEIGHT, image_width=WIDTH, **TINY)
    taught, _ = seed_steps(
        config, RECIPE, stripe_episodes(8, seed=5), num_steps=_STEPS, seed=seed
    )
    checkpoint = folder / "policy.hope"
    params = jax.tree.map(np.asarray, taught.average)
    hope.save_checkpoint(checkpoint, config, params, metadata={})
    compile_checkpoint(checkpoint, folder / "policy", control_rate_hz=50.0)
    return folder / "policy"


def install(
    home: Home,
    key: SigningKey,
    artifacts: Path,
    *,
    number: int = 1,
    gate: HealthGate = GATE,
) -> Path:
    """Build, sign, stage, activate and commit a bundle; return its slot."""
    source = home.root / f"bundle-{number}"
    build_bundle(
        source,
        artifacts_dir=artifacts,
        model_name="stripes",
        version=f"0.{number}.0",
        release_counter=number,
        source="test",
        created_at_unix_ms=1,
        origins=["synthetic"],
        health_gate=gate,
    )
    sign_bundle(source, [key])
    updater = Updater(home.model, [key.public])
    staged = updater.stage(source)
    updater.activate(staged.bundle)
    asked = verify_bundle(staged.directory, [key.public]).manifest.health_gate
    updater.commit(
        GateReport(
            bundle=staged.bundle,
            ticks=asked.soak_ticks,
            elapsed_s=1.0,
            golden_max_error=0.0,
            latency_p99_ms=1.0,
            veto_fraction=0.0,
            non_finite=0,
            missed_periods=0,
        )
    )
    return staged.directory


def learning_home(folder: Path, *, episodes: int = 8) -> tuple[Home, SigningKey]:
    """Return a home with a committed bundle and recordings that teach it something."""
    home, key = Home(folder), generate_key()
    home.keys.mkdir(parents=True)
    (home.keys / TRUSTED_KEY).write_bytes(key.public.pem)
    install(home, key, stripe_artifacts())
    home.episodes.mkdir(parents=True)
    for index, episode in enumerate(stripe_episodes(episodes, seed=3)):
        record_episode(home.episodes, episode, start_wall_ns=(index + 1) * 10**10)
    return home, key
