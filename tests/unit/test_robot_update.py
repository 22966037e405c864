import json
from pathlib import Path

import attrs
import pytest

from continuon.bundle import HealthGate, build_bundle, generate_key, sign_bundle
from continuon.clock import ManualClock
from continuon.errors import ContractError, TrustError, UsageError
from continuon.home import Home
from continuon.ota import Updater
from continuon.robot.control import SwapResult
from continuon.robot.health_gate import judge_trial
from continuon.robot.kernel import Verdict
from continuon.robot.shadow import ShadowRule
from continuon.robot.software import Software
from continuon.robot.ticklog import EXECUTING, FRESH, TickLog
from continuon.robot.update import choose_backend, hot_swap_update

PERIOD = 20_000_000
GATE = HealthGate(
    golden_max_error=1e-3,
    latency_p99_ms=20.0,
    soak_ticks=20,
    timeout_s=5.0,
    max_veto_fraction=0.1,
)


class FakeLoop:
    """A control process that ticks when somebody waits on the clock."""

    def __init__(self, folder):
        self.log = TickLog.create(folder / "ticks", 1000)
        self.config = self
        self.period_ns = PERIOD
        self.alive = True
        self.events = []
        self.serial = 0
        self.previous = None
        self.refuses = None
        self.resident = None
        self.row = {}
        self.limits = None
        self.ticks(10)

    def ticks(self, count):
        for _ in range(count):
            row = {
                "start_ns": self.log.count * PERIOD,
                "lateness_ns": 100_000,
                "work_ns": 2_000_000,
                "policy_ns": 1_500_000,
                "policy": self.serial,
                "skipped": 0,
                "verdict": Verdict.PASS,
                "flags": EXECUTING | FRESH,
            }
            self.log.add(**row | self.row)

    def swap(self, directory, backend, *, limits, shadow=None):
        if self.refuses:
            raise self.refuses
        self.previous = self.serial
        self.serial += 1
        self.limits = limits
        self.shadow = shadow
        assert (Path(directory) / "policy.weights").exists()
        return self._result()

    senses = ("image", "instruction", "proprio")

    def status(self):
        return {"senses": list(self.senses)}

    def swap_back(self):
        self.serial, self.previous = self.previous, self.serial
        return self._result()

    def is_resident(self, directory):
        return str(directory) == self.resident

    def _result(self):
        previous = {"serial": self.previous} if self.previous else None
        model = {"serial": self.serial, "golden_max_abs_error": 1e-6}
        return SwapResult(tick=self.log.count, model=model, previous=previous)


class FakeGuard:
    trips = 0

    def report(self):
        return self


class LoopClock(ManualClock):
    """Waiting lets the loop tick."""

    loop = None

    def sleep_until_ns(self, deadline_ns):
        super().sleep_until_ns(deadline_ns)
        if self.loop.alive:
            self.loop.ticks(1)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    bench.loop.log.close()


class Bench:
    def __init__(self, folder):
        self.folder = folder
        self.key = generate_key()
        self.loop = FakeLoop(folder)
        self.guard = FakeGuard()
        self.clock = LoopClock()
        self.clock.loop = self.loop
        self.updater = Updater(folder / "model", [self.key.public])

    def bundle(self, number, *, gate=GATE, sign=True, spec=None):
        artifacts = self.folder / f"artifacts-{number}"
        artifacts.mkdir()
        (artifacts / "golden.json").write_text("{}")
        (artifacts / "policy.weights").write_bytes(bytes([number]) * 64)
        if spec is not None:
            (artifacts / "spec.json").write_text(json.dumps(spec))
        target = self.folder / f"bundle-{number}"
        build_bundle(
            target,
            artifacts_dir=artifacts,
            model_name="m",
            version=f"0.{number}.0",
            release_counter=number,
            source="test",
            created_at_unix_ms=1,
            origins=["synthetic"],
            health_gate=gate,
        )
        if sign:
            sign_bundle(target, [self.key])
        return target

    def update(self, source, **more):
        return hot_swap_update(
            self.loop,
            self.guard,
            self.updater,
            source=source,
            clock=self.clock,
            **more,
        )


def test_a_good_bundle_is_committed_and_the_one_before_stays_good(bench):
    first = bench.update(bench.bundle(1))
    assert first.committed
    assert first.previous_verifies is None
    second = bench.update(bench.bundle(2))
    assert second.committed
    assert second.figures["health_gate"] == "passed"
    assert second.figures["missed_periods_at_swap"] == 0
    assert second.figures["previous_bundle_verifies"] is True
    assert second.previous == first.bundle
    assert bench.updater.status().active.bundle == second.bundle
    assert bench.loop.limits.max_speed_mps == 3.0
    assert second.as_dict()["figures"]["soak_ticks"] >= 20


@pytest.mark.req("R-SWAP-04")
def test_the_shadow_run_is_bound_by_the_bundles_own_gate(bench):
    gate = attrs.evolve(GATE, max_shadow_mean=0.2, max_shadow_peak=0.4)
    bench.update(bench.bundle(1, gate=gate))
    rule = ShadowRule(max_mean_divergence=0.2, max_divergence=0.4)
    assert bench.loop.shadow == rule


@pytest.mark.req("R-SENSE-04")
def test_a_bundle_whose_policy_sees_depth_is_refused_where_there_is_none(bench):
    first = bench.update(bench.bundle(1))
    deep = bench.bundle(2, spec={"image_height": 6, "depth_height": 3, "proprio": []})
    with pytest.raises(ContractError, match="E-OTA-COMPAT-006") as caught:
        bench.update(deep)
    assert "depth" in str(caught.value)
    status = bench.updater.status()
    assert (status.active.bundle, status.staged) == (first.bundle, None)
    assert bench.loop.serial == 1
    bench.loop.senses = ("depth", *FakeLoop.senses)
    assert bench.update(deep).committed


BAD_TRIALS = {
    "slow": {"policy_ns": 30_000_000},
    "vetoed": {"verdict": Verdict.HELD},
    "not a number": {"flags": EXECUTING | FRESH | 8},
    "raising": {"flags": EXECUTING | FRESH | 16},
    "late": {"lateness_ns": 25_000_000},
    "skipping": {"skipped": 1},
    "silent": {"policy_ns": 0, "verdict": None, "flags": 0},
}


@pytest.mark.req("R-GATE-01", "R-GATE-03")
@pytest.mark.parametrize("how", BAD_TRIALS)
def test_a_bad_trial_ends_with_the_old_policy_driving_and_evidence_kept(bench, how):
    first = bench.update(bench.bundle(1))
    bench.loop.row = BAD_TRIALS[how]
    report = bench.update(bench.bundle(2))
    assert not report.committed
    assert report.error["code"] == "E-ROBOT-GATE-001"
    assert report.swapped_back.model["serial"] == 1
    assert report.previous_verifies is True
    assert report.figures["health_gate"] == "missed"
    status = bench.updater.status()
    assert status.active.bundle == status.good.bundle == first.bundle
    assert status.failed[-1].bundle == report.bundle
    ticks = (report.triage / "ticks.csv").read_text().splitlines()
    assert ticks[0].startswith("start_ns,lateness_ns")
    assert len(ticks) > 20
    assert b"misses" in (report.triage / "hot_swap.json").read_bytes()
    assert (report.directory / "policy.weights").exists()


def test_a_loop_that_stopped_or_died_fails_the_trial(bench):
    bench.update(bench.bundle(1))
    bench.loop.events = [{"event": "stopped", "reasons": ["rate"], "tick": 10**6}]
    report = bench.update(bench.bundle(2))
    assert report.health.stopped == ("rate",)
    assert not report.committed
    bench.loop.events, bench.loop.alive = [], False
    report = bench.update(bench.bundle(3))
    assert report.health.stopped == ("the control process died",)
    assert report.swapped_back is None
    assert bench.updater.status().active.version == "0.1.0"


@pytest.mark.req("R-SWAP-01", "R-GATE-03")
def test_a_policy_that_may_not_drive_never_takes_over(bench):
    first = bench.update(bench.bundle(1))
    bench.loop.refuses = TrustError("E-ROBOT-SWAP-001", "golden outputs differ")
    report = bench.update(bench.bundle(2))
    assert report.error["code"] == "E-ROBOT-SWAP-001"
    assert report.health is None
    assert report.figures["swapped"] is False
    assert report.figures["policy_latency_p99_ms"] is None
    assert bench.loop.serial == 1
    assert bench.updater.status().active.bundle == first.bundle


def test_a_guard_that_trips_fails_the_trial(bench):
    bench.update(bench.bundle(1))

    swap = bench.loop.swap

    def swap_and_trip(*facts, **more):
        bench.guard.trips = 1
        return swap(*facts, **more)

    bench.loop.swap = swap_and_trip
    report = bench.update(bench.bundle(2))
    assert report.health.guard_trips == 1
    assert not report.committed


def test_what_is_not_signed_is_refused_before_anything_changes(bench):
    with pytest.raises(TrustError):
        bench.update(bench.bundle(1, sign=False))
    assert bench.loop.serial == 0
    assert bench.updater.status().active is None


@pytest.mark.req("R-GATE-02")
def test_a_loop_that_stands_still_never_soaks(bench):
    bench.clock.loop = type("Dead", (), {"alive": False})()
    report = bench.update(bench.bundle(1))
    assert not report.committed
    assert report.health.report.ticks == 0


@pytest.mark.req("R-GATE-01")
def test_a_trial_without_ticks_has_no_figures_and_fails(bench):
    swap = SwapResult(
        tick=10, model={"serial": 9, "golden_max_abs_error": None}, previous=None
    )
    verdict = judge_trial(
        bench.loop,
        swap,
        bundle="b",
        gate=GATE,
        requested_tick=10,
        elapsed_s=1.0,
        guard_trips=0,
    )
    names = {miss.figure for miss in verdict.misses}
    assert {"golden_max_error", "latency_p99_ms", "veto_fraction", "ticks"} <= names


def test_a_bundle_without_a_backend_that_runs_here_is_refused():
    class Manifest:
        backends = ()

    with pytest.raises(UsageError, match="E-ROBOT-UPDATE-001"):
        choose_backend(Manifest())


@pytest.fixture
def software(bench):
    home = Home(bench.folder)
    home.keys.mkdir()
    (home.keys / "release.pub.pem").write_bytes(bench.key.public.pem)
    return Software(home, ("speed_mps",))


@pytest.mark.req("R-COCKPIT-07")
def test_a_person_goes_back_to_the_bundle_before_and_the_loop_follows(bench, software):
    first = bench.update(bench.bundle(1))
    second = bench.update(bench.bundle(2))
    status = software.status()
    assert status["configured"]
    assert status["active"]["version"] == "0.2.0"
    told = software.roll_back(bench.loop, "it cuts corners")
    assert told["failed"] == second.bundle
    assert told["active"] == first.bundle == bench.updater.status().active.bundle
    assert told["swap"]["model"]["serial"] == bench.loop.serial == 3
    assert bench.loop.limits.max_speed_mps == 3.0
    assert software.status()["failed"][-1]["reason"] == "it cuts corners"


@pytest.mark.req("R-SWAP-03")
def test_a_policy_that_is_still_resident_takes_over_before_the_record_changes(
    bench, software
):
    first = bench.update(bench.bundle(1))
    bench.update(bench.bundle(2))
    bench.loop.resident = str(bench.updater.installed.slot_dir(first.bundle))
    seqs = []
    back = bench.loop.swap_back
    bench.loop.swap_back = lambda: (
        seqs.append(bench.updater.slots.load().active),
        back(),
    )[1]
    second = bench.updater.slots.load().active
    told = software.roll_back(bench.loop, "it cuts corners")
    assert seqs == [second]
    assert told["active"] == first.bundle
    assert told["swap"]["model"]["serial"] == bench.loop.serial == 1


def test_without_a_key_or_a_bundle_there_is_nothing_to_go_back_to(bench, tmp_path):
    bare = Software(Home(tmp_path / "bare"), ())
    assert bare.status() == {"configured": False}
    with pytest.raises(UsageError, match="E-ROBOT-ROLLBACK-002"):
        bare.roll_back(bench.loop, "why")
    assert bench.loop.serial == 0


def test_the_makers_order_decides_among_what_is_installed(monkeypatch):
    from continuon.robot import backends

    here = {"onnxruntime", "numpy"}
    monkeypatch.setattr(backends, "find_spec", lambda name: name in here or None)
    order = ["hailo", "litert", "onnxruntime", "numpy"]
    assert backends.first_runnable(order) == "onnxruntime"
    assert backends.first_runnable(order[::-1]) == "numpy"
    with pytest.raises(UsageError, match="ai_edge_litert"):
        backends.first_runnable(["hailo", "litert-int8"])
