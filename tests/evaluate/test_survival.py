"""Time to an event, held to scikit-survival and statsmodels."""

import builtins

import numpy as np
import pandas as pd
import pytest

from ctssl import outcomes
from ctssl.config.evaluation import Target
from ctssl.errors import ConfigError, ManifestError
from ctssl.evaluate import metrics, survival
from ctssl.evaluate.labels import read_labels
from ctssl.evaluate.probes import probe, read_probe, write_probe
from ctssl.evaluate.splits import assign_folds
from ctssl.manifest import read_manifest

pytest.importorskip("sksurv")
DEATH = Target(name="death", column="days", task="survive", event="died")


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 40)


def followed(n=80, d=3, effect=1.0, seed=0, rounded=1):
    """Features and truths, of which the first feature shortens time; half of all are censored."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    time = np.round(rng.exponential(np.exp(-effect * x[:, 0])), rounded) + 0.1
    end = np.round(rng.exponential(1.0, n), rounded) + 0.1
    return x, np.where(time <= end, np.minimum(time, end), -np.minimum(time, end))


def table_of(x):
    table = pd.DataFrame(x, columns=[f"f{j:03}" for j in range(x.shape[1])])
    table.insert(0, "scan", [f"s{i:03}" for i in range(len(x))])
    table.insert(1, "subject", [f"p{i:03}" for i in range(len(x))])
    return table


def test_without_a_penalty_the_model_is_that_of_statsmodels():
    from statsmodels.duration.hazard_regression import PHReg

    x, truth = followed()
    theirs = PHReg(np.abs(truth), x, status=(truth > 0).astype(int), ties="breslow").fit()
    ours, converged = survival._fitted(x, truth, 1e-9, None)
    assert converged
    np.testing.assert_allclose(ours["linear"].coef_ / x.std(0), theirs.params, atol=1e-4)
    risk = x @ theirs.params
    assert survival.partial_log_likelihood(truth, risk) == pytest.approx(theirs.llf)


def test_the_ridge_is_where_the_penalised_likelihood_has_no_slope():
    x, truth = followed()
    scaled = (x - x.mean(0)) / x.std(0)
    model, _ = survival._fitted(x, truth, 7.0, None)
    best = model["linear"].coef_

    def loss(w):
        return 3.5 * (w**2).sum() - survival.partial_log_likelihood(truth, scaled @ w)

    for step in np.eye(3) * 1e-3:
        assert loss(best) < min(loss(best + step), loss(best - step))


def test_turned_features_give_the_same_risks():
    x, truth = followed(30, 50)
    scaled = (x - x.mean(0)) / x.std(0)
    model, _ = survival._fitted(x, truth, 5.0, None)
    assert "turn" in model.named_steps
    w = model["turn"].components_.T @ model["linear"].coef_

    def loss(v):
        return 2.5 * (v**2).sum() - survival.partial_log_likelihood(truth, scaled @ v)

    for step in np.eye(50)[::7] * 1e-3:
        assert loss(w) < min(loss(w + step), loss(w - step))


def test_concordance_counts_pairs_as_written():
    # Pairs that can be ordered: (1, 2+), (1, 3), (1, 4+), (3, 4+); of risks 4 2 2 3 all but the last agree.
    truth, risk = np.array([1, -2, 3, -4.0]), np.array([4, 2, 2, 3.0])
    assert survival.concordance(truth, risk) == 0.75
    assert np.isnan(survival.concordance(-np.abs(truth), risk))
    assert np.isnan(survival.concordance(np.array([5.0, -4]), np.array([1.0, 2])))
    assert survival.concordance(truth, np.zeros(4)) == 0.5


def test_drawn_concordances_are_those_of_scikit_survival(monkeypatch):
    monkeypatch.setattr(survival, "_BLOCK", 7)
    _, truth = followed(60)
    rng = np.random.default_rng(1)
    risk = np.round(rng.normal(size=60), 1)  # with ties
    draws = rng.integers(60, size=(20, 60))
    counts = np.stack([np.bincount(d, minlength=60) for d in draws]).astype(float)
    each = [survival.concordance(truth[d], risk[d]) for d in draws]
    np.testing.assert_allclose(survival.drawn_concordances(truth, risk, counts), each)
    none = survival.drawn_concordances(-np.abs(truth), risk, counts)
    assert np.isnan(none).all()


def test_an_effect_is_found_and_noise_is_not():
    x, truth = followed(90, 4, effect=1.5)
    table = table_of(x)
    folds = assign_folds(list(table.subject), None, 5, 0, {})
    found = probe(table, pd.Series(truth, table.scan), folds, DEATH)
    assert found.metrics["concordance"]["low"] > 0.6
    assert list(found.metrics) == ["concordance"]
    assert "null" not in found.predictions
    noise = np.random.default_rng(3).permutation(truth)
    chance = probe(table, pd.Series(noise, table.scan), folds, DEATH).metrics["concordance"]
    assert chance["low"] < 0.5 < chance["high"]


def test_a_strong_effect_takes_a_weaker_penalty_than_noise():
    x, truth = followed(60, 10, effect=2.0)
    people = pd.Series([f"p{i}" for i in range(60)])
    strong = survival.fit_cox(x, truth, people)[1]["alpha"]
    noise = survival.fit_cox(x, np.random.default_rng(0).permutation(truth), people)[1]["alpha"]
    assert strong < noise


def test_subjects_may_have_scans_with_an_event_and_without():
    x, truth = followed(20)
    people, truth = pd.Series([f"p{i // 2}" for i in range(20)]), np.abs(truth) * np.tile([1, -1], 10)
    model, penalty, _ = survival.fit_cox(x, truth, people)
    assert penalty["alpha"] > 0
    assert np.isfinite(model.predict(x)).all()


@pytest.mark.parametrize("truth", [[-1.0, -2, -3, -4], [-1, -2, -3, 4], [1, 1, 1, 1]])
def test_where_nothing_orders_subjects_all_risks_are_equal(truth):
    x, people = np.arange(4.0)[:, None], pd.Series(list("abcd"))
    model, penalty, said = survival.fit_cox(x, np.array(truth, float), people)
    assert list(model.predict(x)) == [0] * 4
    assert penalty == {}
    assert "all risks are equal" in said[0]


def test_a_result_without_pairs_says_so_and_is_written(tmp_path):
    table = table_of(np.arange(6.0)[:, None])
    folds = {s: i % 2 for i, s in enumerate(table.subject)}
    found = probe(table, pd.Series(-1.0 - np.arange(6), table.scan), folds, DEATH)
    assert found.metrics["concordance"]["value"] is None
    assert "concordance undefined over all folds" in found.note
    write_probe(tmp_path / "death.json", found)
    assert read_probe(tmp_path / "death.json")["task"] == "survive"


def manifest(tmp_path, rows):
    path = tmp_path / "scans.csv"
    path.write_text("scan,days,died\n" + "".join(f"{row}\n" for row in rows))
    return read_manifest(path, images=False)


def test_two_columns_become_one_label(tmp_path):
    table = manifest(tmp_path, ["a,12.5,1", "b,30,0", "c,,1", "d,7,", "e,8,yes", "f,9,FALSE", "g,1.0,1.0"])
    texts = outcomes.texts(table, DEATH)
    assert texts == {"a": "12.5", "b": "30+", "c": "", "d": "", "e": "8", "f": "9+", "g": "1.0"}
    labels = read_labels(texts, DEATH)
    assert labels.to_dict() == {"a": 12.5, "b": -30.0, "e": 8.0, "f": -9.0, "g": 1.0}


@pytest.mark.parametrize("row", ["a,12,2", "a,12,dead", "a,12+,1"])
def test_an_event_that_is_neither_is_named(tmp_path, row):
    with pytest.raises(ManifestError, match="scan a: "):
        outcomes.texts(manifest(tmp_path, [row]), DEATH)


@pytest.mark.parametrize("time", ["0", "-3", "soon", "inf", "1_0"])
def test_a_time_that_is_none_is_named(tmp_path, time):
    with pytest.raises(ManifestError, match=r"scan a: .* no time above 0"):
        read_labels(outcomes.texts(manifest(tmp_path, [f"a,{time},1"]), DEATH), DEATH)


def test_without_the_library_it_is_said_what_to_install(monkeypatch):
    real = builtins.__import__

    def gone(name, *rest):
        if name.startswith("sksurv"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", gone)
    with pytest.raises(ConfigError, match="need scikit-survival"):
        survival.concordance(np.array([1.0, 2]), np.array([1.0, 2]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"task": "survive"}, "needs `event`"),
        ({"task": "regress", "event": "died"}, "event goes with task: survive"),
        ({"task": "regress", "ordered": True}, "ordered goes with task: classify"),
    ],
)
def test_keys_that_do_not_go_with_the_task_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        Target(name="a", column="a", **values)
