import pytest

from continuon.errors import DataError
from continuon.ota.robot_senses import SENSES_FILE, keep_senses, known_senses


@pytest.mark.req("R-SENSE-04")
def test_what_a_robot_senses_is_known_after_its_first_start(tmp_path):
    assert known_senses(tmp_path) is None
    for senses in (("depth", "image"), ("image",)):
        keep_senses(tmp_path, senses)
        assert known_senses(tmp_path) == senses


def test_a_record_that_cannot_be_read_is_said_and_nothing_guessed(tmp_path):
    (tmp_path / SENSES_FILE).write_text("[1")
    with pytest.raises(DataError, match="E-OTA-SENSES-001"):
        known_senses(tmp_path)
