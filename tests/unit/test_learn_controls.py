from __future__ import annotations

import attrs
import numpy as np
import pytest

from continuon._specs.learn.examples import stripe_episodes
from continuon.errors import DataError, MissingPackageError, UsageError
from continuon.learn.controls import deal_labels, half_width, paired_interval
from continuon.learn.remote import download, is_url, upload


def interval(table):
    return paired_interval(np.asarray(table, float), np.random.default_rng(0))


@pytest.mark.req("R-LEARN-40")
def test_a_clear_gain_at_every_seed_is_surely_above_zero():
    found = interval(0.2 + 0.01 * np.random.default_rng(1).normal(size=(3, 5)))
    assert found.low > 0.1
    assert found.low < found.mean < found.high


@pytest.mark.req("R-LEARN-40")
def test_seeds_that_disagree_prove_nothing():
    assert interval([[0.3] * 5, [0.01] * 5, [0.02] * 5]).low < 0


@pytest.mark.req("R-LEARN-40")
def test_seeds_that_agree_on_episodes_that_do_not_prove_nothing():
    assert interval([[0.3, 0.05, 0.05]] * 5).low < 0


@pytest.mark.req("R-LEARN-40")
@pytest.mark.parametrize(
    "table", [[[0.5], [0.5]], [[0.5, 0.5]], [[0.5], [np.nan], [0.5]]]
)
def test_one_seed_or_an_unknown_error_proves_nothing(table):
    assert interval(table).low == -np.inf


@pytest.mark.req("R-LEARN-40")
@pytest.mark.parametrize(("count", "quantile"), [(2, 12.706), (10, 2.262), (40, 2.262)])
def test_half_an_interval_is_student_s_and_of_many_no_narrower(count, quantile):
    means = np.arange(count, dtype=float)
    error = means.std(ddof=1) / count**0.5
    assert half_width(means) == pytest.approx(quantile * error)


@pytest.mark.req("R-LEARN-40")
def test_a_dealt_label_is_as_valid_as_the_step_that_it_comes_from():
    one, two = stripe_episodes(2)
    known = np.arange(len(two)) % 3 > 0
    dealt = deal_labels([one, attrs.evolve(two, valid=known)], np.random.default_rng(0))
    assert np.array_equal(dealt[0].action, two.action)
    for episode in dealt:
        assert np.array_equal(episode.valid, known)


def test_labels_need_two_episodes_to_be_dealt_out():
    with pytest.raises(DataError, match="E-LEARN-FEW-003"):
        deal_labels(stripe_episodes(1), np.random.default_rng(0))


@pytest.mark.req("R-LEARN-18")
def test_a_url_is_told_from_a_path_and_a_broken_one_is_refused():
    assert is_url("gs://bucket/episodes")
    assert not is_url("/data/episodes")
    assert not is_url("relative/with:colon")
    with pytest.raises(UsageError, match="E-LEARN-URL-001"):
        is_url("gs:/bucket/episodes")


@pytest.mark.req("R-LEARN-18")
def test_a_missing_bucket_package_is_named_with_its_extra(tmp_path):
    def absent(url):
        raise MissingPackageError.for_extra("gcsfs", "tpu", purpose=f"reading {url}")

    with pytest.raises(MissingPackageError, match=r"continuon\[tpu\]") as caught:
        download("gs://bucket/x", tmp_path, open_url=absent)
    assert "gs://bucket/x" in str(caught.value)


@pytest.mark.req("R-LEARN-18")
def test_a_folder_goes_to_a_bucket_and_back(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    (tmp_path / "out/deep").mkdir(parents=True)
    (tmp_path / "out/deep/policy.hope").write_bytes(b"weights")
    upload(tmp_path / "out", "memory://learn-test/run")
    folder = download("memory://learn-test/run", tmp_path / "scratch")
    assert (folder / "deep/policy.hope").read_bytes() == b"weights"
    fsspec.filesystem("memory").rm("/learn-test", recursive=True)
