"""The SoC's temperature from sysfs, with the firmware's throttling flags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from continuon.clock import Clock
from continuon.errors import HardwareError
from continuon.rig.firmware import ThrottleFlags, read_throttle_flags
from continuon.rig.protocols import ThermalReading
from continuon.rig.vcgencmd import ask_vcgencmd

__all__ = ["SysfsThermal", "read_celsius"]

# Where the firmware begins to throttle, for machines that cannot be asked.
THROTTLE_CELSIUS = 80.0


def read_celsius(sys: Path = Path("/sys")) -> float:
    """Return the SoC's temperature from thermal zone 0.

    Raises:
        HardwareError: there is no thermometer.
    """
    zone = sys / "class/thermal/thermal_zone0/temp"
    try:
        return int(zone.read_text("ascii")) / 1000.0
    except (OSError, ValueError) as error:
        raise HardwareError(
            "E-RIG-THERMAL-001",
            "the SoC's temperature cannot be read",
            where=zone,
            seen=error,
            hint="a virtual machine has no thermal zone; run on the robot",
        ) from error


class SysfsThermal:
    """Thermal zone 0, and the firmware's flags.

    They come from the mailbox, else from `vcgencmd`; where neither tells, the kernel's
    alarm of the supply and the temperature stand for them.

    Args:
        clock: stamps the readings.
        sys: root of sysfs.
        flags: asks the firmware.
        program: asks it by its own program.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        sys: Path = Path("/sys"),
        flags: Callable[[], ThrottleFlags] = read_throttle_flags,
        program: Callable[[], ThrottleFlags] = ask_vcgencmd,
    ) -> None:
        self.clock = clock
        self._sys = sys
        self._flags, self._program = flags, program

    def read(self) -> ThermalReading:
        """Return temperature and the flags of now.

        Raises:
            HardwareError: there is no thermometer, or neither mailbox, `vcgencmd` nor
                hwmon tells about the supply; what is not known is not called fine.
        """
        celsius = read_celsius(self._sys)
        try:
            flags = self._read_flags()
        except HardwareError:
            alarm = self._supply_alarm()
            if alarm is None:
                raise
            return ThermalReading(
                celsius=celsius,
                throttled=celsius >= THROTTLE_CELSIUS,
                under_voltage=alarm,
                capture_ns=self.clock.monotonic_ns(),
            )
        return ThermalReading(
            celsius=celsius,
            throttled=flags.throttled,
            under_voltage=flags.under_voltage,
            capture_ns=self.clock.monotonic_ns(),
            throttled_since_boot=flags.throttled_since_boot,
            under_voltage_since_boot=flags.under_voltage_since_boot,
        )

    def _read_flags(self) -> ThrottleFlags:
        try:
            return self._flags()
        except HardwareError as closed:
            try:
                return self._program()
            except HardwareError as error:
                # Of the two the mailbox's says better what is wrong.
                raise closed from error

    def _supply_alarm(self) -> bool | None:
        """Return the kernel's under-voltage alarm, or None where there is none."""
        for name in sorted(self._sys.glob("class/hwmon/hwmon*/name")):
            alarm = name.with_name("in0_lcrit_alarm")
            if name.read_text("ascii").strip() == "rpi_volt" and alarm.is_file():
                return alarm.read_text("ascii").strip() != "0"
        return None
