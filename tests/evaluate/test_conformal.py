"""Intervals hold what they promise, also where subjects have several scans; sets likewise."""

import numpy as np
import pytest

from ctssl.evaluate.conformal import class_sets, interval, subject_weights


def test_a_subject_counts_once_however_many_scans_there_are():
    weights = subject_weights(["a", "b", "b", "b", "c"])
    np.testing.assert_allclose(weights, [1 / 4, 1 / 12, 1 / 12, 1 / 12, 1 / 4])


def test_with_one_scan_a_subject_the_ends_are_those_of_the_jackknife():
    """Barber et al. 2021, eq. 1.1 and 2.2, by sorting: the 18th of 19 and the 2nd of 19."""
    rng = np.random.default_rng(0)
    errors, folds, centres = rng.exponential(size=19), np.arange(19) % 5, rng.normal(size=(7, 5))
    low, high = interval(centres, folds, errors, subject_weights(map(str, range(19))), 0.9)
    each = centres[:, folds]
    np.testing.assert_allclose(high, np.sort(each + errors, 1)[:, 18 - 1])
    np.testing.assert_allclose(low, np.sort(each - errors, 1)[:, 2 - 1])


@pytest.mark.parametrize(("people", "finite"), [(0, False), (1, False), (8, False), (9, True), (10, True)])
def test_nine_subjects_are_needed_for_nine_in_ten(people, finite):
    folds = np.arange(people) % 2
    low, high = interval(np.zeros((1, 2)), folds, np.ones(people), subject_weights(map(str, folds)), 0.9)
    assert np.isinf(low).all()  # two subjects with many scans each
    weights = subject_weights(map(str, range(people)))
    low, high = interval(np.zeros((1, 2)), folds, np.ones(people), weights, 0.9)
    assert np.isfinite([low, high]).all() == finite
    sets = class_sets(np.full((1, 2, 3), [0.9, 0.1, 0.0]), folds, np.full(people, 0.1), weights, 0.9)
    assert sets.tolist() == [[True, not finite, not finite]]


def grouped(rng, subjects, scans):
    """Features, values and subjects; half of the noise is a subject's, and subjects have 1 to `scans`."""
    counts = rng.integers(1, scans + 1, subjects)
    person = np.repeat(np.arange(subjects), counts)
    x = rng.normal(size=(len(person), 3)) + rng.normal(size=(subjects, 3))[person]
    noise = rng.normal(size=subjects)[person] + rng.normal(size=len(person))
    return x, x @ [2.0, -1.0, 0.5] + noise * (1 + (counts[person] == 1)), person


def fitted(x, y):
    return np.linalg.lstsq(np.c_[x, np.ones(len(x))], y, rcond=None)[0]


@pytest.mark.parametrize(("subjects", "scans"), [(15, 1), (40, 1), (40, 6)])
def test_nine_in_ten_new_subjects_lie_within(subjects, scans):
    """The single-scan subjects are the noisier ones: counting scans, not subjects, would miss them."""
    rng, held, widths, plain = np.random.default_rng(3), [], [], []
    for _ in range(250):
        x, y, person = grouped(rng, subjects, scans)
        folds = person % 5
        models = [fitted(x[folds != k], y[folds != k]) for k in range(5)]
        own = np.c_[x, np.ones(len(x))]
        errors = np.abs(y - np.einsum("nd,nd->n", own, np.array(models)[folds]))
        new, truth, who = grouped(rng, 30, scans)
        first = np.unique(who, return_index=True)[1]
        centres = np.c_[new, np.ones(len(new))][first] @ np.array(models).T
        low, high = interval(centres, folds, errors, subject_weights(map(str, person)), 0.9)
        held.append(((low <= truth[first]) & (truth[first] <= high)).mean())
        widths.append((high - low).mean())
        alike = np.full(len(y), 1 / (len(y) + 1))
        low, high = interval(centres, folds, errors, alike, 0.9)
        plain.append(((low <= truth[first]) & (truth[first] <= high)).mean())
    assert 0.885 < np.mean(held) < (0.97 if subjects == 15 else 0.93)
    assert np.mean(widths) < 16  # the noise of nine in ten alone is 9.3 wide, of subjects with more scans 4.7
    if scans > 1:
        assert np.mean(plain) < np.mean(held) - 0.03


def test_nine_in_ten_classes_of_new_scans_are_in_the_sets():
    """Also where the model's probabilities are far too sure of themselves."""
    rng, held, sizes = np.random.default_rng(4), [], []
    for _ in range(200):
        centres = rng.normal(size=(3, 2)) * 1.5

        def drawn(count, centres=centres):
            truth = rng.integers(3, size=count)
            x = centres[truth] + rng.normal(size=(count, 2))
            power = -4 * ((x[:, None] - centres) ** 2).sum(2)
            score = np.exp(power - power.max(1, keepdims=True))
            return truth, score / score.sum(1, keepdims=True)

        truth, scores = drawn(60)
        errors, folds = 1 - scores[np.arange(60), truth], np.arange(60) % 5
        new, probabilities = drawn(40)
        sets = class_sets(
            np.repeat(probabilities[:, None], 5, 1), folds, errors, subject_weights(map(str, range(60))), 0.9
        )
        held.append(sets[np.arange(40), new].mean())
        sizes.append(sets.sum(1).mean())
    assert 0.885 < np.mean(held) < 0.93
    assert np.mean(sizes) < 2
