"""The slot: staged, tried, committed or rolled back, whatever the power does."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from continuon.ota.compat import Device
    from continuon.ota.delta import make_deltas
    from continuon.ota.download import Downloader
    from continuon.ota.entitlement import GrantEntitlement
    from continuon.ota.gate import GateReport, judge
    from continuon.ota.grant import RobotIdentity
    from continuon.ota.repository import (
        Expiry,
        Publisher,
        PublishReport,
        delegate,
        publish,
        refresh_timestamp,
        rotate,
        withdraw,
    )
    from continuon.ota.repository_keys import (
        RepositoryKeys,
        generate_repository_keys,
        load_repository_keys,
        new_repository_keys,
    )
    from continuon.ota.updater import Updater

__all__ = [
    "Device",
    "Downloader",
    "Expiry",
    "GateReport",
    "GrantEntitlement",
    "PublishReport",
    "Publisher",
    "RepositoryKeys",
    "RobotIdentity",
    "Updater",
    "delegate",
    "generate_repository_keys",
    "judge",
    "load_repository_keys",
    "make_deltas",
    "new_repository_keys",
    "publish",
    "refresh_timestamp",
    "rotate",
    "withdraw",
]

_HOMES = {
    "compat": ("Device",),
    "delta": ("make_deltas",),
    "download": ("Downloader",),
    "entitlement": ("GrantEntitlement",),
    "gate": ("GateReport", "judge"),
    "grant": ("RobotIdentity",),
    "repository": (
        "Expiry",
        "PublishReport",
        "Publisher",
        "delegate",
        "publish",
        "refresh_timestamp",
        "rotate",
        "withdraw",
    ),
    "repository_keys": (
        "RepositoryKeys",
        "generate_repository_keys",
        "load_repository_keys",
        "new_repository_keys",
    ),
    "updater": ("Updater",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first asked for (PEP 562)."""
    if name not in _MODULE_OF:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
