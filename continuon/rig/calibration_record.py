"""The stored calibration of one car: a checksummed record below the home.

The servo board's oscillator differs from board to board (23 to 27 MHz) and stands in no
register, so it is measured once with the board that it belongs to, and kept.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import attrs

from continuon.errors import ContractError, DataError
from continuon.home import Home
from continuon.rig.calibration import CarCalibration, calibration_from_dict

__all__ = [
    "calibration_path",
    "encode_calibration",
    "load_calibration",
    "oscillator_from_pulse",
]

SCHEMA = "continuon.calibration/1"


def calibration_path(home: Home) -> Path:
    """Return where the record lies."""
    return home.state / "calibration.json"


def encode_calibration(calibration: CarCalibration) -> bytes:
    """Return the record's bytes; write them with one replacing rename."""
    facts = attrs.asdict(calibration)
    record = {"schema": SCHEMA, "calibration": facts, "crc32": _crc(facts)}
    return json.dumps(record, indent=1).encode() + b"\n"


def load_calibration(home: Home) -> CarCalibration | None:
    """Return the stored calibration, or None where nothing was ever stored.

    Raises:
        DataError: the record is damaged or of another schema.
    """
    path = calibration_path(home)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        record = json.loads(data)
        facts = record["calibration"]
        whole = record["schema"] == SCHEMA and record["crc32"] == _crc(facts)
        calibration = calibration_from_dict(facts) if whole else None
    except (ValueError, KeyError, TypeError, ContractError) as error:
        raise _damaged(path) from error
    if calibration is None:
        raise _damaged(path)
    return calibration


def oscillator_from_pulse(
    believed_hz: float, *, register_us: float, measured_us: float
) -> float:
    """Return a board's oscillator from one pulse that was measured at its output.

    A pulse is a count of ticks, and a tick is inversely proportional to the oscillator,
    so the true one is the believed one times what the registers mean by it over what
    was measured.

    Args:
        believed_hz: by which the pulse was written.
        register_us: the pulse by its registers and `believed_hz` (`read_pulses_us`).
        measured_us: the same pulse by an instrument.

    Raises:
        ContractError: no board of this kind is so far off.
    """
    true_hz = believed_hz * register_us / measured_us if measured_us > 0 else 0.0
    if not 23e6 <= true_hz <= 27e6:
        raise ContractError(
            "E-RIG-CALIB-003",
            "a measured pulse does not fit any servo board",
            seen=f"{measured_us:g} us for {register_us:.1f}: {true_hz / 1e6:.2f} MHz",
            allowed="23..27 MHz",
            hint="measure the pulse's width at the output, not its period",
        )
    return true_hz


def _crc(facts: object) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def _damaged(path: Path) -> DataError:
    return DataError(
        "E-RIG-CALIB-004",
        "the stored calibration is damaged",
        where=path,
        hint="calibrate again: `continuon rig calibrate`",
    )
