"""Episodes: recorded without loss, judged by what they hold, in everyone's format."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continuon.rlds.action import Action
    from continuon.rlds.episode import (
        ActionSource,
        Codec,
        ControlRole,
        EndReason,
        EpisodeMetadata,
        Origin,
        Share,
        StreamSpec,
        XrMode,
    )
    from continuon.rlds.export import ExportReport, export_episodes
    from continuon.rlds.export_manifest import verify_export
    from continuon.rlds.findings import EpisodeReport, Finding
    from continuon.rlds.images import (
        decode_depth_png,
        decode_jpeg,
        encode_depth_png,
        encode_jpeg,
        policy_image,
    )
    from continuon.rlds.importers.dispatch import import_recording
    from continuon.rlds.importers.report import ImportReport
    from continuon.rlds.json_schema import episode_schema
    from continuon.rlds.loader import Loader, LoaderState
    from continuon.rlds.observation import Observation
    from continuon.rlds.plan_dir import read_plan, write_plan
    from continuon.rlds.plan_episode import PlanEpisode
    from continuon.rlds.plan_record import record_plan
    from continuon.rlds.plan_steps import plan_of
    from continuon.rlds.plan_validate import judge_plan, validate_plan
    from continuon.rlds.recorder import EpisodeRecorder, RecordingSummary
    from continuon.rlds.recording import Recording, Stream, open_recording
    from continuon.rlds.recovery import RecoveryReport, recover_recordings
    from continuon.rlds.sharing_level import SharingLevel
    from continuon.rlds.statistics import ColumnStatistics, episode_statistics
    from continuon.rlds.step import Step
    from continuon.rlds.step_store import open_store
    from continuon.rlds.steps import EpisodeSteps, align, read_steps
    from continuon.rlds.tfds_read import TfdsDirectory, open_tfds, read_columns
    from continuon.rlds.tfds_write import ConversionReport, convert
    from continuon.rlds.validate import validate_recording
    from continuon.rlds.validate_tfds import DatasetReport, validate_dataset
    from continuon.rlds.windows import WindowSource, open_windows

__all__ = [
    "Action",
    "ActionSource",
    "Codec",
    "ColumnStatistics",
    "ControlRole",
    "ConversionReport",
    "DatasetReport",
    "EndReason",
    "EpisodeMetadata",
    "EpisodeRecorder",
    "EpisodeReport",
    "EpisodeSteps",
    "ExportReport",
    "Finding",
    "ImportReport",
    "Loader",
    "LoaderState",
    "Observation",
    "Origin",
    "PlanEpisode",
    "Recording",
    "RecordingSummary",
    "RecoveryReport",
    "Share",
    "SharingLevel",
    "Step",
    "Stream",
    "StreamSpec",
    "TfdsDirectory",
    "WindowSource",
    "XrMode",
    "align",
    "convert",
    "decode_depth_png",
    "decode_jpeg",
    "encode_depth_png",
    "encode_jpeg",
    "episode_schema",
    "episode_statistics",
    "export_episodes",
    "import_recording",
    "judge_plan",
    "open_recording",
    "open_store",
    "open_tfds",
    "open_windows",
    "plan_of",
    "policy_image",
    "read_columns",
    "read_plan",
    "read_steps",
    "record_plan",
    "recover_recordings",
    "validate_dataset",
    "validate_plan",
    "validate_recording",
    "verify_export",
    "write_plan",
]

_HOMES = {
    "sharing_level": ("SharingLevel",),
    "export_manifest": ("verify_export",),
    "step_store": ("open_store",),
    "windows": ("WindowSource", "open_windows"),
    "loader": ("Loader", "LoaderState"),
    "json_schema": ("episode_schema",),
    "plan_validate": ("judge_plan", "validate_plan"),
    "plan_steps": ("plan_of",),
    "plan_record": ("record_plan",),
    "plan_dir": ("read_plan", "write_plan"),
    "plan_episode": ("PlanEpisode",),
    "step": ("Step",),
    "observation": ("Observation",),
    "action": ("Action",),
    "episode": (
        "ActionSource",
        "Codec",
        "ControlRole",
        "EndReason",
        "EpisodeMetadata",
        "Origin",
        "Share",
        "StreamSpec",
        "XrMode",
    ),
    "export": ("ExportReport", "export_episodes"),
    "findings": ("EpisodeReport", "Finding"),
    "images": (
        "decode_depth_png",
        "decode_jpeg",
        "encode_depth_png",
        "encode_jpeg",
        "policy_image",
    ),
    "importers.report": ("ImportReport",),
    "recorder": ("EpisodeRecorder", "RecordingSummary"),
    "recording": ("Recording", "Stream", "open_recording"),
    "recovery": ("RecoveryReport", "recover_recordings"),
    "statistics": ("ColumnStatistics", "episode_statistics"),
    "steps": ("EpisodeSteps", "align", "read_steps"),
    "tfds_read": ("TfdsDirectory", "open_tfds", "read_columns"),
    "tfds_write": ("ConversionReport", "convert"),
    "importers.dispatch": ("import_recording",),
    "validate": ("validate_recording",),
    "validate_tfds": ("DatasetReport", "validate_dataset"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first asked for (PEP 562)."""
    if name not in _MODULE_OF:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})
