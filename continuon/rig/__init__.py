"""Samples and pulses: the robot's devices behind one protocol each."""

from __future__ import annotations

from continuon.rig.calibration import (
    CarCalibration,
    ServoCalibration,
    car_pulses_us,
)
from continuon.rig.pca9685 import Pca9685Servos
from continuon.rig.protocols import (
    BatteryReading,
    Frame,
    Rig,
    ThermalReading,
    VectorSample,
)
from continuon.rig.registry import RigScan, scan_rig
from continuon.rig.skew import SkewStats, skew_stats

__all__ = [
    "BatteryReading",
    "CarCalibration",
    "Frame",
    "Pca9685Servos",
    "Rig",
    "RigScan",
    "ServoCalibration",
    "SkewStats",
    "ThermalReading",
    "VectorSample",
    "car_pulses_us",
    "scan_rig",
    "skew_stats",
]
