from __future__ import annotations

import pytest

from continuon.errors import UsageError
from continuon.learn.run_store import FileStore, orbax_store

jax = pytest.importorskip("jax")
np = pytest.importorskip("numpy")
pytestmark = pytest.mark.slow


def state_of(step):
    from continuon.learn.update import Training

    values = jax.numpy.arange(6.0) * step
    return Training(jax.numpy.int32(step), {"a": values}, {"a": values + 1}, (values,))


@pytest.fixture(params=["file", "orbax", "memory"])
def opened(request, tmp_path):
    """Return a function that opens the same place again, as a new process would."""
    if request.param == "file":
        return lambda: FileStore(tmp_path / "training.state")
    if request.param == "orbax":
        pytest.importorskip("orbax.checkpoint")
        return lambda: orbax_store(tmp_path / "training")
    pytest.importorskip("fsspec")
    machines = iter(range(9))
    url = f"memory://{tmp_path.name}"
    return lambda: FileStore(tmp_path / str(next(machines)) / "training.state", url)


@pytest.mark.req("R-LEARN-13")
def test_the_newest_state_of_the_run_comes_back_bit_for_bit(opened):
    store = opened()
    assert store.load(state_of(0), run="mine") is None
    for step in (2, 4, 6):
        store.save(state_of(step), run="mine", rows=[{"step": step}])
    store.close(finished=False)
    held = opened().load(state_of(0), run="mine")
    assert held is not None
    state, rows = held
    for leaf, want in zip(
        jax.tree.leaves(state), jax.tree.leaves(state_of(6)), strict=True
    ):
        assert leaf.dtype == want.dtype
        np.testing.assert_array_equal(leaf, want)
    assert rows == [{"step": 6}]


def test_a_state_of_another_run_is_left_alone(opened):
    store = opened()
    store.save(state_of(2), run="other", rows=[])
    store.close(finished=False)
    again = opened()
    assert again.load(state_of(0), run="mine") is None
    assert again.load(state_of(0), run="other") is not None


def test_orbax_is_not_sent_where_it_cannot_write():
    with pytest.raises(UsageError, match="E-LEARN-STORE-001"):
        orbax_store("memory://somewhere/training")


@pytest.mark.parametrize("opened", ["file", "memory"], indirect=True)
def test_a_finished_run_leaves_no_state_file_behind(opened):
    store = opened()
    store.save(state_of(2), run="mine", rows=[])
    store.close(finished=True)
    assert opened().load(state_of(0), run="mine") is None
