"""The small tasks ask what they say, and the peers are of one size."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

from continuon._specs.learn import tasks
from continuon._specs.learn.peers import peers, scalars


def tokens_of(task, ticks=tasks.TICKS):
    x, answers, asked = tasks.batch(task, 3, 0, ticks)
    assert x.shape == (tasks.BATCH, ticks, tasks.ALPHABET)
    assert answers.max() < tasks.KEYS
    return x.argmax(-1), answers, asked


@pytest.mark.parametrize(("task", "modulus"), [("parity", 2), ("modular", 5)])
def test_a_state_is_told_at_every_tick_from_all_digits_so_far(task, modulus):
    tokens, answers, asked = tokens_of(task)
    state = 0
    for tick in range(tasks.TICKS):
        state = (state + tokens[0, tick]) % modulus
        assert answers[0, tick] == state
    assert asked.all()


def test_each_key_that_is_asked_for_was_told_with_its_answer():
    tokens, answers, asked = tokens_of("mqar")
    told = 2 * tasks.PAIRS
    for row in range(tasks.BATCH):
        pairs = dict(tokens[row, :told].reshape(-1, 2))
        places = np.flatnonzero(asked[row])
        assert len(places) == tasks.PAIRS
        assert places.min() >= told
        for place in places:
            key = tokens[row, place]
            assert pairs[key] == tasks.KEYS + answers[row, place]


def test_a_distant_value_is_asked_for_past_others_that_do_not_count():
    tokens, answers, asked = tokens_of("distant", 128)
    assert (asked.sum(1) == tasks.ASKING).all()
    assert (tokens[asked > 0] == tasks.BLANK).all()
    assert (answers[:, -1] == tokens[:, 0] - tasks.KEYS).all()
    assert (answers[:, -1:] != tokens[:, 1:120] - tasks.KEYS).any()


def test_peers_have_as_many_parameters_as_hope_to_a_twentieth():
    made = peers(tasks.ALPHABET, tasks.KEYS)
    counts = {
        name: scalars(jax.eval_shape(lambda peer=peer: peer.init(0)))
        for name, peer in made.items()
        if name != "hope"
    }
    ours = scalars(made["hope"].init(0))
    assert all(abs(count / ours - 1) < 0.05 for count in counts.values()), counts


def test_a_peer_of_two_layers_has_as_many_parameters_and_is_narrower():
    shallow = peers(tasks.ALPHABET, tasks.KEYS)
    deep = peers(tasks.ALPHABET, tasks.KEYS, peer_layers=2)
    for name in ("gru", "attention"):
        trees = [
            jax.eval_shape(lambda p=p: p.init(0)) for p in (shallow[name], deep[name])
        ]
        assert [len(tree["layers"]) for tree in trees] == [1, 2]
        assert abs(scalars(trees[1]) / scalars(trees[0]) - 1) < 0.1
        assert trees[1]["in"].shape[1] < trees[0]["in"].shape[1]


@pytest.mark.parametrize("name", tasks.HOPES)
def test_each_hope_has_the_parts_it_says_and_as_many_parameters(name):
    trees = [trainer._peer.init(0) for trainer in tasks.trainers_of(name).values()]
    still = scalars(peers(tasks.ALPHABET, tasks.KEYS)["hope"].init(0))
    for tree, past in zip(trees, (False, True), strict=True):
        block = tree["blocks"]["0"]
        assert ("turn" in block["mid"]) == (name != "hope_still")
        assert np.any(block["fast"]["taps"][:-1]) == past
        assert abs(scalars(tree) / still - 1) < 0.01


def test_form_and_rate_are_the_steadiest_of_those_that_answer_best(tmp_path):
    """No fit is made: the files of the folder are what was done before."""

    def keep(form, seed, rate, tuned_on):
        path = tmp_path / f"mqar-gru-{form}-{seed}-{rate}-9.json"
        row = {"form": form, "rate": rate, "tuned_on": tuned_on, "parameters": 1}
        row |= {"trained_length": 0.1 * seed, "longer": 0.2}
        path.write_text(json.dumps(row))

    for form in ("a", "b"):
        for rate in tasks.RATES:
            keep(form, 0, rate, 1.8)
    keep("a", 0, 1e-2, 1.91)
    keep("a", 0, 3e-3, 1.895)
    keep("b", 0, 3e-3, 1.9)
    keep("b", 1, 3e-3, 0.0)
    trainers = {"a": None, "b": None}
    row = tasks.rows_of(trainers, tmp_path, "gru", "mqar", seeds=2, steps=9)
    assert (row["form"], row["rate"]) == ("b", 3e-3)
    assert row["trained_length"] == [0.0, 0.1]
    # where two are equal, the next two seeds say which
    keep("a", 0, 3e-3, 1.9)
    keep("b", 2, 3e-3, 1.0)
    keep("a", 1, 3e-3, 0.9)
    keep("a", 2, 3e-3, 0.2)
    row = tasks.rows_of(trainers, tmp_path, "gru", "mqar", seeds=1, steps=9)
    assert row["form"] == "a"
    keep("b", 1, 3e-3, 0.2)
    row = tasks.rows_of(trainers, tmp_path, "gru", "mqar", seeds=1, steps=9)
    assert row["form"] == "b"
