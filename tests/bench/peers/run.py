"""Measure one peer in its own environment: `python OURS_OR_PEER.py FOLDER`.

Each leaves `FOLDER/<name>.json`; `python run.py FOLDER` prints them as ratios to ours.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

OURS = "continuon"


def report(
    name: str, measure: Callable[[Path], dict[str, float]], argv: Sequence[str]
) -> None:
    """Measure into a temporary folder and leave the figures in the given one."""
    target = Path(argv[1])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        figures = measure(Path(scratch))
    (target / f"{name}.json").write_text(json.dumps(figures, indent=1))
    print(name, json.dumps({key: round(value, 3) for key, value in figures.items()}))


def main(folder: Path) -> None:
    """Print every peer's figures beside ours."""
    found = {f.stem: json.loads(f.read_text()) for f in sorted(folder.glob("*.json"))}
    ours = found[OURS]
    print("CPU ms a step (bytes a step); in brackets how many times ours")
    for name, figures in found.items():
        for key, value in figures.items():
            times = f"  ({value / ours[key]:.1f})" if ours.get(key) else ""
            print(f"{name:<22} {key:<18} {value:12.3f}{times}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
