"""Curves over few labels: who is fitted on, and what the ends of a curve must equal."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from evaluate.test_probes import CLASS, NUMBER, classes, cohort, numbers

from ctssl.errors import CohortError
from ctssl.evaluate import curves as module
from ctssl.evaluate import metrics
from ctssl.evaluate.curves import (
    COLUMNS,
    Curve,
    curve,
    curves_table,
    read_curve,
    some_subjects,
    write_curve,
)
from ctssl.evaluate.figures_curves import LEAST_R2, curves_figure, draw_curves
from ctssl.evaluate.probes import probe


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 5)


def people(truth, scans_each=1):
    return pd.DataFrame({"subject": [f"p{i // scans_each:03}" for i in range(len(truth))], "truth": truth})


def test_a_larger_share_of_a_draw_holds_the_smaller_ones_and_draws_differ():
    train = people(["0"] * 60 + ["1"] * 30 + ["2"] * 10)
    sets = [some_subjects(train, "classify", share, 0) for share in (0.01, 0.1, 0.25, 1)]
    assert all(a < b for a, b in pairwise(sets))
    assert sets[-1] == set(train.subject)
    assert sets[2] != some_subjects(train, "classify", 0.25, 1)


def test_shares_are_of_every_class_alike_and_no_class_is_lost():
    train = people(["0"] * 60 + ["1"] * 30 + ["2"] * 10)
    truth = dict(zip(train.subject, train.truth, strict=True))
    for draw in range(5):
        found = pd.Series([truth[s] for s in some_subjects(train, "classify", 0.2, draw)]).value_counts()
        assert found.to_dict() == {"0": 12, "1": 6, "2": 2}
        assert len({truth[s] for s in some_subjects(train, "classify", 0.01, draw)}) == 3


def test_numbers_come_from_all_quarters_and_from_two_subjects_at_least():
    train = people(list(np.arange(80.0)), scans_each=2)
    found = some_subjects(train, "regress", 0.2, 0)
    places = sorted(int(s[1:]) // 10 for s in found)
    assert places == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(some_subjects(train, "regress", 0.001, 0)) == 2


@pytest.mark.parametrize(("target", "make"), [(NUMBER, numbers), (CLASS, classes)])
def test_with_all_labels_a_curve_ends_at_the_probe(target, make):
    table, folds, rng = cohort(30, folds=3)
    labels = make(table, rng, 0.7)
    found = curve(table, labels, folds, target, [0.3, 1.0], 2)
    whole = probe(table, labels, folds, target)
    few, last = found.points
    assert (few["draws"], last["draws"]) == (2, 1)
    assert last["subjects"] == 20
    for name, values in whole.metrics.items():
        assert last["metrics"][name]["value"] == pytest.approx(values["value"]), name
        assert last["metrics"][name]["sd"] is None
        assert few["metrics"][name]["sd"] is not None


def test_r2_is_against_the_mean_of_the_whole_training_part():
    """The mean of few subjects would be beaten easily."""
    table, folds, rng = cohort(30, folds=3)
    labels = numbers(table, rng, 0.7)
    [few] = curve(table, labels, folds, NUMBER, [0.1], 1).points
    truth, fold = labels.to_numpy(), table.subject.map(folds).to_numpy()
    guess, null = np.empty(30), np.empty(30)
    for number in range(3):
        test = fold == number
        train = table.assign(truth=truth)[~test]
        part = train[train.subject.isin(some_subjects(train, "regress", 0.1, 0))]
        guess[test] = module.fit_probe(part, "regress")[0].predict(table[test].filter(regex="^f0").to_numpy())
        null[test] = truth[~test].mean()
    expected = 1 - ((guess - truth) ** 2).sum() / ((null - truth) ** 2).sum()
    assert few["metrics"]["r2"]["value"] == pytest.approx(expected)


def test_what_was_done_otherwise_is_said_with_how_often():
    table, folds, rng = cohort(40, folds=4)
    labels = classes(table, rng, 0.5, "01")
    lost = pd.concat([labels, pd.Series({"gone": "1"})])
    found = curve(table, lost, folds, CLASS, [0.02, 0.5, 1.0], 3, notes=["first"])
    chosen = "too few subjects per class to choose C, so it is 1"
    assert found.note == "first; 1 labelled scan(s) have no features"
    assert [point["note"] for point in found.points] == [f"{chosen} (12 of 12 fits)", "", ""]
    alone = dict(
        zip(table.subject, (0 if label == "0" else 1 + i % 3 for i, label in enumerate(labels)), strict=True)
    )
    [point] = curve(table, labels, alone, CLASS, [1.0], 1).points
    assert point["note"] == "one class in training, so 1 is predicted (1 of 4 fits)"
    nothing = curve(table, lost, dict.fromkeys(table.subject, 0), CLASS, [1.0], 1).note
    assert nothing.startswith("1 labelled scan(s) have no features; fewer than 2 folds")


def test_no_subject_of_the_test_fold_is_fitted_on(monkeypatch):
    table, folds, rng = cohort(20, folds=2, scans_each=2)
    seen = []
    real = module.fit_probe
    monkeypatch.setattr(
        module, "fit_probe", lambda part, *how: seen.append(set(part.subject)) or real(part, *how)
    )
    curve(table, numbers(table, rng, 1.0), folds, NUMBER, [0.2, 0.5], 3)
    assert len(seen) == 2 * 3 * 2
    for place, subjects in enumerate(seen):
        assert {folds[s] for s in subjects} == {1 - place % 2}


def test_a_planted_effect_grows_with_labels_and_noise_does_not():
    table, folds, rng = cohort(60, 6, folds=3)
    shares = [0.1, 1.0]
    effect = curve(table, numbers(table, rng, 0.5), folds, NUMBER, shares, 3).points
    noise = curve(table, pd.Series(rng.normal(size=60), table.scan), folds, NUMBER, shares, 3).points
    r2 = [[point["metrics"]["r2"]["value"] for point in points] for points in (effect, noise)]
    assert r2[0][1] > 0.85 > 0.6 > r2[0][0]
    assert r2[1][1] < 0.15


def test_what_cannot_be_measured_is_said_and_written(tmp_path):
    table, _, _ = cohort(4)
    labels = pd.Series(["0"] * 4, table.scan, dtype=object)
    found = curve(table, labels, dict.fromkeys(table.subject, 0), CLASS, [1.0], 1, notes=["first"])
    assert found.points == []
    assert found.note == "first; one class in all data, so nothing is measured"
    write_curve(tmp_path / "gold.json", found)
    assert read_curve(tmp_path / "gold.json") == found
    (tmp_path / "gold.json").write_text("[]")
    with pytest.raises(CohortError, match="holds no curve"):
        read_curve(tmp_path / "gold.json")


def test_table_and_figure_show_every_row_and_target(tmp_path):
    table, folds, rng = cohort(24, folds=2)
    found = curve(table, numbers(table, rng, 0.5), folds, NUMBER, [0.5, 1.0], 2)
    none = curve(table, pd.Series(dtype=float), folds, CLASS, [0.5, 1.0], 2)
    rows = {
        name: {"fev1": {"seed0": found, "seed1": found}, "gold": {"seed0": none}} for name in ("$a$", "b")
    }
    lines = curves_table(rows)
    assert list(lines.columns) == list(COLUMNS)
    assert len(lines) == 2 * (2 * 2 * len(found.points[0]["metrics"]) + 1)
    figure = draw_curves(lines, ["fev1", "gold"])
    first, second = figure.axes
    assert first.get_title() == "fev1: r2"
    assert len(first.containers) == 2
    assert list(first.containers[0].lines[0].get_ydata()) == pytest.approx(
        [point["metrics"]["r2"]["value"] for point in found.points]
    )
    assert second.containers == []
    curves_figure(lines, ["fev1", "gold"], tmp_path / "figures" / "curves.png")
    assert (tmp_path / "figures" / "curves.png").read_bytes().startswith(b"\x89PNG")


SIZES = {0.01: 2, 0.25: 40.2, 1.0: 159}


def rows_of_curves(count):
    """The table of as many rows, each with its own value at three shares."""

    def found(value):
        sizes = [{"share": share, "subjects": size, "draws": 2, "note": ""} for share, size in SIZES.items()]
        points = [{**size, "metrics": {"r2": {"value": value, "sd": 0.1}}} for size in sizes]
        return Curve("fev1", "regress", points)

    return curves_table({f"row {i}": {"fev1": {"seed0": found(i / count)}} for i in range(count)})


def test_sixteen_rows_can_be_told_apart_in_the_figure():
    figure = draw_curves(rows_of_curves(16), ["fev1"])
    axis = figure.axes[0]
    lines = [container.lines[0] for container in axis.containers]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}) == 16
    marks = figure.legends[0].legend_handles
    assert [(m.get_label(), m.get_color(), m.get_marker()) for m in marks] == [
        (f"row {i}", line.get_color(), line.get_marker()) for i, line in enumerate(lines)
    ]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["2", "40", "159"]
    places = np.array([line.get_xdata() for line in lines])
    assert (np.diff(places, axis=0) > 0).all(), "no bar lies on another"
    assert np.abs(places / [*SIZES.values()] - 1).max() < 0.1


def test_no_name_of_many_rows_is_cut_off():
    figure = draw_curves(rows_of_curves(46), ["fev1"])
    figure.canvas.draw()
    page, names = figure.bbox, figure.legends[0].get_window_extent()
    assert page.y0 <= names.y0 < names.y1 <= page.y1
    assert page.x0 <= names.x0 < names.x1 <= page.x1


def test_the_table_says_of_a_share_what_concerns_it_and_the_figure_leaves_out_what_is_far_below():
    def point(share, value, note):
        sizes = {"share": share, "subjects": 100 * share, "draws": 1, "note": note}
        return {**sizes, "metrics": {"r2": {"value": value, "sd": abs(value)}}}

    found = Curve("fev1", "regress", [point(0.1, -90.0, "odd (1 of 4 fits)"), point(1.0, 0.7, "")], "first")
    lines = curves_table({"a": {"fev1": {"seed0": found}}})
    assert lines.note.tolist() == ["first; odd (1 of 4 fits)", "first"]
    [axis] = [a for a in draw_curves(lines, ["fev1"]).axes if a.get_title()]
    assert axis.get_ylim() == (LEAST_R2, 1.05), "what can be, whatever the standard deviation"
    assert axis.get_title() == "fev1: r2 (below -0.5 not shown)"
