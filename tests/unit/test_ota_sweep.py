import importlib
import shutil

import pytest

from continuon.ota.explore import Reported, one_update

sweep = importlib.import_module("continuon._specs.stager.sweep")


@pytest.mark.req("R-STAGER-01")
def test_the_real_disk_lives_the_life_of_the_simulated_one(tmp_path):
    root = sweep.prepare(tmp_path / "device")
    slots = sweep.real_slots(root)
    before = slots.load()
    one_update(slots, Reported())
    after = slots.load()
    assert after.seq > before.seq
    assert after.failed[-1].triage is True
    assert (root / "triage" / after.failed[-1].bundle / "reason.txt").is_file()


@pytest.mark.req("R-STAGER-13")
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not here")
def test_a_kill_at_a_system_call_leaves_a_device_that_works(tmp_path):
    found = sweep.sweep(tmp_path, "kill", every=24)
    if not found.points:
        pytest.skip("strace may not trace here")
    assert found.bad == []
