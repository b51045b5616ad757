"""All subjects split several times; one split says what it said; a cohort made to catch leaks."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctssl.errors import CohortError
from ctssl.evaluate import metrics
from ctssl.evaluate.probes import probe, probe_inside
from ctssl.evaluate.splits import assign_folds

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

import fill_probes

NUMBER, CLASS = fill_probes.TARGETS["number"], fill_probes.TARGETS["class"]


def test_one_split_says_what_it_said_before_there_were_repeats():
    before, now = json.loads(fill_probes.FILE.read_text()), fill_probes.found()
    assert before.keys() == now.keys()
    for name, then in before.items():
        here = now[name]
        for metric, values in then["metrics"].items():
            assert here["metrics"][metric] == pytest.approx(values, rel=1e-9), (name, metric)
        for record, old in zip(here["folds"], then["folds"], strict=True):
            assert record["repeat"] == 0
            assert {k: record[k] for k in old} == pytest.approx(old, rel=1e-9)
        assert here["note"] == then["note"]
        for column, values in then["predictions"].items():
            found = here["predictions"][column]
            exact = column in ("scan", "subject", "truth", "prediction", "fold") and name == "class"
            assert found == (values if exact or column in ("scan", "subject") else pytest.approx(values))


@pytest.fixture
def _few_resamples(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 40)


@pytest.mark.usefixtures("_few_resamples")
@pytest.mark.parametrize("target", [NUMBER, CLASS], ids=["number", "class"])
def test_the_value_of_repeats_is_the_mean_of_their_values(target):
    table, labels, _ = fill_probes.cohort()
    subjects = list(table.subject)
    splits = [assign_folds(subjects, None, 4, seed, {}) for seed in range(3)]
    known = labels[target.name]
    alone = [probe(table, known, folds, target) for folds in splits]
    together = probe(table, known, splits[0], target, again=splits[1:])
    for name, values in together.metrics.items():
        assert values["value"] == pytest.approx(np.mean([one.metrics[name]["value"] for one in alone]))
        of_folds = [record[name] for one in alone for record in one.folds]
        assert values["fold_mean"] == pytest.approx(np.mean(of_folds))
        assert values["fold_sd"] == pytest.approx(np.std(of_folds, ddof=1))
        assert values["low"] <= values["value"] <= values["high"]
    assert len(together.predictions) == 3 * len(table)
    assert together.n == len(table)
    for repeat, one in enumerate(alone):
        part = together.predictions[together.predictions.repeat == repeat].reset_index(drop=True)
        pd.testing.assert_frame_equal(part.drop(columns="repeat"), one.predictions.drop(columns="repeat"))
    assert [record["repeat"] for record in together.folds] == [r for r in range(3) for _ in range(4)]


@pytest.mark.usefixtures("_few_resamples")
def test_the_interval_of_repeats_is_not_narrower_than_subjects_allow():
    # Equal repeats add nothing, so the interval of three of them is that of one.
    table, labels, folds = fill_probes.cohort()
    one = probe(table, labels["number"], folds, NUMBER, seed=1).metrics["mae"]
    three = probe(table, labels["number"], folds, NUMBER, seed=1, again=[folds, folds]).metrics["mae"]
    assert three == pytest.approx(one | {"fold_sd": three["fold_sd"]})


@pytest.mark.usefixtures("_few_resamples")
def test_notes_of_repeats_say_how_often():
    table, labels, folds = fill_probes.cohort()
    known = labels["class"].where(labels["class"].index != "s20", "9")
    result = probe(table, known, folds, CLASS, again=[assign_folds(list(folds), None, 4, 1, {})])
    assert "not in training, so always wrong: class 9 (of 2 folds)" in result.note


@pytest.mark.usefixtures("_few_resamples")
@pytest.mark.parametrize("target", [NUMBER, CLASS], ids=["number", "class"])
def test_a_split_that_leaves_nobody_to_train_on_is_passed_over(target):
    table, labels, folds = fill_probes.cohort()
    known = labels[target.name][["s00", "s01", "s02", "s03"]]
    one = {subject: 0 if subject < "p04" else 1 for subject in folds}  # all labels in one fold
    folds = {subject: int(subject[1:]) % 4 for subject in folds}
    plain = probe(table, known, folds, target)
    assert plain.metrics is not None
    for again in ([one], [one, one]):
        result = probe(table, known, folds, target, again=again)
        assert {name: v["value"] for name, v in result.metrics.items()} == pytest.approx(
            {name: v["value"] for name, v in plain.metrics.items()}, nan_ok=True
        )
        assert f"no scan to train on (of {len(again)} folds)" in result.note
    both = probe(table, known, folds, target, again=[one, {s: (f + 1) % 4 for s, f in folds.items()}])
    assert sorted(set(both.predictions.repeat)) == [0, 2]
    assert both.metrics.keys() == plain.metrics.keys()


def test_a_subject_without_a_fold_in_a_repeat_is_an_error():
    table, labels, folds = fill_probes.cohort()
    with pytest.raises(CohortError, match="every subject should have a fold, but not so: p00"):
        probe(table, labels["number"], folds, NUMBER, again=[{s: f for s, f in folds.items() if s != "p00"}])


def trap(seed: int) -> tuple[pd.DataFrame, pd.Series]:
    """Two scans of each of 60 subjects, whose features are the subject's own and whose label is a coin's."""
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(60, 200))
    values = np.repeat(people, 2, axis=0) + 0.01 * rng.normal(size=(120, 200))
    table = pd.DataFrame(values, columns=[f"f{j:03}" for j in range(200)])
    table.insert(0, "scan", [f"s{i:03}" for i in range(120)])
    table.insert(1, "subject", [f"p{i // 2:02}" for i in range(120)])
    return table, pd.Series(np.repeat(rng.normal(size=60), 2), table.scan)


@pytest.mark.usefixtures("_few_resamples")
def test_a_trap_cohort_is_chance_by_subject_and_would_not_be_by_scan():
    honest, leaking = [], []
    for seed in range(2):
        table, labels = trap(seed)
        folds = assign_folds(list(table.subject), None, 5, 0, {})
        honest.append(probe(table, labels, folds, NUMBER).metrics["r2"]["value"])
        by_scan = table.assign(subject=table.scan)  # as if nobody knew
        folds = assign_folds(list(by_scan.subject), None, 5, 0, {})
        leaking.append(probe(by_scan, labels, folds, NUMBER).metrics["r2"]["value"])
    assert np.mean(honest) < 0.1
    assert np.mean(leaking) > 0.4


@pytest.mark.usefixtures("_few_resamples")
def test_a_fold_takes_features_of_its_own_network_for_training_and_test():
    table, labels, folds = fill_probes.cohort()
    known = labels["number"]
    own = {}
    for fold in range(4):
        rotated = table.copy()  # each network has another order of features, and its own scale
        names = [f"f{j:03}" for j in range(5)]
        rotated[names] = (1 + fold) * table[[*names[fold:], *names[:fold]]].to_numpy()
        own[fold] = (rotated, known)
    inside, plain = probe_inside(own, folds, NUMBER), probe(table, known, folds, NUMBER)
    mine, theirs = (r.predictions.set_index("scan").prediction for r in (inside, plain))
    np.testing.assert_allclose(mine, theirs[mine.index], atol=1e-6)


@pytest.mark.usefixtures("_few_resamples")
def test_features_of_another_fold_s_network_are_worth_nothing():
    # Network k sees the label in subjects of its own fold and of the next one, and nothing in any other.
    table, _, folds = fill_probes.cohort()
    table, count = table[["scan", "subject"]], 4
    truth = np.random.default_rng(2).normal(size=len(table))
    fold_of = table.subject.map(folds).to_numpy()
    own = {}
    for fold in range(count):
        seen = np.isin(fold_of, [fold, (fold + 1) % count])
        own[fold] = table.assign(f000=np.where(seen, truth, 0)), pd.Series(truth, table.scan)

    def r2(of):
        return probe_inside({k: own[of(k)] for k in range(count)}, folds, NUMBER).metrics["r2"]["value"]

    assert r2(lambda fold: fold) > 0.9
    assert r2(lambda fold: 0) < 0.7  # half of the folds see nothing
    assert r2(lambda fold: (fold + 1) % count) < 0.1
