"""What is plugged into USB, from sysfs alone."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["OAK_VENDOR", "UsbDevice", "list_usb"]

OAK_VENDOR = "03e7"  # Movidius: the OAK cameras' chip, booted or not


@attrs.frozen(kw_only=True)
class UsbDevice:
    """One device.

    Attributes:
        vendor, product: four hexadecimal digits each.
        name: what the device calls itself; empty where it does not.
        speed_mbit_s: negotiated.
        node: below /dev, by which a user process opens it.
    """

    vendor: str
    product: str
    name: str
    speed_mbit_s: float
    node: str


def list_usb(sys: Path = Path("/sys")) -> tuple[UsbDevice, ...]:
    """Return the devices by path; none where there is no USB."""
    found = []
    for vendor in sorted(sys.glob("bus/usb/devices/*/idVendor")):
        place = vendor.parent
        speed = _text(place / "speed")
        found.append(
            UsbDevice(
                vendor=_text(vendor),
                product=_text(place / "idProduct"),
                name=_text(place / "product"),
                speed_mbit_s=float(speed) if speed else 0.0,
                node=f"bus/usb/{_number(place / 'busnum')}/{_number(place / 'devnum')}",
            )
        )
    return tuple(found)


def _text(path: Path) -> str:
    """Return a file's text, or nothing where the device does not have it."""
    return path.read_text("utf-8", "replace").strip() if path.is_file() else ""


def _number(path: Path) -> str:
    """Return a number of sysfs with three digits, as device nodes are named."""
    return _text(path).zfill(3)
