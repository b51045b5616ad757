"""Which labelled scans networks inside the folds are given, and as which class."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from ctssl import config, settings
from ctssl.config.evaluation import Target
from ctssl.errors import ConfigError
from ctssl.evaluate import metrics
from ctssl.evaluate.cases import Cases, choose
from ctssl.evaluate.folds import TEST, plan_fold, predicted, write_fold
from ctssl.jobs import folds
from ctssl.manifest import read_manifest


@pytest.fixture(autouse=True)
def _every_scan_shows_a_landmark(monkeypatch):
    monkeypatch.setattr(folds, "_with_landmarks", lambda scans, rows: list(rows))
    monkeypatch.setattr(metrics, "RESAMPLES", 5)


def table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


class Study:
    """Scans of subjects in five folds; one network is trained for the target."""

    def __init__(self, folder, labels, **target):
        """`labels` holds the labels of each subject's scans."""
        self.folder = folder
        self.target = {"name": "grade", "column": "grade", "task": "classify"} | target
        self.scans = [
            {"scan": f"s{i:02}-{k}", "subject": f"p{i:02}", "grade": label}
            for i, own in enumerate(labels)
            for k, label in enumerate(own)
        ]
        table(folder / "manifest.csv", self.scans)
        table(folder / "scans.csv", [{**row, "store": "made of it"} for row in self.scans])
        table(folder / "splits.csv", [{"subject": f"p{i:02}", "fold": i % 5} for i in range(len(labels))])

    def text(self, stage, **evaluation):
        study = {
            "manifest": str(self.folder / "manifest.csv"),
            "runs": [{"name": "net", "method": "subject2vec"}],
            "evaluation": {"targets": [self.target], **evaluation},
        }
        (self.folder / "study.yaml").write_text(yaml.safe_dump(study))
        chosen = config.read(self.folder / "study.yaml")
        manifest = read_manifest(chosen.manifest, images=False)
        return getattr(settings, stage)(chosen, manifest, "net", "grade")

    def given(self, stage="fold", **evaluation):
        """Scan -> class, and the notes."""
        asked = settings.parse(stage, self.text(stage, **evaluation))
        paths = self.folder / "scans.csv", self.folder / "splits.csv"
        rows, *_, notes = folds._labelled(asked, *paths, Target(**asked["target"]))
        return dict(zip(rows.scan, rows.truth, strict=True)), notes


GRADES = [["mild"]] * 12 + [["none"]] * 10 + [["severe"]] * 2
"""By the alphabet, which is the order of names."""


@pytest.mark.parametrize("stage", ["fold", "join"])
def test_classes_that_are_said_to_be_in_order_are_merged(tmp_path, stage):
    given, notes = Study(tmp_path, GRADES, ordered=True).given(stage, rare="merge")
    assert set(given.values()) == {"mild", "none"}
    assert "severe (2 subjects) is counted as none, which then has 12" in notes[0]
    with pytest.raises(ConfigError, match="have no order"):
        Study(tmp_path, GRADES).given(stage, rare="merge")


def test_the_settings_of_a_training_know_an_order_only_where_classes_are_merged_by_it(tmp_path):
    for ordered in (None, True, False):
        study = Study(tmp_path, GRADES, ordered=ordered)
        asked = {
            rare: json.loads(study.text("fold", rare=rare))["target"] for rare in ("keep", "drop", "merge")
        }
        assert "ordered" not in asked["keep"] | asked["drop"]
        assert asked["merge"].get("ordered") is ordered


def means_of(study, stage, **evaluation):
    """Scan -> class where a subject is the mean of its scans, and what is said of classes."""
    given, notes = study.given(stage, scans_of_subject="mean", **evaluation)
    return given, " ".join(notes)


MOSTLY = [["0"] * 3] * 6 + [["0", "0", "2"]] * 2 + [["1"] * 3] * 8 + [["2"] * 3] * 4
"""Six subjects have a scan of class 2, four of them are mostly that."""


@pytest.mark.parametrize("stage", ["fold", "join"])
def test_networks_are_given_all_scans_in_the_classes_that_are_rare_among_subjects(tmp_path, stage):
    study = Study(tmp_path, MOSTLY)
    given, said = means_of(study, stage)
    assert given == {row["scan"]: row["grade"] for row in study.scans}
    assert said == ""
    given, said = means_of(study, stage, rare="merge")
    assert given == {row["scan"]: {"0": "0"}.get(row["grade"], "1") for row in study.scans}
    assert "2 (4 subjects) is counted as 1, which then has 12" in said
    given, said = means_of(study, stage, rare="drop")
    assert given == {row["scan"]: row["grade"] for row in study.scans if row["grade"] != "2"}
    assert "left out: 2 (4)" in said


def test_a_subject_that_is_left_out_is_left_out_with_all_scans(tmp_path):
    given, _ = means_of(
        Study(tmp_path, [["0"] * 2] * 6 + [["1"] * 2] * 6 + [["2", "0", "2"]]), "fold", rare="drop"
    )
    assert "s12-1" not in given
    assert len(given) == 24


def test_a_class_that_no_subject_is_mostly_of_is_rare(tmp_path):
    labels = [["0"] * 2] * 6 + [["1"] * 3] * 5 + [["1", "1", "3"]]
    given, said = means_of(Study(tmp_path, labels), "fold", rare="merge")
    assert set(given.values()) == {"0", "1"}
    assert "3 (0 subjects) is counted as 1, which then has 6" in said


@pytest.mark.parametrize("rare", ["keep", "drop", "merge"])
def test_a_subject_has_the_class_that_probes_give_it(tmp_path, rare):
    rng = np.random.default_rng(0)
    labels = rng.choice(list("0123"), (40, 3), p=[0.4, 0.4, 0.12, 0.08]).tolist()
    study = Study(tmp_path, labels)
    given, paths = study.given(scans_of_subject="mean", rare=rare)[0], []
    for fold in range(5):
        rows = pd.DataFrame([{**r, "truth": given[r["scan"]]} for r in study.scans if r["scan"] in given])
        rows = rows.assign(fold=[int(subject[1:]) % 5 for subject in rows.subject]).drop(columns="grade")
        plan = plan_fold(rows, fold, Target(**study.target), 5, 0)
        values = np.full((len(plan.of(TEST)), len(plan.classes)), 1 / len(plan.classes))
        paths.append(tmp_path / str(fold) / "fold.json")
        paths[-1].parent.mkdir()
        made_of = dict.fromkeys(rows.scan, "made of it")
        write_fold(paths[-1], fold, plan, predicted(plan, values), {}, made_of)
    text, out = study.text("join", scans_of_subject="mean", rare=rare), tmp_path / "grade.json"
    folds.join(text, paths, tmp_path / "scans.csv", tmp_path / "splits.csv", out)
    found = pd.read_csv(out.with_suffix(".csv"), dtype=str).set_index("subject").truth
    order = {row["scan"]: place for place, row in enumerate(study.scans)}
    whole = Cases(pd.DataFrame(study.scans), pd.Series({r["scan"]: r["grade"] for r in study.scans}))
    cases = choose(whole, Target(**study.target), "mean", order, rare, 5)
    cases = cases.features.assign(truth=cases.features.scan.map(cases.labels)).set_index("subject").truth
    assert found.to_dict() == cases.to_dict()
    assert len(set(found)) == (4 if rare == "keep" else 3)
