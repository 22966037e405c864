import importlib
import shutil

import pytest

pytest.importorskip("tuf")

sweep = importlib.import_module("continuon._specs.ota.fetch_sweep")


@pytest.mark.req("R-OTA-10")
@pytest.mark.req("R-STAGER-13")
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")
@pytest.mark.parametrize(
    ("mode", "point"),
    [("kill", ("syncfs", 1)), ("enospc", ("symlink", 1))],
    ids=["killed while trust is committed", "no room for trust"],
)
def test_a_fetch_that_ends_anywhere_leaves_trust_whole_and_can_be_done_again(
    tmp_path, mode, point
):
    found = sweep.sweep(tmp_path, mode, points=[point])
    if not found.took_effect:
        pytest.skip("strace may not inject here")
    assert found.bad == []
