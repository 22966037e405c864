import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon.robot.kernel import KernelState, SafetyLimits, Verdict, judge

MS = 1_000_000
any_number = st.floats(allow_nan=True, allow_infinity=True, width=64)
proposals = st.one_of(st.none(), st.lists(any_number, min_size=0, max_size=4))
steps = st.lists(
    st.tuples(
        proposals,
        st.integers(0, 300 * MS),
        st.one_of(st.none(), st.integers(-50 * MS, 800 * MS)),
        st.one_of(st.none(), any_number),
    ),
    max_size=25,
)


@st.composite
def envelopes(draw):
    bound = st.floats(-2, 2, width=32)
    triples = [sorted(draw(st.tuples(bound, bound, bound))) for _ in range(2)]
    low, rest, high = zip(*triples, strict=True)
    rate = st.floats(0.1, 100) | st.just(1e9)
    return SafetyLimits(
        names=("steering", "throttle"),
        low=low,
        neutral=rest,
        high=high,
        max_rate_per_s=draw(st.tuples(rate, rate)),
        throttle=1,
        max_speed_mps=draw(st.none() | st.floats(0.1, 5)),
    )


@pytest.mark.law
@pytest.mark.req("R-KERNEL-02", "R-KERNEL-03", "R-KERNEL-04", "R-KERNEL-07")
@given(envelopes(), steps)
def test_whatever_is_proposed_what_leaves_is_finite_bounded_and_slow(limits, steps):
    state, now = KernelState.start(limits, 0), 0
    before, stopped = np.asarray(limits.neutral), False
    for proposal, wait, age, speed in steps:
        now += wait
        observed = None if age is None else now - age
        state, decision = judge(
            limits, state, proposal, now_ns=now, observed_ns=observed, speed_mps=speed
        )
        command = decision.command
        assert command.dtype == np.float32
        assert np.isfinite(command).all()
        assert (command >= np.float32(limits.low)).all()
        assert (command <= np.float32(limits.high)).all()
        stopped = stopped or decision.verdict is Verdict.STOP
        assert (decision.verdict is Verdict.STOP) == stopped
        if not stopped:
            for channel, rate in enumerate(limits.max_rate_per_s):
                reach = rate * min(wait, limits.max_step_ns) / 1e9
                assert abs(command[channel] - before[channel]) <= reach + 1e-5
        if decision.verdict is Verdict.HELD:
            assert np.allclose(command, before)
        before = command
