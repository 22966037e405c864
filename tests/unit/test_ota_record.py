import attrs
import pytest

from continuon.errors import DataError
from continuon.ota.record import Failure, Record, Trial, decode_record, encode_record

A, B = "a" * 64, "b" * 64
RECORD = Record(
    seq=7, active=B, good=A, trial=Trial(bundle=B, release_counter=4, tries_left=2),
    failed=(Failure(bundle=A, code="E-X-001", reason="why"),), release_high=3, release_bundle=A,
    t_floor_ns=1_790_000_000_123_456_789, offline_ns=12,
)  # fmt: skip


def test_a_record_survives_the_round_trip_with_its_nanoseconds():
    assert decode_record(encode_record(RECORD)) == RECORD
    assert decode_record(encode_record(Record())) == Record()


@pytest.mark.req("R-STAGER-01")
def test_any_changed_byte_of_the_record_is_noticed():
    data = encode_record(RECORD)
    for offset in range(len(data)):
        torn = data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :]
        with pytest.raises(DataError, match="E-OTA-RECORD-00"):
            decode_record(torn)


@pytest.mark.parametrize("data", [b"", b"{}", b"\0" * 100, b"[1]"])
def test_what_is_no_record_is_refused_and_a_person_must_act(data):
    with pytest.raises(DataError, match="E-OTA-RECORD-00") as caught:
        decode_record(data)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"active": "x"},
        {"trial": None},
        {"trial": Trial(bundle=A, release_counter=1, tries_left=1)},
        {"failed": RECORD.failed * 9},
    ],
)
def test_roles_that_contradict_each_other_are_refused(changes):
    with pytest.raises(DataError, match="RECORD-003"):
        decode_record(encode_record(attrs.evolve(RECORD, **changes)))
