import json
import re
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from evaluate.test_probes import CLASS, NUMBER, classes, cohort, numbers

from ctssl.config.evaluation import Target
from ctssl.errors import CohortError, WeightsError
from ctssl.evaluate.linear import fit_probe
from ctssl.evaluate.predictor import fit_predictor
from ctssl.evaluate.probe_file import read_predictor, write_no_predictor, write_predictor
from ctssl.store.layout import sealed

MAKERS = [(NUMBER, numbers), (CLASS, classes)]
LOG = Target(name="fev1", column="x", task="regress", log=True)


def split(make, n=60, seen=45, noise=0.5, **kind):
    """Features of all scans, labels of the first ones, the truth of all, folds."""
    table, folds, rng = cohort(n, **kind)
    truth = make(table, rng, noise)
    table.attrs["made_by"] = "these weights"
    return table, truth[:seen], truth, folds


@cache
def usual(target):
    """Features, labels of the first 45 scans, folds, and what was fitted. Never change them."""
    table, labels, _, folds = split(dict(MAKERS)[target])
    return table, labels, folds, fit_predictor(table, labels, folds, target)


@pytest.mark.parametrize("target", [NUMBER, CLASS])
def test_the_final_probe_is_that_of_fit_probe_on_all_labelled_scans(target):
    table, labels, _, found = usual(target)
    got = found.predict(table[45:])
    train = table[:45].assign(truth=labels.to_numpy())
    model, _, _ = fit_probe(train, target.task)
    x = table[45:].filter(regex="^f0").to_numpy()
    assert got.scan.tolist() == table.scan[45:].tolist()
    assert (set(got.n), set(got.subjects)) == ({45}, {45})
    if target is NUMBER:
        np.testing.assert_allclose(got.prediction, model.predict(x))
        assert ((got.low < got.prediction) & (got.prediction < got.high)).all()
    else:
        np.testing.assert_allclose(got.filter(like="score_"), model.predict_proba(x), atol=1e-12)
        assert got.prediction.tolist() == model.predict(x).tolist()
        for row in got.itertuples():
            assert row.prediction in row.set.split("; ")


def test_two_classes_have_the_probabilities_of_sklearn():
    table, labels, _, folds = split(lambda *a: classes(*a, names=["yes", "no"]))
    got = fit_predictor(table, labels, folds, CLASS).predict(table[45:])
    model, _, _ = fit_probe(table[:45].assign(truth=labels.to_numpy()), "classify")
    x = table[45:].filter(regex="^f0").to_numpy()
    assert model.classes_.tolist() == ["no", "yes"]
    np.testing.assert_allclose(got[["score_no", "score_yes"]], model.predict_proba(x), atol=1e-12)


@pytest.mark.parametrize(("target", "make"), MAKERS)
def test_errors_are_those_of_models_that_had_not_seen_the_subject(target, make):
    table, labels, _, folds = split(make, 20, 40, scans_each=2)
    found = fit_predictor(table, labels, folds, target)
    fold = table.subject.map(folds).to_numpy()
    np.testing.assert_array_equal(found.folds, fold)
    for k in range(5):
        train = table.assign(truth=labels.to_numpy())[fold != k]
        model, _, _ = fit_probe(train, target.task)
        x, truth = table[fold == k].filter(regex="^f0").to_numpy(), labels.to_numpy()[fold == k]
        if target is NUMBER:
            expected = np.abs(model.predict(x) - truth)
        else:
            own = (truth[:, None] == model.classes_).argmax(1)
            expected = 1 - model.predict_proba(x)[np.arange(len(x)), own]
        np.testing.assert_allclose(found.errors[fold == k], expected, atol=1e-9)
        np.testing.assert_allclose(found.distances[fold == k], mahalanobis(x, train.filter(regex="^f0")))


def mahalanobis(x, others):
    """(m,) distances of x (m, D) from the normal distribution of others (n, D), divided by sqrt(D)."""
    apart = x - others.to_numpy().mean(0)
    return np.sqrt((apart @ np.linalg.inv(np.cov(others.T)) * apart).sum(1) / x.shape[1])


@pytest.mark.slow
@pytest.mark.parametrize(("target", "make"), MAKERS)
def test_nine_in_ten_new_subjects_are_held(target, make):
    """End to end: 20 cohorts of 40 subjects, 400 new ones each."""
    held = []
    for seed in range(20):
        table, labels, truth, folds = split(make, 440, 40, seed=seed)
        found = fit_predictor(table, labels, folds, target).predict(table[40:])
        new = truth[40:].to_numpy()
        within = (
            (found.low <= new) & (new <= found.high)
            if target is NUMBER
            else [t in s.split("; ") for t, s in zip(new, found.set, strict=True)]
        )
        held.append(np.mean(within))
    assert 0.875 < np.mean(held) < 0.95


@pytest.mark.parametrize("d", [4, pytest.param(128, marks=pytest.mark.slow)])
def test_scans_like_the_training_are_seldom_far_and_others_are(d):
    """With 120 subjects 1 in 100 may be called far; also of more features than scans."""
    called = []
    for seed in range(3):
        table, labels, _, folds = split(numbers, 420, 120, seed=seed, d=d)
        table.loc[table.index[400:], table.columns[2:]] *= 10
        found = fit_predictor(table, labels, folds, NUMBER).predict(table[120:])
        called += (found.far[:280] == "yes").tolist()
        assert (found.far[280:] == "yes").mean() > 0.9
        assert 0.7 < found.distance[:280].median() < 1.4
    assert np.mean(called) < 0.03


def test_of_few_subjects_an_absurd_scan_is_far_and_a_middling_one_is_not():
    """Twenty cannot show that 1 in 100 lies farther out; beyond all of them is beyond."""
    table, labels, _, folds = split(numbers, 22, 20)
    table.iloc[20, 2:] = 1e3
    table.iloc[21, 2:] = table.iloc[:20, 2:].mean()
    assert fit_predictor(table, labels, folds, NUMBER).predict(table[20:]).far.tolist() == ["yes", "no"]


def test_a_set_holds_the_predicted_class_also_where_models_are_unsure():
    """Models of folds give each class a third, less than any true class had: by them the set is empty."""
    table, _, _, sure = usual(CLASS)
    biases = np.vstack([[0, 0, 0.1], np.zeros((5, 3))])
    unsure = replace(sure, weights=0 * sure.weights, biases=biases, errors=np.full(45, 0.1))
    got = unsure.predict(table[45:])
    assert set(got.prediction) == set(got.set) == {"2"}


def test_a_logarithm_is_undone_and_ends_stay_ends():
    table, _, _, found = usual(NUMBER)
    plain, back = found.predict(table), replace(found, target=LOG).predict(table)
    for name in ("prediction", "low", "high"):
        np.testing.assert_allclose(back[name], np.exp(plain[name]))


@pytest.mark.parametrize("target", [NUMBER, CLASS])
@pytest.mark.parametrize("seen", [1, 2, 5, 8])
def test_few_subjects_make_wide_or_no_promises(target, seen):
    table, folds, _ = cohort(20)
    labels = pd.Series(["b", "a", *"cacbcab"][:seen] if target is CLASS else [1.0] * seen, table.scan[:seen])
    found = fit_predictor(table, labels, folds, target)
    rows = found.predict(table[seen:])
    if target is NUMBER:
        np.testing.assert_allclose(rows.prediction, 1)
        assert rows[["low", "high"]].isna().all(axis=None)
    else:
        assert set(rows.set) == {"; ".join(found.classes)}
    assert "few" in found.note
    if seen == 1:
        assert set(rows.far) == {""}


def test_a_class_that_a_fold_did_not_see_has_probability_0_there():
    table, folds, rng = cohort(30)
    labels = classes(table, rng, 0.3, "ab")
    labels.iloc[7] = "rare"
    found = fit_predictor(table, labels, folds, CLASS)
    assert found.classes == ("a", "b", "rare")
    blind = np.isneginf(found.biases[1:, 2])
    assert blind.tolist() == [k == folds[table.subject[7]] for k in range(5)]
    assert found.errors[7] == 1
    scores = found.predict(table).filter(like="score_")
    np.testing.assert_allclose(scores.sum(axis=1), 1)


@pytest.mark.parametrize("target", [NUMBER, CLASS])
def test_a_file_gives_the_same_predictions(tmp_path, target):
    table, _, _, found = usual(target)
    if target is CLASS:
        found = replace(found, biases=np.where(np.eye(6, 3) > 0, -np.inf, found.biases))
    write_predictor(tmp_path / "a.json", found)
    read = read_predictor(tmp_path / "a.json")
    pd.testing.assert_frame_equal(read.predict(table), found.predict(table), rtol=1e-8)
    text = (tmp_path / "a.json").read_text()
    assert "not for clinical use" in text
    assert not [name for name in (*table.scan, *table.subject) if f'"{name}"' in text], "it names nobody"


@pytest.mark.parametrize("target", [NUMBER, CLASS])
def test_a_file_lists_scans_by_their_errors_and_not_as_the_table_did(tmp_path, target):
    found = usual(target)[3]
    write_predictor(tmp_path / "a.json", found)
    card = json.loads((tmp_path / "a.json").read_text())
    order = sorted(range(45), key=lambda i: (found.folds[i], found.errors[i]))
    assert order != sorted(order), "the table has another order"
    assert card["folds"] == found.folds[order].tolist()
    for name in ("errors", "distances", "shares"):
        np.testing.assert_allclose(card[name], vars(found)[name][order], rtol=1e-9)


def test_no_probe_says_why(tmp_path):
    write_no_predictor(tmp_path / "a.json", NUMBER, "column FEV1pp has no label")
    with pytest.raises(WeightsError, match="column FEV1pp has no label"):
        read_predictor(tmp_path / "a.json")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("probe") / "a.json"
    write_predictor(path, usual(CLASS)[3])
    return path.read_text()


@pytest.fixture
def card(written, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(written)
    return path


def test_a_changed_file_is_refused(card):
    values = json.loads(card.read_text())
    values["biases"][0][0] += 1
    card.write_text(json.dumps(values))
    with pytest.raises(WeightsError, match="its seal does not fit"):
        read_predictor(card)


@pytest.mark.parametrize(
    "change",
    [
        *({"kind": "other"}, {"target": {}}, {"target": None}, {"classes": []}, {"classes": [1, 2, 3]}),
        *({"weights": "x"}, {"weights": []}, {"weights": [[1.0]]}, {"weights": [[[1.0], [1.0, 2.0]]]}),
        *({"biases": [[0, 0, 0]]}, {"biases": [[None] * 3] * 6}, {"biases": 3}, {"n": float("inf")}),
        *({"folds": [7] * 45}, {"folds": [-1] * 45}, {"folds": {}}, {"errors": [0.1]}, {"shares": None}),
        *({"cloud": {}}, {"cloud": []}, {"n": "many"}, {"distances": [float("nan")] * 45}),
        {"errors": [10**400] * 45},
    ],
    ids=repr,
)
def test_a_file_whose_numbers_do_not_fit_is_a_named_error(card, change):
    card.write_text(json.dumps(sealed(json.loads(card.read_text()) | change)))
    with pytest.raises(WeightsError, match=re.escape(f"{card} holds no probe")):
        read_predictor(card)


@pytest.mark.parametrize("key", ["weights", "biases", "folds", "cloud", "classes", "n", "made_by"])
def test_a_file_that_lacks_something_is_a_named_error(card, key):
    values = json.loads(card.read_text())
    del values[key]
    card.write_text(json.dumps(sealed(values)))
    with pytest.raises(WeightsError, match="holds no probe"):
        read_predictor(card)


def test_features_of_another_kind_are_refused():
    table, _, _, found = usual(NUMBER)
    with pytest.raises(CohortError, match="takes 4 features, but the table has 3"):
        found.predict(table.drop(columns="f003"))
    other = table.copy()
    other.attrs["made_by"] = "other weights"
    with pytest.raises(CohortError, match="of these weights, but these are of other weights"):
        found.predict(other)
    other = table.copy()
    other.loc[50, "f001"] = np.inf
    with pytest.raises(CohortError, match="but not so: s050"):
        found.predict(other[46:])


def test_no_label_of_a_scan_with_features_is_a_named_error():
    table, _, _, folds = split(numbers)
    with pytest.raises(CohortError, match="known of no scan that has features"):
        fit_predictor(table, pd.Series([1.0], ["elsewhere"]), folds, NUMBER)


def test_no_scan_to_predict_is_an_empty_table_with_all_columns():
    for target in (NUMBER, CLASS):
        table, _, _, found = usual(target)
        assert list(found.predict(table[:0]).columns) == list(found.predict(table).columns)
