"""Codebooks and signatures: by plain formulas, and that no scan under test has a part in them."""

import numpy as np
import pandas as pd
import pytest
from evaluate.test_probes import CLASS, NUMBER
from sklearn.base import clone

from ctssl.errors import CohortError
from ctssl.evaluate.handmade.divergence import divergence, neighbour_distances
from ctssl.evaluate.handmade.steps import Signature, Words, split_off, word_shares
from ctssl.evaluate.linear import fit_probe
from ctssl.evaluate.probes import probe

SCANS, PATCHES, WIDTH = 40, 20, 4


def sets(seed=0):
    """Descriptors of scans whose mean along the first axis rises with the scan's number."""
    rng = np.random.default_rng(seed)
    rise = np.linspace(0, 3, SCANS)[:, None, None] * np.eye(WIDTH)[0]
    return (rng.normal(size=(SCANS, PATCHES, WIDTH)) + rise).astype(np.float32)


def names():
    return [f"s{n:02}" for n in range(SCANS)]


def bag(values):
    """The table of a bag of features."""
    table = pd.DataFrame(values.reshape(-1, WIDTH), columns=[f"f{i:03}" for i in range(WIDTH)])
    table.insert(0, "scan", np.repeat(names(), PATCHES))
    table.insert(1, "subject", np.repeat([f"p{n // 2}" for n in range(SCANS)], PATCHES))
    table.attrs["fitted"] = {"kind": "words", "words": 6}
    return table


def distances(values, anchors=None):
    """The table of divergences; of all scans as anchors, or of these."""
    chosen = range(SCANS) if anchors is None else anchors
    near = [neighbour_distances(one, 3) for one in values]
    table = pd.DataFrame(
        [[divergence(values[n], values[a], near[n], near[a], 3) for a in chosen] for n in range(SCANS)]
    )
    table.columns = [f"f{i:03}" for i in table]
    table.insert(0, "scan", names())
    table.insert(1, "subject", [f"p{n // 2}" for n in range(SCANS)])
    about = {"kind": "signature", "anchors": [names()[n] for n in chosen], "width": 1.0, "components": 5}
    table.attrs["fitted"] = about
    return table


MAKERS = {"words": bag, "signature": distances}
FOLDS = {f"p{n}": n % 4 for n in range(SCANS // 2)}


def labels(target):
    number = np.arange(SCANS) + 3 * np.random.default_rng(5).normal(size=SCANS)
    given = number if target is NUMBER else np.where(number > SCANS / 2, "1", "0")
    return pd.Series(given, index=names())


def test_shares_of_words_by_a_plain_loop():
    rng = np.random.default_rng(0)
    points, words = rng.normal(size=(30, 3)), rng.normal(size=(5, 3))
    nearest = [min(range(5), key=lambda w: ((point - words[w]) ** 2).sum()) for point in points]
    np.testing.assert_allclose(word_shares(points, words), [nearest.count(w) / 30 for w in range(5)])


def test_words_are_a_fixed_point_of_k_means_on_the_training_scans_alone():
    values = sets()
    step = Words(list(values), {"words": 6}, {}).fit(np.arange(0, 20.0)[:, None])
    points, words = values[:20].reshape(-1, WIDTH), step.fitted_
    near = ((points[:, None] - words) ** 2).sum(-1).argmin(1)
    means = np.stack([points[near == w].mean(0) for w in range(6)])
    np.testing.assert_allclose(means, words, atol=1e-4)


def test_clear_groups_of_patches_become_the_words():
    rng = np.random.default_rng(0)
    centres = np.eye(3) * 10
    values = [centres[[0] * 6 + [1] * 3 + [2]] + rng.normal(0, 0.1, (10, 3)) for _ in range(4)]
    step = Words(values, {"words": 3}, {}).fit(np.arange(3.0)[:, None])
    np.testing.assert_allclose(np.sort(step.transform([[3]])[0]), [0.1, 0.3, 0.6])


def test_there_are_no_more_words_than_different_patches():
    values = [np.repeat(np.eye(3), 4, 0)] * 2
    step = Words(values, {"words": 64}, {}).fit([[0.0], [1.0]])
    assert len(step.fitted_) == 3
    np.testing.assert_allclose(step.transform([[0]]), [[1 / 3] * 3])


def test_a_codebook_is_made_of_at_most_so_many_patches(monkeypatch):
    monkeypatch.setattr("ctssl.evaluate.handmade.steps._MOST_POINTS", 50)
    step = Words(list(sets()), {"words": 6}, {}).fit(np.arange(30.0)[:, None])
    assert step.fitted_.shape == (6, WIDTH)


def test_signatures_reproduce_the_kernel_of_the_anchors():
    table = distances(sets())
    _, step = split_off(table, names())
    step.about = step.about | {"components": SCANS}
    rows = np.arange(0, 24.0)[:, None]
    found = step.fit(rows).transform(rows)
    far = table.filter(regex="^f").to_numpy(float)[:24, :24]
    far = (far + far.T) / 2
    kernel = np.exp(-far / np.median(far[~np.eye(24, dtype=bool)]))
    values, vectors = np.linalg.eigh(kernel)
    projected = vectors * np.maximum(values, 0) @ vectors.T  # the nearest kernel that is one
    np.testing.assert_allclose(found @ found.T, projected, atol=1e-4)


def test_a_scan_that_equals_an_anchor_lies_where_the_anchor_lies():
    values = sets()
    values[39] = values[3]
    _, step = split_off(distances(values), names())
    step.fit(np.arange(30.0)[:, None])
    np.testing.assert_allclose(step.transform([[39]]), step.transform([[3]]), atol=1e-4)


def test_anchors_of_subjects_under_test_are_not_used():
    """Subject p is scans 2p and 2p + 1. Even scans below 20 have labels: subjects 10 to 19 are in no test."""
    anchors = [30, 2, 7, 31, 13]
    _, step = split_off(distances(sets(), anchors), [names()[n] for n in range(0, 20, 2)])
    used, *_ = step.fit(np.array([[2.0], [6.0], [8.0]])).fitted_
    assert [anchors[a] for a in used] == [30, 2, 7, 31], "13 is of subject 6, who is tested"
    _, strict = split_off(distances(sets(), anchors), names())
    used, *_ = strict.fit(np.array([[2.0], [6.0], [8.0]])).fitted_
    assert [anchors[a] for a in used] == [2, 7]


def test_few_labels_find_anchors_among_the_scans_without_one():
    """8 of 40 scans are labelled, none of them is an anchor."""
    labelled = pd.Series(np.arange(0.0, SCANS, 5), index=names()[::5])
    table, step = split_off(distances(sets(), [n for n in range(SCANS) if n % 5]), labelled.index)
    result = probe(table, labelled, {f"p{n}": n % 4 for n in range(20)}, NUMBER, step=step)
    assert result.n == 8
    assert "anchors" not in result.note
    assert result.metrics["spearman"]["value"] > 0.5


@pytest.mark.parametrize("target", [NUMBER, CLASS])
def test_without_two_anchors_the_mean_or_the_most_frequent_class_is_predicted_and_noted(target):
    given = labels(target)
    table, step = split_off(distances(sets(), [0, 1]), names())  # both of one subject, who is in fold 0
    result = probe(table, given, FOLDS, target, step=step)
    train = given[[FOLDS[f"p{n // 2}"] != 0 for n in range(SCANS)]]
    expected = train.mean() if target is NUMBER else train.mode()[0]
    found = result.predictions[result.predictions.fold == 0].prediction
    np.testing.assert_array_equal(found, pytest.approx(expected) if target is NUMBER else expected)
    assert "fold 0: fewer than 2 anchors, so the training mean, or the most frequent class" in result.note
    assert "fold 1: fewer than 2 anchors in 1 inner fold(s)" in result.note


def test_without_two_anchors_all_have_the_same_risk_and_it_is_noted():
    pytest.importorskip("sksurv")
    table, step = split_off(distances(sets(), [0, 1]), names())
    times = np.random.default_rng(0).permutation(np.arange(1.0, SCANS + 1))
    truth = np.where(np.arange(SCANS) % 3 > 0, times, -times)
    model, _, said = fit_probe(table.iloc[2:].assign(truth=truth[2:]), "survive", step)
    np.testing.assert_array_equal(model.predict(table[["f000"]].to_numpy()), np.zeros(SCANS))
    assert said == [
        "fewer than 2 anchors, so the training mean, or the most frequent class, or the same risk of all, "
        "is predicted"
    ]


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("target", [NUMBER, CLASS])
def test_the_leak_trap_a_test_scan_changes_nothing_that_is_fitted(kind, target):
    """Descriptors of fold 1 become others: what predicts fold 1 stays, bit for bit, also in inner folds."""
    values, given = sets(), labels(target)
    there = np.array([FOLDS[f"p{n // 2}"] == 1 for n in range(SCANS)])
    other = np.where(there[:, None, None], 50 * sets(9) - 7, values).astype(np.float32)
    fitted = []
    for descriptors in (values, other):
        table, step = split_off(MAKERS[kind](descriptors), names())
        model, penalty, _ = fit_probe(table[~there].assign(truth=given[~there].to_numpy()), target.task, step)
        fitted.append((model, penalty, step.memory))
    (before, penalty, learnt), (after, same, learnt_after) = fitted
    assert penalty == same
    np.testing.assert_array_equal(before["linear"].coef_, after["linear"].coef_)
    np.testing.assert_array_equal(before["scale"].mean_, after["scale"].mean_)
    assert len(learnt) == 6  # once for all, once for each of the inner folds
    assert learnt.keys() == learnt_after.keys()
    for key in learnt:
        assert not set(np.frombuffer(key, np.int64)) & set(np.flatnonzero(there))
        one, two = learnt[key], learnt_after[key]
        for ours, theirs in [(one, two)] if kind == "words" else zip(one, two, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_probe_finds_what_the_sets_hold_and_not_what_they_do_not(kind):
    table, step = split_off(MAKERS[kind](sets()), names())
    result = probe(table, labels(NUMBER), FOLDS, NUMBER, step=step)
    assert (result.n, result.subjects) == (SCANS, SCANS // 2)
    assert result.metrics["r2"]["value"] > 0.6
    mixed = labels(NUMBER).sample(frac=1, random_state=0)
    mixed.index = names()
    assert probe(table, mixed, FOLDS, NUMBER, step=step).metrics["r2"]["value"] < 0.2


@pytest.mark.parametrize("kind", MAKERS)
def test_the_order_of_scans_in_the_table_changes_nothing(kind):
    table = MAKERS[kind](sets())
    parts = [part for _, part in table.groupby("scan")]
    mixed = pd.concat([parts[n] for n in np.random.default_rng(0).permutation(SCANS)], ignore_index=True)
    mixed.attrs = table.attrs
    (scans, step), (ours, theirs) = split_off(table, names()), split_off(mixed, names())
    assert scans.subject.tolist() == [f"p{n // 2}" for n in range(SCANS)]
    pd.testing.assert_frame_equal(ours, scans)
    rows = np.arange(30.0)[:, None]
    np.testing.assert_array_equal(theirs.fit(rows).transform(rows), step.fit(rows).transform(rows))
    one, two = (probe(s, labels(NUMBER), FOLDS, NUMBER, step=f) for s, f in ((scans, step), (ours, theirs)))
    pd.testing.assert_frame_equal(one.predictions, two.predictions)


def test_patches_may_stand_anywhere_in_the_table():
    table = bag(sets())
    shuffled = table.sample(frac=1, random_state=0)
    shuffled.attrs = table.attrs
    (_, step), (_, other) = split_off(table, names()), split_off(shuffled, names())
    for ours, theirs in zip(step.values, other.values, strict=True):
        assert {tuple(point) for point in ours} == {tuple(point) for point in theirs}


def test_clones_share_values_and_memory_and_are_not_fitted():
    step = Words(list(sets()), {"words": 3}, {}).fit(np.arange(9.0)[:, None])
    copy = clone(step)
    assert copy.values is step.values
    assert not hasattr(copy, "fitted_")
    assert copy.fit(np.arange(9.0)[:, None]).fitted_ is step.fitted_


def test_finished_tables_pass_and_unknown_steps_are_errors():
    table = bag(sets())
    del table.attrs["fitted"]
    assert split_off(table, names()) == (table, None)
    table.attrs["fitted"] = {"kind": "magic"}
    with pytest.raises(CohortError, match="'magic'"):
        split_off(table, names())


def test_scans_are_all_of_one_kind_when_they_are_all_alike():
    values = np.repeat(sets()[:1], SCANS, 0)
    _, step = split_off(distances(values), names())
    found = step.fit(np.arange(10.0)[:, None]).transform([[0.0], [20.0]])
    np.testing.assert_allclose(found[0], found[1])
    assert isinstance(step, Signature)
