"""One record says which adapter drives, on which base, and how far its trial came."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuon.adapter_record import (
    NO_ADAPTER,
    AdapterRecord,
    AdapterUse,
    adapter_path,
    changing,
    fitting,
    mark_trial,
    read_record,
    report_path,
    roll_back_adapter,
    write_record,
)
from continuon.errors import UsageError

BASES = ("a" * 64, "b" * 64)


def promoted(store, number, base):
    """Put an adapter in use as a promotion does, without its file."""
    record = read_record(store)
    use = AdapterUse(adapter=number, sha256=f"{number:064x}", base_sha256=base)
    below = (*record.below, record.use)
    write_record(store, AdapterRecord(use=use, below=below, trail=record.trail))


@pytest.mark.law
@pytest.mark.slow
@pytest.mark.req("R-LEARN-53")
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(("up", "down")), st.sampled_from(BASES)), max_size=8
    )
)
def test_each_base_has_a_stack_of_its_own_in_the_one_record(changes):
    with tempfile.TemporaryDirectory() as folder:
        store, stacks = Path(folder), {base: [] for base in BASES}
        for number, (way, base) in enumerate(changes, 1):
            if way == "up":
                promoted(store, number, base)
                stacks[base].append(number)
            elif stacks[base]:
                stacks[base].pop()
                roll_back_adapter(
                    store, reason="r", wall_ns=1, bases=frozenset((base,))
                )
            else:
                with pytest.raises(UsageError, match="E-HOPE-STORE-004"):
                    roll_back_adapter(
                        store, reason="r", wall_ns=1, bases=frozenset((base,))
                    )
            record = read_record(store)
            for name, stack in stacks.items():
                seen = fitting(record, frozenset((name,))).adapter
                assert seen == (stack[-1] if stack else None)


def test_a_trial_is_noted_for_its_adapter_and_for_none_that_is_gone(tmp_path):
    promoted(tmp_path, 1, BASES[0])
    promoted(tmp_path, 2, BASES[1])
    assert read_record(tmp_path).use.trial == "due"
    record = mark_trial(tmp_path, 1, "passed")
    assert fitting(record, frozenset(BASES[:1])).trial == "passed"
    assert record.use.trial == "due"
    with pytest.raises(UsageError, match="E-HOPE-STORE-005"):
        mark_trial(tmp_path, 3, "passed")
    assert fitting(AdapterRecord(), frozenset(BASES)) == NO_ADAPTER


def test_a_record_from_before_there_were_trials_is_due_for_one(tmp_path):
    promoted(tmp_path, 1, BASES[0])
    path = tmp_path / "current" / "record.json"
    path.write_bytes(path.read_bytes().replace(b',"trial":"due"', b""))
    assert b"trial" not in path.read_bytes()
    assert read_record(tmp_path).use.trial == "due"


class _PowerCutError(Exception):
    pass


@pytest.mark.req("R-LEARN-52")
def test_power_that_fails_at_any_step_of_a_promotion_leaves_the_old_or_the_new(
    tmp_path, monkeypatch
):
    pytest.importorskip("jax")
    from continuon.hope import adapter_store

    steps = ("os.link", "replace_file", "sync_directory", "write_record")
    outcomes = []
    for number, step in enumerate([*steps, None]):
        for late in (False, True):
            store = tmp_path / f"{number}-{late}"
            candidate = adapter_store.candidate_path(store)
            candidate.parent.mkdir(parents=True)
            candidate.write_bytes(b"the candidate")
            sha256 = hashlib.sha256(b"the candidate").hexdigest()

            def promote(store=store, sha256=sha256):
                return adapter_store.promote_candidate(
                    store,
                    sha256=sha256,
                    base_sha256=BASES[0],
                    wall_ns=1,
                    report=b"{}",
                )

            with monkeypatch.context() as patch:
                if step is not None:
                    name = f"continuon.hope.adapter_store.{step}"
                    patch.setattr(name, _cut(adapter_store, step, late=late))
                    with pytest.raises(_PowerCutError):
                        promote()
                else:
                    promote()
            use = read_record(store).use
            outcomes.append(use.adapter)
            if use.adapter is not None:
                data = adapter_path(store, use.adapter).read_bytes()
                assert hashlib.sha256(data).hexdigest() == use.sha256
                assert report_path(store, use.adapter).read_bytes() == b"{}"
            assert candidate.read_bytes() == b"the candidate"
            again = promote().use
            assert adapter_path(store, again.adapter).read_bytes() == b"the candidate"
            assert again.adapter == fitting(read_record(store), {BASES[0]}).adapter
    assert outcomes == [None] * 7 + [1, 1, 1]


def _cut(module, step, *, late):
    """Return the step, with power failing before or right after it."""
    real = module.os.link if step == "os.link" else getattr(module, step)

    def cut(*given, **named):
        if late:
            real(*given, **named)
        raise _PowerCutError

    return cut


def test_a_candidate_that_is_not_the_judged_one_leaves_no_trace(tmp_path):
    pytest.importorskip("jax")
    from continuon.errors import DataError
    from continuon.hope import adapter_store

    path = adapter_store.candidate_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another")
    with pytest.raises(DataError, match="E-HOPE-STORE-003"):
        adapter_store.promote_candidate(
            tmp_path, sha256="0" * 64, base_sha256=BASES[0], wall_ns=1
        )
    assert not (tmp_path / "history").exists()


def test_two_learners_do_not_share_a_candidate(tmp_path):
    pytest.importorskip("jax")
    from continuon.hope.adapter_store import one_learner

    refused = pytest.raises(UsageError, match="E-HOPE-STORE-006")
    with one_learner(tmp_path), refused, one_learner(tmp_path):
        pass
    with one_learner(tmp_path), changing(tmp_path):
        pass
