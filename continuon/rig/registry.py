"""What is plugged into this machine: `continuon rig scan`."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from continuon.clock import Clock, SystemClock
from continuon.errors import MissingPackageError
from continuon.rig.camera_picamera2 import list_picameras
from continuon.rig.cameras import video_nodes
from continuon.rig.firmware import ThrottleFlags, read_throttle_flags
from continuon.rig.found import Found, RigScan, ask
from continuon.rig.origin import machine_origin
from continuon.rig.scan_bus import scan_bus
from continuon.rig.thermal import read_celsius
from continuon.rig.usb import OAK_VENDOR, UsbDevice, list_usb

__all__ = ["Found", "RigScan", "scan_rig"]

HAILO_VENDOR = "0x1e60"
LOW_DISK_FRACTION = 0.15


def scan_rig(
    *,
    dev: Path = Path("/dev"),
    sys: Path = Path("/sys"),
    proc: Path = Path("/proc"),
    home: Path = Path("/"),
    clock: Clock | None = None,
    connect: Callable[[str], Any] | None = None,
    list_cameras: Callable[[], list[dict[str, Any]]] | None = None,
) -> RigScan:
    """Look for every device that a driver exists for, changing nothing.

    Args:
        dev: root of device nodes.
        sys: root of sysfs.
        proc: root of procfs.
        home: where recordings go.
        clock: stamps gauge readings; the machine's when None.
        connect: opens an I2C path; smbus2 when None.
        list_cameras: what libcamera sees; picamera2 is asked when None.
    """
    host = SystemClock() if clock is None else clock
    found: list[Found] = []
    adapters = sorted(dev.glob("i2c-*"))
    for adapter in adapters:
        found += scan_bus(str(adapter), host, connect)
    if not adapters:
        found.append(
            Found(
                kind="i2c",
                where=str(dev / "i2c-1"),
                present=False,
                detail="no I2C adapter: enable it with raspi-config and reboot",
                hint="sudo raspi-config nonint do_i2c 0, then reboot",
            )
        )
    found += _cameras(dev, sys, list_cameras)
    found += [
        ask("thermal", "SoC", lambda: f"{read_celsius(sys):.1f} C"),
        _firmware(dev),
        _sound(proc),
        _hailo(dev, sys),
        _pressure(proc),
        _disk(home),
    ]
    return RigScan(found=tuple(found), origin=machine_origin())


def _firmware(dev: Path) -> Found:
    """Say what the firmware's flags are, and what they mean for the supply."""
    flags: list[ThrottleFlags] = []

    def question() -> str:
        flags.append(read_throttle_flags(dev / "vcio"))
        return f"get_throttled=0x{flags[0].raw:x}"

    found = ask("firmware", str(dev / "vcio"), question)
    words = []
    for seen in flags:
        if seen.under_voltage:
            words.append("under-voltage now: use a 5 V 5 A supply and short cables")
        elif seen.under_voltage_since_boot:
            words.append("the supply dropped at some time since boot")
        if seen.throttled:
            words.append("the SoC is throttled now: add cooling")
    return attrs.evolve(found, hint="; ".join(words)) if words else found


def _sound(proc: Path) -> Found:
    """Name the sound cards that can record; one is optional."""
    cards = sorted(proc.glob("asound/card[0-9]*/pcm*c/info"))
    names = [
        match[1]
        for card in cards
        if (match := re.search(r"^name: (.+)$", card.read_text("utf-8"), re.MULTILINE))
    ]
    return Found(
        kind="sound",
        where=str(proc / "asound"),
        present=bool(names),
        detail=", ".join(names) or "no sound card records (optional)",
    )


def _hailo(dev: Path, sys: Path) -> Found:
    """Tell an accelerator without a driver from none at all."""
    node = dev / "hailo0"
    vendors = sorted(sys.glob("bus/pci/devices/*/vendor"))
    on_pcie = any(v.read_text("ascii").strip() == HAILO_VENDOR for v in vendors)
    detail, hint = "no Hailo accelerator", None
    if node.exists():
        detail = "accelerator with driver"
    elif on_pcie:
        detail = "an accelerator is on PCIe, and no driver drives it"
        hint = "sudo apt install hailo-all, then reboot"
    return Found(
        kind="hailo",
        where=str(node),
        present=node.exists(),
        detail=detail,
        hint=hint,
    )


def _pressure(proc: Path) -> Found:
    path = proc / "pressure/memory"
    text = path.read_text("ascii") if path.is_file() else ""
    match = re.search(r"^full avg10=([0-9.]+)", text, re.MULTILINE)
    if match is None:
        return Found(
            kind="pressure",
            where=str(path),
            present=False,
            detail="the kernel does not say how long tasks wait for memory",
            hint="add psi=1 to cmdline.txt and reboot",
        )
    return Found(
        kind="pressure",
        where=str(path),
        present=True,
        detail=f"all tasks waited for memory {match[1]} % of the last 10 s",
    )


def _disk(home: Path) -> Found:
    place = home
    while not place.exists():
        place = place.parent
    usage = os.statvfs(place)
    free = usage.f_bavail / max(usage.f_blocks, 1)
    low = free < LOW_DISK_FRACTION
    return Found(
        kind="disk",
        where=str(place),
        present=True,
        detail=f"{usage.f_bavail * usage.f_frsize / 1e9:.1f} GB free",
        hint="free space: recordings stop when it is full" if low else None,
    )


def _cameras(
    dev: Path, sys: Path, list_cameras: Callable[[], list[dict[str, Any]]] | None
) -> list[Found]:
    found = [
        _oak(device, dev) for device in list_usb(sys) if device.vendor == OAK_VENDOR
    ]
    lacking = ""
    try:
        for info in (list_cameras or list_picameras)():
            model = str(info.get("Model", "unknown"))
            where = f"libcamera {info.get('Num', 0)}"
            found.append(Found(kind="camera", where=where, present=True, detail=model))
    except MissingPackageError:
        lacking = "; picamera2 is not installed"
    found += [
        Found(
            kind="camera",
            where=str(dev / node),
            present=(dev / node).exists(),
            detail=f"{name or 'unnamed'}, colour without depth",
        )
        for node, name in video_nodes(sys)
    ]
    if not any(each.present for each in found):
        found.append(
            Found(
                kind="camera",
                where="USB, libcamera, video nodes",
                present=False,
                detail=f"no camera is seen{lacking}",
                hint="plug the depth camera into a USB 3 port; a ribbon camera needs "
                "sudo apt install python3-picamera2",
            )
        )
    return found


def _oak(device: UsbDevice, dev: Path) -> Found:
    """Say what USB knows of a depth camera; it boots only when it is opened."""
    hint = None
    if importlib.util.find_spec("depthai") is None:
        hint = "pip install 'continuon[oak]'"
    elif not os.access(dev / device.node, os.W_OK):
        hint = (
            "this user may not use it: add a udev rule for vendor 03e7 with MODE 0666 "
            "and plug it in again"
        )
    words = f"OAK depth camera ({device.name or 'unnamed'})"
    return Found(
        kind="camera",
        where="USB",
        present=True,
        detail=f"{words}, {device.speed_mbit_s:g} Mbit/s before it boots",
        hint=hint,
    )
