"""The firmware's flags by Raspberry Pi OS's own program, where the mailbox is closed.

`vcgencmd get_throttled` prints `throttled=0x50000`. It is a process with rights of its
own, so it may answer where this process may not open the mailbox.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable

from continuon.errors import HardwareError
from continuon.rig.firmware import ThrottleFlags

__all__ = ["ask_vcgencmd"]

PROGRAM = "vcgencmd"
TIMEOUT_S = 0.5
_ANSWER = re.compile(r"throttled=0x([0-9a-fA-F]{1,8})\s*")


def ask_vcgencmd(
    find: Callable[[str], str | None] = shutil.which, *, timeout_s: float = TIMEOUT_S
) -> ThrottleFlags:
    """Return what the program says.

    Args:
        find: where a program lies, None where it does not.
        timeout_s: after which it is killed.

    Raises:
        HardwareError: E-RIG-VCGEN-001 there is no such program, -002 it hangs or
            cannot be started, -003 it says something else.
    """
    path = find(PROGRAM)
    if path is None:
        raise HardwareError(
            "E-RIG-VCGEN-001",
            "there is no vcgencmd here",
            hint="on a Raspberry Pi: sudo apt install raspi-utils",
        )
    command = [path, "get_throttled"]
    try:
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HardwareError(
            "E-RIG-VCGEN-002",
            "vcgencmd does not answer",
            where=path,
            seen=error,
            allowed=f"an answer within {timeout_s:g} s",
            hint="run it by hand: vcgencmd get_throttled",
        ) from error
    told = ran.stdout.decode("ascii", errors="replace")
    match = _ANSWER.fullmatch(told)
    if ran.returncode != 0 or match is None:
        words = (told + ran.stderr.decode("ascii", errors="replace")).strip()
        raise HardwareError(
            "E-RIG-VCGEN-003",
            "vcgencmd says no throttling flags",
            where=path,
            seen=f"exit status {ran.returncode}, {words[:120]!r}",
            allowed="throttled=0x0 and the like",
            hint="its user must be in the group video",
        )
    return ThrottleFlags(raw=int(match[1], 16))
