"""The battery as the guard tells it: a value that fits the shared board."""

from __future__ import annotations

import math
import struct
from enum import StrEnum

import attrs

__all__ = ["SUPPLY_FORMAT", "GaugeState", "Supply", "pack_supply", "unpack_supply"]

_TEXT_BYTES = 240
SUPPLY_FORMAT = struct.Struct(f"<qqII3d{_TEXT_BYTES}s")


class GaugeState(StrEnum):
    """What came of the guard's last look at the gauge."""

    READ = "read"
    FAILED = "failed"
    ABSENT = "absent"


_STATES = tuple(GaugeState)


@attrs.frozen(kw_only=True)
class Supply:
    """The guard's last look at the battery's gauge.

    Attributes:
        state: only READ has figures.
        capture_ns: of the reading, or of the look that failed; host monotonic.
        took_ns: how long the gauge held the bus.
        volts: of the whole battery.
        amps: negative when discharging; None where not measured.
        fraction: charge in 0..1; None where not known.
        cells: lithium cells in series; None where the driver cannot know.
        reason: why there are no figures.
    """

    state: GaugeState
    capture_ns: int
    took_ns: int = 0
    volts: float | None = None
    amps: float | None = None
    fraction: float | None = None
    cells: int | None = None
    reason: str = ""


def pack_supply(supply: Supply) -> tuple[object, ...]:
    """Return the board's fields; a long reason is cut."""
    figures = (supply.volts, supply.amps, supply.fraction)
    return (
        supply.capture_ns,
        supply.took_ns,
        _STATES.index(supply.state),
        supply.cells or 0,
        *(math.nan if figure is None else figure for figure in figures),
        supply.reason.encode()[:_TEXT_BYTES],
    )


def unpack_supply(fields: tuple[object, ...]) -> Supply:
    """Return what `pack_supply` packed; figures that are no numbers are None."""
    capture_ns, took_ns, state, cells, volts, amps, fraction, text = fields
    assert isinstance(capture_ns, int)
    assert isinstance(took_ns, int)
    assert isinstance(state, int)
    assert isinstance(text, bytes)
    return Supply(
        state=_STATES[state],
        capture_ns=capture_ns,
        took_ns=took_ns,
        volts=_number(volts),
        amps=_number(amps),
        fraction=_number(fraction),
        cells=int(cells) or None if isinstance(cells, int) else None,
        reason=text.rstrip(b"\0").decode(errors="ignore"),
    )


def _number(value: object) -> float | None:
    return value if isinstance(value, float) and math.isfinite(value) else None
