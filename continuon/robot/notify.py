"""Tell systemd how the service is; silent where systemd did not start it."""

from __future__ import annotations

import os
import socket

__all__ = ["notify"]


def notify(state: str) -> bool:
    """Send `READY=1`, `WATCHDOG=1`, `STOPPING=1` or `STATUS=text`; see sd_notify(3).

    Returns False where there is nobody to tell.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.connect("\0" + address[1:] if address.startswith("@") else address)
        end.send(state.encode())
    return True
