import numpy as np
import pytest

from continuon.errors import ContractError
from continuon.instruction import MAX_INSTRUCTION, checked_instruction
from continuon.rlds.depth_picture import policy_depth


@pytest.mark.req("R-SENSE-05")
def test_what_a_person_says_is_kept_but_for_the_space_around_it():
    assert checked_instruction("  fahre nach links, zum Tor \n") == (
        "fahre nach links, zum Tor"
    )
    assert checked_instruction(" ") == ""
    assert checked_instruction("x" * MAX_INSTRUCTION)


@pytest.mark.req("R-SENSE-05")
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("x" * (MAX_INSTRUCTION + 1), "E-TEXT-001"),
        ("left\nright", "E-TEXT-002"),
        ("left\x1b[2Jright", "E-TEXT-002"),
        ("left\u202eright", "E-TEXT-002"),
        ("left\ud800", "E-TEXT-002"),
        ("!?", "E-TEXT-003"),
    ],
)
def test_what_is_no_instruction_is_one_clear_error(text, code):
    with pytest.raises(ContractError, match=code) as caught:
        checked_instruction(text)
    assert caught.value.hint
    assert str(caught.value).isprintable()


def test_a_policys_depth_is_the_nearest_pixel_and_never_a_mean():
    counts = np.array([[1000, 0], [3000, 4000]], np.uint16)
    same = policy_depth(counts, height=2, width=2, unit_m=0.001)
    assert same.tolist() == pytest.approx(np.array([[1, 0], [3, 4]]))
    wide = policy_depth(counts, height=2, width=4, unit_m=0.001)
    assert wide[0].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert policy_depth(counts, height=1, width=1, unit_m=0.5)[0, 0] == 2000.0


@pytest.mark.parametrize(
    ("counts", "size", "code"),
    [
        (np.zeros((2, 2), np.float32), (1, 1), "E-RLDS-DEPTH-020"),
        (np.zeros((0, 2), np.uint16), (1, 1), "E-RLDS-DEPTH-020"),
        (np.zeros((2, 2), np.uint16), (0, 1), "E-RLDS-DEPTH-021"),
    ],
)
def test_what_is_no_depth_picture_is_refused(counts, size, code):
    with pytest.raises(ContractError, match=code):
        policy_depth(counts, height=size[0], width=size[1], unit_m=0.001)
