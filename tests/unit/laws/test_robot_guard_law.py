import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon.robot.board import CHANNELS, Command, Permit
from continuon.robot.guard_rules import Act, GuardLimits, GuardMemory, decide

LIMITS = GuardLimits()
MS = 1_000_000

any_pulse = st.sampled_from([0.0, 1000.0, 1500.0, 2000.0, 399.0, float("nan"), 1e9])
commands = st.builds(
    dict,
    age_ms=st.integers(-100, 900),
    epoch=st.integers(0, 3),
    enabled=st.booleans(),
    us=any_pulse,
)
permits = st.builds(
    Permit, epoch=st.integers(0, 3), allowed=st.booleans(), e_stop=st.booleans()
)
polls = st.lists(
    st.tuples(
        st.integers(1, 300), st.none() | commands, st.none() | permits, st.booleans()
    ),
    max_size=30,
)


@pytest.mark.law
@pytest.mark.req("R-GUARD-01", "R-GUARD-03", "R-GUARD-05")
@given(polls)
def test_pulses_go_out_only_for_a_legal_fresh_permitted_command(polls):
    memory, now_ms = GuardMemory(), 1_000
    dead_epochs = -1
    last_heartbeat_ms = None
    for tick, (wait, wish, permit, bus_works) in enumerate(polls):
        now_ms += wait
        command = None
        if wish is not None:
            last_heartbeat_ms = now_ms - wish["age_ms"]
            command = Command(
                heartbeat_ns=last_heartbeat_ms * MS,
                epoch=wish["epoch"],
                tick=tick,
                enabled=wish["enabled"],
                pulses_us=(wish["us"],) + (0.0,) * (CHANNELS - 1),
            )
        before = memory
        memory, act = decide(
            LIMITS, memory, now_ns=now_ms * MS, command=command, permit=permit
        )
        if act is Act.APPLY:
            assert wish["enabled"]
            assert permit.allowed
            assert not permit.e_stop
            assert wish["epoch"] == permit.epoch > dead_epochs
            assert -50 <= wish["age_ms"] <= 500
            assert wish["us"] == 0.0 or 400 <= wish["us"] <= 2600
        if act is Act.KEEP and memory.driving:
            assert before.driving
            assert now_ms - last_heartbeat_ms <= 500
        if act is Act.OFF:
            assert not memory.driving
            memory = attrs.evolve(memory, proven_off=bus_works)
        assert memory.driving or memory.proven_off or act is Act.OFF
        dead_epochs = max(dead_epochs, memory.tripped_epoch)
        assert memory.tripped_epoch == dead_epochs
