from __future__ import annotations

import pytest

from continuon.errors import BudgetError
from continuon.learn.resources import Level, ResourceMonitor


def machine(root, *, free_mib=4096, stall=0.0, celsius=45.0):
    (root / "proc/pressure").mkdir(parents=True, exist_ok=True)
    (root / "proc/meminfo").write_text(f"MemAvailable: {free_mib * 1024} kB\n")
    line = f"avg10={stall} avg60=0.0 avg300=0.0 total=0"
    (root / "proc/pressure/memory").write_text(f"some {line}\nfull {line}\n")
    zone = root / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "temp").write_text(f"{int(celsius * 1000)}\n")
    return ResourceMonitor(root)


def levels(monitor):
    return {r.name: r.level for r in monitor.sample()}


def test_a_machine_at_ease_is_ok(tmp_path):
    assert set(levels(machine(tmp_path)).values()) == {Level.OK}


@pytest.mark.req("R-LEARN-31")
@pytest.mark.parametrize(
    ("trouble", "name"),
    [
        ({"free_mib": 64}, "memory_available_mib"),
        ({"stall": 55.0}, "memory_pressure_percent"),
        ({"celsius": 85.0}, "temperature_celsius"),
    ],
)
def test_a_critical_resource_stops_learning_and_is_named(tmp_path, trouble, name):
    monitor = machine(tmp_path, **trouble)
    with pytest.raises(BudgetError, match="E-LEARN-RES-001") as caught:
        monitor.check()
    assert caught.value.where == name
    assert monitor.summary().critical_alerts == 1


@pytest.mark.req("R-LEARN-33")
def test_what_cannot_be_read_is_unknown_and_never_ok(tmp_path):
    monitor = ResourceMonitor(tmp_path)
    assert set(levels(monitor).values()) == {Level.UNKNOWN}
    assert len(monitor.summary().unknown) == 3


def test_the_worst_moment_is_remembered(tmp_path):
    monitor = machine(tmp_path, celsius=80.0)
    monitor.sample()
    machine(tmp_path, celsius=40.0)
    monitor.sample()
    worst = monitor.summary().worst["temperature_celsius"]
    assert worst.value == 80.0
    assert worst.level is Level.WARNING
