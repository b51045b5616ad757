"""A site that tells the label is seen as such; one that tells nothing is, too."""

import numpy as np
import pandas as pd
import pytest

from ctssl.config.evaluation import Target
from ctssl.evaluate.confounding import as_features, as_target
from ctssl.evaluate.labels import read_labels
from ctssl.evaluate.left_out import leave_out
from ctssl.evaluate.probes import probe
from ctssl.evaluate.tables_confounding import CONFOUNDING_COLUMNS, write_confounding

SICK = Target(name="sick", column="sick", task="classify")


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b", ""], "classify"),
        (["1", "1.25", "5", "na", ""], "classify"),  # slice thicknesses of a few protocols
        ([str(n) for n in range(10)], "classify"),
        ([str(n / 7) for n in range(11)], "regress"),
        ([*map(str, range(30)), "unknown"], "classify"),
        ([*map(str, range(30)), "inf"], "classify"),
        ([*map(str, range(30)), "1_0"], "classify"),
        ([str(n) for n in range(10)] * 5 + ["nan", "NA"], "classify"),
        (["1", "1.0", *map(str, range(2, 11))], "classify"),  # ten numbers, one of them written twice
    ],
)
def test_what_is_a_class_and_what_a_number(values, task):
    target = as_target("x", "col", {f"s{i}": value for i, value in enumerate(values)})
    assert (target.name, target.column, target.task) == ("x", "col", task)


@pytest.mark.parametrize("task", ["classify", "regress"])
@pytest.mark.parametrize("count", [5, 30])
def test_what_is_said_of_a_confounder_counts_whatever_its_values_are(task, count):
    values = {f"s{i}": str(100 + i) for i in range(count)}
    target = as_target("site", "site", values, task)
    assert target.task == task
    assert target.ordered is (False if task == "classify" else None), "codes have no order"
    assert as_features(values, {s: s for s in values}, target).shape[1] == 2 + (
        count if task == "classify" else 1
    )


def test_features_of_classes_are_one_hot_and_of_numbers_the_number():
    values = {"s0": "B30f", "s1": "B70f", "s2": "", "s3": "B30f", "s9": "B30f"}
    subjects = {"s0": "p0", "s1": "p1", "s2": "p2", "s3": "p0"}  # s9 is not used
    table = as_features(values, subjects, as_target("kernel", "kernel", values))
    assert table.values.tolist() == [["s0", "p0", 1, 0], ["s1", "p1", 0, 1], ["s3", "p0", 1, 0]]
    assert table.columns.tolist() == ["scan", "subject", "f000", "f001"]
    numbers = {f"s{i}": str(i * 0.3) for i in range(12)}
    table = as_features(numbers, {s: s for s in numbers}, as_target("dose", "dose", numbers))
    np.testing.assert_allclose(table.f000, np.arange(12) * 0.3)


def cohort(seed, sick_share, known):
    """Scans of 4 sites with their shares of sick; features that know of the site, the disease, or neither."""
    rng = np.random.default_rng(seed)
    n = 120
    site = np.arange(n) % 4
    sick = rng.random(n) < np.asarray(sick_share)[site]
    features = rng.normal(size=(n, 8))
    if "site" in known:
        features[:, :4] += 6 * np.eye(4)[site]
    if "sick" in known:
        features[:, 5] += 4 * sick
    table = pd.DataFrame(features, columns=[f"f{i:03}" for i in range(8)])
    table.insert(0, "scan", [f"s{i}" for i in range(n)])
    table.insert(1, "subject", [f"p{i}" for i in range(n)])
    sites = {f"s{i}": "ABCD"[k] for i, k in enumerate(site)}
    labels = {f"s{i}": str(int(x)) for i, x in enumerate(sick)}
    folds = {f"p{i}": int(f) for i, f in enumerate(rng.permutation(n) % 5)}
    return table, sites, labels, folds


def measured(found, metric="accuracy"):
    return found.metrics[metric]["value"]


def asked(known, sick_share, seed=0):
    """Accuracies: site from features, label from the site, label from features, with each site left out."""
    table, sites, labels, folds = cohort(seed, sick_share, known)
    confounder = as_target("site", "site", sites)
    truth = read_labels(labels, SICK)
    subjects = dict(zip(table.scan, table.subject, strict=True))
    about = probe(table, read_labels(sites, confounder), folds, confounder)
    alone = probe(as_features(sites, subjects, confounder), truth, folds, SICK)
    target = probe(table, truth, folds, SICK)
    by = probe(table, truth, leave_out(sites, subjects).folds, SICK)
    return [measured(found) for found in (about, alone, target, by)]


UNEQUAL, EQUAL = (0.95, 0.95, 0.05, 0.05), (0.5, 0.5, 0.5, 0.5)


def test_where_site_alone_tells_the_label_the_table_shows_it_and_leaving_a_site_out_falls():
    about, alone, target, by = asked({"site"}, UNEQUAL)
    assert about > 0.95
    assert alone > 0.9
    assert target == pytest.approx(alone, abs=0.05)  # no more than the site says
    assert by < 0.6


def test_features_that_know_the_disease_beat_the_site_and_keep_it_when_a_site_is_left_out():
    about, alone, target, by = asked({"sick"}, EQUAL)
    assert about < 0.4  # of 4 sites
    assert alone < 0.6
    assert target > 0.93
    assert by > 0.9


def test_features_that_know_nothing_say_nothing():
    table, sites, labels, folds = cohort(3, EQUAL, set())
    confounder = as_target("site", "site", sites)
    about = probe(table, read_labels(sites, confounder), folds, confounder)
    assert about.metrics["accuracy"]["low"] < 0.25 < about.metrics["accuracy"]["high"] + 0.05
    assert probe(table, read_labels(labels, SICK), folds, SICK).metrics["accuracy"]["low"] < 0.5


def test_the_table_holds_both_questions(tmp_path):
    table, sites, labels, folds = cohort(0, UNEQUAL, {"site"})
    confounder = as_target("site", "site", sites)
    subjects = dict(zip(table.scan, table.subject, strict=True))
    about = vars(probe(table, read_labels(sites, confounder), folds, confounder))
    alone = vars(probe(as_features(sites, subjects, confounder), read_labels(labels, SICK), folds, SICK))
    write_confounding(
        {"Ours": {"seed0": {"site": about}}},
        {"site alone": {"": {"sick": alone}}},
        [confounder],
        [SICK],
        tmp_path / "tables" / "confounding.csv",
        tmp_path / "tables" / "confounding.md",
    )
    found = pd.read_csv(tmp_path / "tables/confounding.csv")
    assert tuple(found.columns) == CONFOUNDING_COLUMNS
    shown = found[found.metric == "accuracy"].set_index("question")
    assert shown.row.tolist() == ["Ours", "site alone"]
    assert shown.target.tolist() == ["site", "sick"]
    assert shown.value.tolist() == pytest.approx([measured_of(about), measured_of(alone)])
    page = (tmp_path / "tables/confounding.md").read_text()
    assert "Taken as classes: site." in page
    first, second = page.split("## What a confounder alone says of the targets")
    assert "site: accuracy % (n = 120, 4 classes, majority 25.0 %)" in first
    assert "| Ours | " in first
    assert "sick: accuracy % (n = 120, 2 classes" in second
    assert "| site alone | " in second


def measured_of(result):
    return result["metrics"]["accuracy"]["value"]
