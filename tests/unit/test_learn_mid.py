"""The Mid loop: bounded, judged through the file, fail closed, and reversible."""

from __future__ import annotations

import math

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import (
    HEIGHT,
    TINY,
    WIDTH,
    record_episode,
    stripe_episodes,
)
from continuon.clock import ManualClock
from continuon.errors import BudgetError, DataError, MissingPackageError, UsageError
from continuon.learn import mid_gate
from continuon.learn.mid_gate import (
    ActionBounds,
    GateFigures,
    GateLimits,
    judge,
    violations,
)
from continuon.learn.mid_guard import SENSORS, MidGuard, MidLimits, own_memory_mib

GOOD = GateFigures(
    mae_before=0.3,
    mae_after=0.2,
    action_delta=0.1,
    violations=0,
    violations_before=0,
    activity=0.1,
    episodes=3,
    steps=60,
)
BOUNDS = ActionBounds(low=(-1.0, -1.0), high=(1.0, 1.0), max_rate_per_s=(20.0, 20.0))


def machine(root, *, celsius=40.0, available_mib=4000, full=0.0):
    (root / "proc/pressure").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemAvailable: {available_mib * 1024} kB\n")
    (root / "proc/pressure/memory").write_text(f"full avg10={full} avg60=0 total=0\n")
    zone = root / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text(f"{int(celsius * 1000)}\n")
    return root


def guard_of(root, *, clock=None, battery=0.9, memory=100.0, waived=(), **limits):
    guard = MidGuard.of(
        MidLimits(**limits),
        clock=clock or ManualClock(),
        battery=lambda: battery,
        waived=waived,
        root=root,
    )
    guard.memory = lambda: memory
    return guard


@pytest.mark.req("R-LEARN-50")
def test_a_healthy_machine_may_learn_and_the_readings_are_kept(tmp_path):
    guard = guard_of(machine(tmp_path))
    guard.check()
    assert guard.facts()["temperature_celsius"] == 40.0
    assert set(SENSORS) < set(guard.facts())


@pytest.mark.req("R-LEARN-50")
@pytest.mark.parametrize(
    ("facts", "limits", "name"),
    [
        ({"celsius": 75.0}, {}, "temperature_celsius"),
        ({"available_mib": 100}, {}, "memory_available_mib"),
        ({"full": 50.0}, {}, "memory_pressure_percent"),
        ({}, {"battery": 0.39}, "battery_fraction"),
        ({}, {"battery": math.nan}, "battery_fraction"),
        ({}, {"memory": 5000.0}, "own_memory_mib"),
    ],
)
def test_each_sensor_beyond_its_limit_stops_learning(tmp_path, facts, limits, name):
    guard = guard_of(machine(tmp_path, **facts), **limits)
    with pytest.raises(BudgetError, match="E-LEARN-MID-005") as told:
        guard.check()
    assert told.value.where == name


@pytest.mark.req("R-LEARN-50")
@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"max_celsius": 39.0}, "temperature_celsius"),
        ({"min_available_mib": 1e6}, "memory_available_mib"),
        ({"max_pressure_percent": 5.0}, "memory_pressure_percent"),
        ({"min_battery_fraction": 0.99}, "battery_fraction"),
        ({"max_memory_mib": 1.0}, "own_memory_mib"),
    ],
)
def test_each_limit_is_the_one_that_was_granted(tmp_path, limits, name):
    root = machine(tmp_path, full=5.0)
    guard = MidGuard.of(
        MidLimits(**limits), clock=ManualClock(), battery=lambda: 0.9, root=root
    )
    with pytest.raises(BudgetError, match="E-LEARN-MID-005") as told:
        guard.check()
    assert told.value.where == name


@pytest.mark.req("R-LEARN-50")
def test_a_sensor_that_cannot_be_read_stops_learning_until_a_person_waives_it(tmp_path):
    with pytest.raises(BudgetError, match="E-LEARN-MID-004"):
        guard_of(tmp_path).check()
    guard = guard_of(tmp_path, battery=None, waived=SENSORS)
    guard.check()
    assert guard.facts()["waived"] == sorted(SENSORS)
    with pytest.raises(BudgetError, match="own_memory_mib"):
        guard_of(tmp_path, battery=None, memory=None, waived=SENSORS).check()


def test_a_waived_sensor_that_can_be_read_still_counts(tmp_path):
    guard = guard_of(machine(tmp_path, celsius=90.0), waived=SENSORS)
    with pytest.raises(BudgetError, match="E-LEARN-MID-005"):
        guard.check()


def test_only_sensors_can_be_waived(tmp_path):
    with pytest.raises(UsageError, match="E-LEARN-MID-002"):
        guard_of(tmp_path, waived=("deadline",))


@pytest.mark.req("R-LEARN-50")
def test_training_ends_before_the_deadline_and_the_deadline_refuses(tmp_path):
    clock = ManualClock()
    guard = guard_of(machine(tmp_path), clock=clock, max_seconds=10.0)
    assert guard.may_train()
    clock.now_ns += int(8.1e9)
    assert not guard.may_train()
    guard.check()
    clock.now_ns += int(2e9)
    with pytest.raises(BudgetError, match="E-LEARN-MID-003"):
        guard.check()


def test_own_memory_is_read_and_absent_where_there_is_no_proc(tmp_path):
    assert own_memory_mib() > 1.0
    assert own_memory_mib(tmp_path) is None


@pytest.mark.req("R-LEARN-51")
def test_the_gate_passes_what_is_good():
    assert judge(GOOD, GateLimits()) == ()


@pytest.mark.req("R-LEARN-51")
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"mae_after": 0.3}, "does not fall"),
        ({"mae_after": math.nan}, "does not fall"),
        ({"mae_before": math.nan}, "does not fall"),
        ({"action_delta": 0.26}, "change by"),
        ({"action_delta": math.nan}, "change by"),
        ({"violations": 1}, "violations"),
        ({"activity": 0.0}, "changes nothing"),
        ({"activity": math.nan}, "changes nothing"),
        ({"episodes": 1}, "only 1"),
        ({"steps": 31}, "31 steps"),
    ],
)
def test_each_figure_alone_refuses(change, word):
    (reason,) = judge(attrs.evolve(GOOD, **change), GateLimits())
    assert word in reason


@pytest.mark.req("R-LEARN-51")
def test_violations_are_counted_by_tick():
    (episode,) = stripe_episodes(1, ticks=6)
    action = np.zeros((6, 2), np.float32)
    assert violations([action], [episode], BOUNDS) == 0
    action[2, 0] = np.nan
    assert violations([action], [episode], BOUNDS) == 2
    action[:] = 0.0
    action[4] = 1.5
    assert violations([action], [episode], BOUNDS) == 2
    action[:] = 0.0
    action[3:, 1] = 0.9  # in one tick of 50 ms: 18 a second, within the rule
    assert violations([action], [episode], BOUNDS) == 0
    action[:3, 1] = -0.9
    assert violations([action], [episode], BOUNDS) == 1


@pytest.mark.req("R-LEARN-51")
def test_too_low_is_a_violation_as_too_high_is():
    (episode,) = stripe_episodes(1, ticks=6)
    for value in (-1.5, 1.5):
        action = np.full((6, 2), value, np.float32)
        assert violations([action], [episode], BOUNDS) == 6


@pytest.mark.req("R-LEARN-51")
def test_one_component_of_one_episode_that_changes_is_not_lost_in_a_mean(monkeypatch):
    held_out = stripe_episodes(2, ticks=6)
    now = tuple(np.zeros((6, 2), np.float32) for _ in held_out)
    new = (now[0], now[1] + np.array([0.0, 0.5], np.float32))
    monkeypatch.setattr(mid_gate, "_actions", lambda *_: new)
    figures = mid_gate.measure(
        None,
        None,
        baseline=mid_gate.Baseline(
            held_out=held_out, bare=now, now=now, violations=0, rollout_s=1.0
        ),
        candidate={},
        bounds=BOUNDS,
    )
    assert figures.action_delta == figures.activity == 0.5
    assert figures.steps == 12


# what follows trains a network of a few hundred weights

jax = pytest.importorskip("jax")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    from continuon import hope

    path = tmp_path_factory.mktemp("base") / "base.hope"
    config = hope.preset("seed", image_height=HEIGHT, image_width=WIDTH, **TINY)
    hope.save_checkpoint(path, config, hope.init(0, config), metadata={})
    return hope.load_checkpoint(path)


def learn(base, store, root, *, episodes=None, trainer="jax", **settings):
    from continuon.learn.mid import learn_adapter

    guard = settings.pop("guard", None) or guard_of(root, max_steps=30, rank=2)
    return learn_adapter(
        base,
        episodes or stripe_episodes(8, seed=3),
        store,
        guard=guard,
        trainer=trainer,
        learning_rate=settings.pop("learning_rate", 1e-2),
        gate=GateLimits(max_action_delta=2.0),
        wall_ns=1,
        **settings,
    )


@pytest.mark.slow
@pytest.mark.req("R-LEARN-51")
@pytest.mark.req("R-LEARN-52")
def test_a_useful_adapter_is_promoted_used_next_and_rolled_back(base, tmp_path):
    from continuon.hope.adapter import load_adapter
    from continuon.hope.adapter_store import (
        candidate_path,
        current_adapter,
        read_record,
        roll_back_adapter,
    )

    store, root = tmp_path / "store", machine(tmp_path)
    report = learn(base, store, root)
    assert report.promoted, report.reasons
    assert report.adapter == 1
    assert report.steps == 30
    figures = report.figures
    assert figures.mae_after < figures.mae_before
    assert (store / "candidate/report.json").exists()
    used = current_adapter(store, base.config, base_sha256=base.sha256)
    assert used.sha256 == report.adapter_sha256
    assert used.metadata["origin"] == report.origin == "synthetic"
    real = [attrs.evolve(e, origin="real") for e in stripe_episodes(8, seed=3)]
    again = learn(base, store, root, episodes=tuple(real), learning_rate=1e-3, seed=1)
    put = load_adapter(candidate_path(store), base.config)
    assert (again.origin, put.metadata["origin"]) == ("real", "real+synthetic")
    assert again.figures.mae_before == pytest.approx(figures.mae_after, abs=1e-6)
    first = read_record(store).use.adapter
    for below in range(first - 1, -1, -1):
        record = roll_back_adapter(store, reason="test", wall_ns=2)
        assert record.use.adapter == (below or None)
    assert current_adapter(store, base.config, base_sha256=base.sha256) is None
    with pytest.raises(UsageError, match="E-HOPE-STORE-004"):
        roll_back_adapter(store, reason="test", wall_ns=2)


@pytest.mark.slow
@pytest.mark.req("R-LEARN-51")
def test_an_adapter_that_is_dropped_on_the_way_is_refused(base, tmp_path, monkeypatch):
    import continuon.learn.mid_train  # binds the true one: only the check is to lose it
    from continuon import hope

    assert continuon.learn.mid_train.attach_adapter is hope.attach_adapter
    # the trap: the check evaluates the base, because the adapter was lost
    monkeypatch.setattr(
        hope, "attach_adapter", lambda params, adapter: params, raising=False
    )
    report = learn(base, tmp_path / "store", machine(tmp_path))
    assert not report.promoted
    assert "changes nothing" in report.reasons[0]


@pytest.mark.slow
@pytest.mark.req("R-LEARN-52")
def test_a_harmful_candidate_stays_a_candidate(base, tmp_path):
    from continuon.hope.adapter_store import candidate_path, read_record

    store = tmp_path / "store"
    # what is held out behaves as before; what is taught is its opposite
    episodes = stripe_episodes(8, seed=3)
    taught = tuple(attrs.evolve(e, action=-e.action) for e in episodes[:6])
    report = learn(base, store, machine(tmp_path), episodes=(*taught, *episodes[6:]))
    assert not report.promoted
    assert report.figures.mae_after > report.figures.mae_before
    assert read_record(store).use.adapter is None
    assert candidate_path(store).exists()


@pytest.mark.slow
@pytest.mark.req("R-LEARN-50")
def test_a_guard_that_fires_while_learning_leaves_what_is_in_use(base, tmp_path):
    from continuon.hope.adapter_store import read_record

    store, root = tmp_path / "store", machine(tmp_path)
    guard = guard_of(root, max_steps=30, rank=2)
    looks = []

    def battery():
        looks.append(1)
        return 0.9 if len(looks) < 5 else 0.1

    guard.battery = battery
    with pytest.raises(BudgetError, match="battery_fraction"):
        learn(base, store, root, guard=guard)
    assert read_record(store).use.adapter is None
    assert not (store / "candidate").exists()


@pytest.mark.slow
@pytest.mark.req("R-LEARN-53")
def test_a_base_that_was_updated_runs_without_the_old_adapter(base, tmp_path):
    from continuon.hope.adapter_store import current_adapter

    store = tmp_path / "store"
    assert learn(base, store, machine(tmp_path)).promoted
    assert current_adapter(store, base.config, base_sha256="0" * 64) is None


@pytest.mark.slow
@pytest.mark.req("R-LEARN-53")
def test_an_altered_adapter_or_record_is_refused(base, tmp_path):
    from continuon.hope.adapter_store import current_adapter, read_record

    store = tmp_path / "store"
    assert learn(base, store, machine(tmp_path)).promoted
    path = store / "history/00000001.adapter"
    path.unlink()
    path.write_bytes((store / "candidate/candidate.adapter").read_bytes()[:-1])
    with pytest.raises(DataError, match="E-TENSOR"):
        current_adapter(store, base.config, base_sha256=base.sha256)
    (store / "current/record.json").write_text("{")
    with pytest.raises(DataError, match="E-HOPE-STORE-001"):
        read_record(store)


def test_an_unknown_trainer_is_named(base, tmp_path):
    with pytest.raises(UsageError, match="E-LEARN-MID-006"):
        learn(base, tmp_path / "store", machine(tmp_path), trainer="numpy")


def test_absent_pytorch_is_an_error_with_the_install_line(base, tmp_path, monkeypatch):
    from continuon.learn import mid_torch

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(mid_torch, "import_module", absent)
    with pytest.raises(MissingPackageError, match=r"continuon\[pytorch\]"):
        learn(base, tmp_path / "store", machine(tmp_path), trainer="pytorch")


@pytest.mark.slow
@pytest.mark.req("R-LEARN-54")
def test_pytorch_computes_what_jax_computes_and_learns_in_the_same_format(
    base, tmp_path
):
    pytest.importorskip("torch")
    from continuon.hope import attach_adapter, init_adapter
    from continuon.learn.mid_torch import TorchHope
    from continuon.learn.rollout import predict
    from continuon.learn.windows import cut, stack

    rng = np.random.default_rng(0)
    adapter = {
        path: {
            k: np.asarray(v) + 0.1 * rng.standard_normal(v.shape) for k, v in p.items()
        }
        for path, p in init_adapter(0, base.params, rank=2).items()
    }
    episodes = stripe_episodes(2, ticks=20)
    told = predict(attach_adapter(base.params, adapter), base.config, episodes)
    batch = stack([cut(e, 0, 20) for e in episodes])
    seen = TorchHope(base.config, base.params, adapter).actions(batch)
    np.testing.assert_allclose(
        seen.detach().numpy(), np.stack([t.action for t in told]), atol=1e-5
    )
    report = learn(base, tmp_path / "store", machine(tmp_path), trainer="pytorch")
    assert report.promoted, report.reasons


@pytest.mark.req("R-LEARN-50")
def test_the_command_is_off_unless_asked_for(tmp_path, monkeypatch, capsys):
    from continuon.cli.program import run

    monkeypatch.setenv("CONTINUON_HOME", str(tmp_path))
    monkeypatch.delenv("CONTINUON_ENABLE_BACKGROUND_TRAINER", raising=False)
    assert run(["mid", "run"]) == 2
    assert "E-LEARN-MID-001" in capsys.readouterr().err
    assert run(["mid", "status"]) == 0
    assert "bare network" in capsys.readouterr().out
    assert run(["mid", "rollback"]) == 2
    assert "E-HOPE-STORE-004" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_learns_from_recordings_and_says_what_it_did(
    base, tmp_path, capsys
):
    import json

    from continuon.cli.program import run

    for index, episode in enumerate(stripe_episodes(8, seed=3)):
        record_episode(tmp_path / "episodes", episode, start_wall_ns=1 + index)
    path = tmp_path / "base.hope"
    from continuon import hope

    hope.save_checkpoint(path, base.config, base.params, metadata={})
    words = ["mid", "run", "--enable", "--checkpoint", str(path), "--json"]
    words += ["--rlds-dir", str(tmp_path / "episodes")]
    words += ["--store", str(tmp_path / "store"), "--max-steps", "3", "--rank", "2"]
    for name in SENSORS:
        words += ["--without", name]
    code = run([*words, "--max-memory-mib", "100000"])
    report = json.loads(capsys.readouterr().out)
    assert code == (0 if report["promoted"] else 3)
    assert report["steps"] == 3
    assert report["sensors"]["waived"] == sorted(SENSORS)
    assert report["origin"] == "synthetic"
