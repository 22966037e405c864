"""Verdicts on a rig and its machine; what is absent or unknown is never OK."""

from __future__ import annotations

from continuon.health.check import check_health
from continuon.health.doctor import DoctorReport, doctor
from continuon.health.levels import Level
from continuon.health.report import Check, HealthReport
from continuon.health.rig_validation import RigValidation, rig_validate
from continuon.health.watching import HealthWatch

__all__ = [
    "Check",
    "DoctorReport",
    "HealthReport",
    "HealthWatch",
    "Level",
    "RigValidation",
    "check_health",
    "doctor",
    "rig_validate",
]
