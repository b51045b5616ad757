"""Folds that leave out one site each, and what they see that others do not."""

import numpy as np
import pandas as pd
import pytest

from ctssl.config.evaluation import Target
from ctssl.errors import CohortError
from ctssl.evaluate import metrics
from ctssl.evaluate.left_out import leave_out, read_left_out, write_left_out
from ctssl.evaluate.probes import probe
from ctssl.evaluate.splits import assign_folds


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(metrics, "RESAMPLES", 40)


ILL = Target(name="ill", column="ill", task="classify")
FEV1 = Target(name="fev1", column="fev1", task="regress")


def test_each_value_is_a_fold_and_a_subject_goes_where_most_of_its_scans_are():
    values = {"a": "north", "b": "south", "c": "south", "d": "east", "e": "north", "f": "east", "g": "NA"}
    subjects = dict(zip("abcdefg", "xxxyzzw", strict=True))
    got = leave_out(values, subjects)
    assert got.names == {0: "east", 1: "south"}, "nobody is of north alone: z counts for the first by name"
    assert got.folds == {"x": 1, "y": 0, "z": 0}
    assert got.elsewhere == {"x": 1, "y": 0, "z": 1}
    said = got.notes("site", {"x", "y", "z", "w"})
    assert said == [
        "each fold leaves out one site",
        "1 subject(s) have no site and take no part",
        "2 subject(s) have scans of several values, and go with that of most scans",
    ]


def test_one_number_is_one_value_however_it_is_written():
    got = leave_out({"a": "1", "b": "1.0", "c": "01", "d": "2"}, {s: s for s in "abcd"})
    assert got.names == {0: "1", 1: "2"}
    assert got.folds == {"a": 0, "b": 0, "c": 0, "d": 1}


def test_what_is_written_is_what_is_read(tmp_path):
    found = leave_out({"a": "x, y", "b": "é"}, {"a": "p", "b": "q"})
    write_left_out(tmp_path / "by-site.csv", found)
    assert read_left_out(tmp_path / "by-site.csv") == found
    nothing = leave_out({"a": ""}, {"a": "p"})
    write_left_out(tmp_path / "none.csv", nothing)
    assert read_left_out(tmp_path / "none.csv").folds == {}
    (tmp_path / "bad.csv").write_text("subject,fold\np,0\n")
    with pytest.raises(CohortError, match="scans_elsewhere"):
        read_left_out(tmp_path / "bad.csv")


def sited(seed: int, shown: float) -> tuple[pd.DataFrame, pd.Series, dict[str, str]]:
    """Features of 90 scans of three sites, of which one has nearly all ill subjects: f000 shows `shown` of
    the disease, f001 and f002 the site, f003 nothing.
    """
    rng = np.random.default_rng(seed)
    site = np.arange(90) % 3
    ill = rng.random(90) < np.array([0.9, 0.1, 0.1])[site]
    values = np.stack([shown * ill, 1.0 * (site == 0), 1.0 * (site == 1), np.zeros(90)], 1)
    table = pd.DataFrame(values + 0.3 * rng.normal(size=(90, 4)), columns=[f"f{j:03}" for j in range(4)])
    names = [f"s{i:02}" for i in range(90)]
    table.insert(0, "scan", names)
    table.insert(1, "subject", names)
    return (
        table,
        pd.Series(np.where(ill, "1", "0"), names, dtype=object),
        dict(zip(names, "abc" * 30, strict=True)),
    )


def test_where_the_site_alone_tells_the_label_a_site_left_out_shows_it():
    mixed, left = [], []
    for seed in range(3):
        table, labels, site = sited(seed, 0.0)
        found = leave_out(site, {scan: scan for scan in site})
        folds = assign_folds(list(table.subject), None, 5, 0, {})
        mixed.append(probe(table, labels, folds, ILL).metrics["balanced_accuracy"]["value"])
        result = probe(table, labels, found.folds, ILL, names=found.names)
        left.append(result.metrics["balanced_accuracy"]["value"])
        assert [record["value"] for record in result.folds] == ["a", "b", "c"]
    assert np.mean(mixed) > 0.8
    assert np.mean(left) < 0.55


def test_numbers_that_are_known_by_the_site_alone_fall_in_what_is_shown():
    rng = np.random.default_rng(0)
    names, site = [f"s{i:03}" for i in range(200)], np.arange(200) % 4
    table = pd.DataFrame({"scan": names, "subject": names})
    table["f000"] = 1.5 * site + 0.3 * rng.normal(size=200)
    labels = pd.Series(1.5 * site + rng.normal(size=200), names)
    found = leave_out(dict(zip(names, "abcd" * 50, strict=True)), {name: name for name in names})
    mixed = probe(table, labels, assign_folds(names, None, 5, 0, {}), FEV1).metrics["r2"]
    left = probe(table, labels, found.folds, FEV1, names=found.names).metrics["r2"]
    for shown in ("value", "fold_mean"):
        assert mixed[shown] > 0.6
        assert left[shown] < 0.1
    assert left["low"] <= left["value"] <= left["high"] < 0.2
    lung = table.assign(f000=labels.to_numpy() + 0.3 * rng.normal(size=200))
    seen = probe(lung, labels, found.folds, FEV1, names=found.names).metrics["r2"]
    assert seen["value"] > 0.8


def test_sites_of_one_scan_or_of_equal_values_have_no_mean_to_beat():
    names = [f"s{i}" for i in range(12)]
    table = pd.DataFrame({"scan": names, "subject": names, "f000": np.arange(12.0)})
    labels = pd.Series(np.repeat([0.1, 0.2, 0.3, 0.7], 3), names)  # their means are off by rounding
    for folds in ({name: i // 3 for i, name in enumerate(names)}, {n: i for i, n in enumerate(names)}):
        called = {fold: f"site{fold}" for fold in folds.values()}
        result = probe(table, labels, folds, FEV1, names=called)
        assert result.metrics["r2"]["value"] is None
        assert result.metrics["mae"]["value"] > 0


def test_a_disease_that_is_seen_is_seen_at_a_new_site_too():
    table, labels, site = sited(0, 3.0)
    labels = pd.Series(np.random.default_rng(5).permutation(labels.to_numpy()), labels.index)  # of no site
    table.f000 = 3.0 * (labels.to_numpy() == "1") + 0.3 * np.random.default_rng(6).normal(size=90)
    found = leave_out(site, {scan: scan for scan in site})
    result = probe(table, labels, found.folds, ILL, names=found.names)
    assert result.metrics["balanced_accuracy"]["value"] > 0.95


def test_notes_name_the_value_that_was_left_out():
    table, labels, site = sited(0, 0.0)
    site = {scan: "only" if labels[scan] == "1" else value for scan, value in site.items()}
    found = leave_out(site, {scan: scan for scan in site})
    result = probe(table, labels, found.folds, ILL, names=found.names)
    assert "(only): one class in training, so 0 is predicted" in result.note
