"""`continuon train hand`: the manipulation head."""

from __future__ import annotations

from pathlib import Path

import attrs

from continuon.cli.options import check_at_least_one
from continuon.cli.render import Result
from continuon.environment import read_environment
from continuon.home import Home

__all__ = ["train"]


def train(
    folder: Path,
    *,
    output: Path | None = None,
    history: int = 4,
    horizon: int = 8,
    width: int = 64,
    num_steps: int = 600,
    holdout: float = 0.2,
    seed: int = 0,
) -> Result:
    """Train the manipulation head; 3 if it is not surely better than rules without it.

    From an object's points and the fingertips' last ticks it tells the next ones, in
    metres. The last demonstrations by name judge it.

    Parameters
    ----------
    folder
        Of *.npz files: points_m [T, N, 3], tips_m [T, K, 3], rate_hz, origin.
    output
        Where it goes; default trainer/checkpoints/hand.aina below the home.
    history
        Ticks that it sees of each fingertip, at least 2.
    horizon
        Ticks that it tells.
    width
        Of the transformer, a multiple of 4.
    num_steps
        Updates, of the head and of a control that sees no object.
    holdout
        Share of the demonstrations that judge.
    seed
        Of parameters and batches.
    """
    from continuon.cli.progress import Counter

    check_at_least_one(num_steps=num_steps, history=history, horizon=horizon)
    read_environment().require_jax()
    from continuon.hope.aina import AinaConfig
    from continuon.learn.hand_fit import train_hand
    from continuon.learn.hands import load_hands

    episodes = load_hands(folder)
    config = AinaConfig(
        fingertips=episodes[0].tips_m.shape[1],
        history=history,
        horizon=horizon,
        d=width,
    )
    with Counter("manipulation head") as counter:
        report = train_hand(
            episodes,
            output or Home.from_environment().checkpoints / "hand.aina",
            config=config,
            num_steps=num_steps,
            holdout=holdout,
            seed=seed,
            on_progress=lambda done, total, loss: counter(
                done, total, f"off by {loss:.2f} cm"
            ),
        )
    verdict = "passed" if report.passed else "missed"
    text = (
        f"{verdict}: {report.path} ({report.origin})\n"
        f"held-out error {1000 * report.error_m:.1f} mm, at the last tick "
        f"{1000 * report.error_last_m:.1f}; staying {1000 * report.stay_m:.1f}, "
        f"going on {1000 * report.velocity_m:.1f}, without the object "
        f"{1000 * report.blind_m:.1f}; nearer by {_low(report.gain_m)}"
    )
    data = attrs.asdict(report) | {"path": str(report.path), "passed": report.passed}
    return Result(data=data, text=text, exit_code=0 if report.passed else 3)


def _low(gain_m: float | None) -> str:
    return "an unknown margin" if gain_m is None else f"at least {1000 * gain_m:.1f} mm"
