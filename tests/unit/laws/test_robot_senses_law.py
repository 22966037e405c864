"""Law: the robot gives a policy what training gave it, of the same frame, to the bit."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from continuon._specs.robot.fakes import Spec
from continuon.hope import embed_instruction
from continuon.learn.senses import Senses as Wanted
from continuon.learn.senses import extra_of
from continuon.rig.protocols import DEPTH_UNIT_M, Frame
from continuon.rlds.depth_codecs import DEPTH_CODECS, encode_depth
from continuon.rlds.depth_picture import MAX_DEPTH_APART_NS
from continuon.rlds.stream_spec import StreamSpec
from continuon.robot.observing import Observer, Senses

SIDES = st.integers(1, 24)
TEXTS = st.text(st.sampled_from("aB zäß0,.!"), max_size=30).filter(
    lambda text: any(sign.isalnum() for sign in text)
)


def episode(counts, task, codec):
    """A recording of one step, as the learner reads it."""
    metadata = SimpleNamespace(task=task, episode_id="one")
    unit_m = StreamSpec(name="depth", codec=codec, width=1, height=1).depth_unit_m

    class Steps(SimpleNamespace):
        def __len__(self):
            return 1

    return Steps(
        depth=[encode_depth(counts, codec)],
        depth_unit_m=unit_m,
        valid=np.ones(1, bool),
        metadata=metadata,
    )


def frame_of(counts, apart_ns=0):
    return Frame(
        rgb=np.zeros((*counts.shape, 3), np.uint8),
        depth=counts,
        capture_ns=10**9,
        device_ns=0,
        sequence=0,
        depth_capture_ns=10**9 + apart_ns,
    )


@pytest.mark.req("R-SENSE-01")
@given(
    size=st.tuples(SIDES, SIDES),
    wanted=st.tuples(SIDES, SIDES),
    buckets=st.integers(1, 64),
    text=TEXTS,
    codec=st.sampled_from(list(DEPTH_CODECS)),
    data=st.data(),
)
def test_depth_and_instruction_are_the_same_in_training_and_on_the_robot(
    size, wanted, buckets, text, codec, data
):
    counts = data.draw(arrays.arrays(np.uint16, size))
    learnt = extra_of(episode(counts, text, codec), Wanted(*wanted, buckets))
    spec = Spec(
        proprio=(),
        depth_height=wanted[0],
        depth_width=wanted[1],
        instruction_size=buckets,
    )
    senses = Senses(now_ns=0, frame=None, state=None, instruction=text)
    seen = Observer(spec)(frame_of(counts), senses).more
    assert set(seen) == set(learnt) == {"depth", "instruction"}
    for name, value in seen.items():
        assert value.dtype == learnt[name].dtype == np.float32
        assert value.tobytes() == learnt[name][0].tobytes()
    assert ((seen["depth"] == 0) == (seen["depth"] < DEPTH_UNIT_M / 2)).all()
    assert np.array_equal(seen["instruction"], embed_instruction(text, buckets))


@given(apart_ns=st.integers(-2 * MAX_DEPTH_APART_NS, 2 * MAX_DEPTH_APART_NS))
def test_depth_of_another_time_is_none_and_the_older_of_both_counts(apart_ns):
    spec = Spec(proprio=(), depth_height=2, depth_width=2)
    senses = Senses(now_ns=0, frame=None, state=None)
    seen = Observer(spec)(frame_of(np.ones((4, 4), np.uint16), apart_ns), senses)
    if abs(apart_ns) > MAX_DEPTH_APART_NS:
        assert seen is None
    else:
        assert seen.observed_ns == 10**9 + min(apart_ns, 0)
