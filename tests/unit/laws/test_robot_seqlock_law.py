import mmap
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuon.robot.seqlock import Seqlock

PAYLOAD = struct.Struct("<qq8s")
records = st.tuples(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(min_size=8, max_size=8),
)


@pytest.mark.law
@pytest.mark.req("R-GUARD-05")
@given(records, records, st.data())
def test_a_reader_sees_the_old_record_or_the_new_one_or_nothing(old, new, data):
    memory = mmap.mmap(-1, 4096)
    lock = Seqlock(memory, 64, PAYLOAD)
    assert lock.read() is None
    lock.write(*old)
    before = memory[64 : 64 + lock.size_bytes]
    lock.write(*new)
    after = memory[64 : 64 + lock.size_bytes]
    assert lock.read() == new
    stolen = data.draw(st.sets(st.integers(0, lock.size_bytes - 1)))
    mixed = bytes(
        after[i] if i in stolen else before[i] for i in range(lock.size_bytes)
    )
    memory[64 : 64 + lock.size_bytes] = mixed
    assert lock.read() in (None, old, new)
    memory.close()
