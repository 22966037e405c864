"""What is plugged into this machine: `continuon rig scan`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from continuon.errors import HardwareError, MissingPackageError
from continuon.rig.i2c import I2cBus
from continuon.rig.pca9685 import Pca9685Servos

__all__ = ["Found", "RigScan", "scan_rig"]


@attrs.frozen(kw_only=True)
class Found:
    """One place that was looked at.

    Attributes:
        kind: what was looked for: "pca9685", "ina219", "max17048", "camera", ...
        where: path or address.
        present: whether it answered.
        detail: what it said, or why it is not there.
    """

    kind: str
    where: str
    present: bool
    detail: str


@attrs.frozen
class RigScan:
    """Everything that was looked at, in a fixed order."""

    found: tuple[Found, ...]

    def as_dict(self) -> dict[str, list[dict[str, object]]]:
        """Return it for machines."""
        return {"found": [attrs.asdict(each) for each in self.found]}


def scan_rig(
    *,
    dev: Path = Path("/dev"),
    sys: Path = Path("/sys"),
    connect: Callable[[str], Any] | None = None,
    list_cameras: Callable[[], list[dict[str, Any]]] | None = None,
) -> RigScan:
    """Look for every device that a driver exists for, changing nothing.

    Args:
        dev: root of device nodes.
        sys: root of sysfs.
        connect: opens an I2C path; smbus2 when None.
        list_cameras: what libcamera sees; picamera2 is asked when None.
    """
    found: list[Found] = []
    adapters = sorted(dev.glob("i2c-*"))
    if not adapters:
        found.append(
            Found(
                kind="i2c",
                where=str(dev / "i2c-1"),
                present=False,
                detail="no I2C adapter: enable it with raspi-config and reboot",
            )
        )
    for adapter in adapters:
        found += _scan_bus(str(adapter), connect)
    found += _scan_cameras(dev, list_cameras)
    for kind, path, absent in (
        ("thermal", sys / "class/thermal/thermal_zone0/temp", "no thermal zone"),
        ("firmware", dev / "vcio", "no firmware mailbox: not a Raspberry Pi"),
        ("hailo", dev / "hailo0", "no Hailo accelerator"),
    ):
        there = path.exists()
        detail = "present" if there else absent
        found.append(Found(kind=kind, where=str(path), present=there, detail=detail))
    return RigScan(tuple(found))


def _scan_bus(path: str, connect: Callable[[str], Any] | None) -> list[Found]:
    bus = I2cBus(path, connect=connect)
    found = []
    try:
        servos = Pca9685Servos(bus, limits_us={})
        found.append(_try("pca9685", f"{path} 0x40", lambda: str(servos.probe())))
        for address in (0x41, 0x42, 0x43, 0x44, 0x45):
            where = f"{path} 0x{address:02x}"

            def ask(at: int = address) -> str:
                volts = (int.from_bytes(bus.read(at, 2, 2), "big") >> 3) * 4e-3
                return f"{volts:.2f} V"

            found.append(_try("ina219", where, ask))

        def charge() -> str:
            return f"{int.from_bytes(bus.read(0x36, 4, 2), 'big') / 256:.0f} %"

        found.append(_try("max17048", f"{path} 0x36", charge))
    finally:
        bus.close()
    return found


def _try(kind: str, where: str, ask: Callable[[], str]) -> Found:
    try:
        return Found(kind=kind, where=where, present=True, detail=ask())
    except (HardwareError, MissingPackageError) as error:
        return Found(kind=kind, where=where, present=False, detail=str(error))


def _scan_cameras(
    dev: Path, list_cameras: Callable[[], list[dict[str, Any]]] | None
) -> list[Found]:
    found = []
    if list_cameras is None and importlib.util.find_spec("picamera2") is not None:
        from picamera2 import Picamera2

        list_cameras = Picamera2.global_camera_info
    if list_cameras is None:
        detail = "picamera2 is not installed: sudo apt install python3-picamera2"
        found.append(
            Found(kind="camera", where="libcamera", present=False, detail=detail)
        )
    else:
        for info in list_cameras():
            model = str(info.get("Model", "unknown"))
            where = f"libcamera {info.get('Num', 0)}"
            found.append(Found(kind="camera", where=where, present=True, detail=model))
    found += [
        Found(kind="video", where=str(node), present=True, detail="V4L2 node")
        for node in sorted(dev.glob("video*"))
    ]
    return found
