"""One host of several that train together, for the tests; told all by its arguments.

host.py RECORDINGS OUTPUT DIE_AT     DIE_AT 0 lives to the end
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import attrs


def main(recordings: Path, output: Path, die_at: int) -> None:
    from continuon.learn.mesh import join_cluster

    join_cluster()
    import jax

    from continuon._specs.learn.examples import RECIPE, TINY
    from continuon.clock import SystemClock
    from continuon.learn.share import load_share
    from continuon.learn.slow_run import SlowRun, run_slow

    host, hosts = jax.process_index(), jax.process_count()

    def progress(done, _total, _loss):
        if done == die_at:
            while not (output / "training" / "2").is_dir():
                time.sleep(0.01)
            os._exit(9)

    run = SlowRun(
        output=str(output),
        folder=output if host == 0 else output / f"host-{host}",
        config_preset="seed",
        num_steps=4,
        mode="tpu",
        fsdp=2,
        seed=0,
        recipe=attrs.evolve(RECIPE, batch_size=4),
        checkpoint_every=2,
        resume=True,
        tensorboard=host == 0,
        on_progress=progress,
        clock=SystemClock(),
        overrides={**TINY, "d": 64},
        loader="grain" if host else "memory",
    )
    share = load_share(
        recordings,
        host=host,
        hosts=hosts,
        holdout=0.2,
        minimum_episodes=4,
        image_height=RECIPE.image_height,
        image_width=RECIPE.image_width,
        scratch=output / "frames" if host else None,
    )
    report = run_slow(share, run)
    told = {
        "host": host,
        "hosts": report.hosts,
        "devices": report.devices,
        "resumed_at": report.resumed_at,
        "own": [episode.episode_id for episode in share.training],
        "held_out": list(report.held_out_episodes),
        "all": list(report.train_episodes),
        "data": report.data_digest,
        "losses": [row.loss for row in report.loss_curve],
        "policy": report.checkpoint_sha256,
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
