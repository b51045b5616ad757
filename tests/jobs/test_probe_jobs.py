"""Jobs of folds and probes: what they read, and what they refuse."""

import csv

import numpy as np
import pandas as pd
import pytest
import yaml

from ctssl import config, settings, settings_probes
from ctssl.config.evaluation import Target
from ctssl.errors import CohortError, ManifestError
from ctssl.evaluate.cases import Cases
from ctssl.evaluate.handmade.clinical import clinical_table
from ctssl.evaluate.labels import read_labels
from ctssl.evaluate.probes import read_probe
from ctssl.evaluate.splits import read_splits
from ctssl.jobs import probes
from ctssl.jobs.study import Fold
from ctssl.manifest import read_manifest

EVALUATION = {
    "folds": 3,
    "targets": [
        {"name": "fev1", "column": "fev1", "task": "regress"},
        {"name": "grade", "column": "grade", "task": "classify", "rare": "merge"},
    ],
}
SCANS = 24


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def rows_of(count=SCANS):
    """Twelve subjects with two scans each: the second of the first visit."""
    return [
        {
            "scan": f"s{i:02}",
            "subject": f"p{i % 12:02}",
            "visit": str(2 - i // 12),
            "site": "ab"[i % 2],
            "fev1": f"{i}.5",
            "grade": {11: "9"}.get(i % 12, str(i % 2)),
        }
        for i in range(count)
    ]


class Made:
    """A table of scans, features and folds on disk."""

    def __init__(self, folder, **evaluation):
        self.folder = folder
        self.scans, self.features = folder / "scans.csv", folder / "features.parquet"
        write(self.scans, rows_of())
        overlay = folder / "study.yaml"
        study = {"manifest": str(self.scans), "evaluation": EVALUATION | evaluation}
        overlay.write_text(yaml.safe_dump(study))
        self.config = config.read(overlay)
        rng = np.random.default_rng(0)
        table = pd.DataFrame(rng.normal(size=(SCANS, 3)), columns=["f000", "f001", "f002"])
        table.insert(0, "scan", [row["scan"] for row in rows_of()])
        table.insert(1, "subject", [row["subject"] for row in rows_of()])
        table.to_parquet(self.features)
        self.splits = folder / "splits.csv"
        probes.splits(settings_probes.splits(self.config), self.scans, self.splits)

    @property
    def manifest(self):
        return read_manifest(self.scans, images=False)

    def probe(self, target, splits=None):
        text = settings_probes.probe(self.config, self.manifest, target)
        out = self.folder / "probes" / f"{target}.json"
        final = self.folder / f"{target}-final.json"
        probes.probe(text, self.features, splits or [self.splits], out, final)
        return read_probe(out), pd.read_csv(out.with_suffix(".csv"))


def test_the_first_visit_stands_for_each_subject(tmp_path):
    result, table = Made(tmp_path, scans_of_subject="first").probe("fev1")
    assert sorted(table.scan) == [f"s{i:02}" for i in range(12, 24)]
    assert "24 scans of 12 subjects" in result["note"]


def test_means_have_a_row_for_each_subject(tmp_path):
    result, table = Made(tmp_path, scans_of_subject="mean").probe("fev1")
    assert result["n"] == result["subjects"] == 12
    assert table.set_index("subject").truth["p03"] == (3.5 + 15.5) / 2


def test_rare_classes_are_merged_and_every_result_says_so(tmp_path):
    result, table = Made(tmp_path).probe("grade")
    assert set(table.truth) == {0, 1}
    said = "9 (1 subjects) is counted as 1, which then has 6"
    assert said in result["note"]
    assert said in (tmp_path / "grade-final.json").read_text()


def test_a_probe_says_how_clinical_columns_were_taken(tmp_path):
    made = Made(tmp_path)
    rows = made.manifest.rows
    columns = {"site": made.manifest.column("site")}
    table = clinical_table([row.scan for row in rows], [row.subject for row in rows], columns)
    table.to_parquet(made.features)
    result, _ = made.probe("fev1")
    assert "clinical columns: site (classes)" in result["note"]


def test_each_repeat_has_its_split(tmp_path):
    made = Made(tmp_path)
    again = tmp_path / "again.csv"
    probes.splits(settings_probes.splits(made.config, 1), made.scans, again)
    assert read_splits(again) != read_splits(made.splits)
    _, table = made.probe("fev1", [made.splits, again])
    for repeat, path in enumerate((made.splits, again)):
        part = table[table.repeat == repeat]
        assert dict(zip(part.subject, part.fold, strict=True)) == read_splits(path)


def test_a_site_is_left_out_and_who_has_none_takes_no_part(tmp_path):
    made = Made(tmp_path, leave_out="site")
    rows = rows_of()
    write(made.scans, [row | {"site": ""} if row["subject"] == "p00" else row for row in rows])
    splits = tmp_path / "by-site.csv"
    probes.splits_by(settings_probes.splits_by(made.config, made.manifest), made.scans, splits)
    text = settings_probes.probe_by(made.config, made.manifest, "fev1")
    probes.probe_by(text, made.features, splits, tmp_path / "by.json")
    result, table = read_probe(tmp_path / "by.json"), pd.read_csv(tmp_path / "by.csv")
    assert [(r["value"], r["test"]) for r in result["folds"]] == [("a", 10), ("b", 12)]
    assert "p00" not in set(table.subject)
    assert "1 subject(s) have no site and take no part" in result["note"]


def test_visits_that_changed_in_between_are_noticed(tmp_path):
    made = Made(tmp_path, scans_of_subject="first")
    text = settings_probes.probe(made.config, made.manifest, "fev1")
    write(made.scans, [row | {"visit": "1"} for row in rows_of()])
    with pytest.raises(ManifestError, match="changed since the workflow was started"):
        probes.probe(text, made.features, [made.splits], tmp_path / "a.json", tmp_path / "b.json")


def test_settings_of_what_was_trained_do_not_change_by_defaults_or_by_how_it_is_probed(tmp_path):
    run = {"name": "tiny", "method": "moco-v2"}
    texts = []
    for number, (more, evaluation) in enumerate(
        [
            ({}, {}),
            ({"pretrained_on": "all"}, {"repeats": 5, "leave_out": "site", "scans_of_subject": "mean"}),
            ({"pretrained_on": "folds"}, {}),
            ({"pretrained_on": "folds"}, {"folds": 4}),
        ]
    ):
        (tmp_path / str(number)).mkdir()
        made = Made(tmp_path / str(number), **evaluation)
        overlay = tmp_path / f"{number}.yaml"
        study = {"manifest": str(made.scans), "runs": [run | more], "evaluation": EVALUATION | evaluation}
        overlay.write_text(yaml.safe_dump(study))
        texts.append(settings.pretrain(config.read(overlay), made.manifest, "tiny"))
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3
    assert not any("pretrained_on" in text for text in texts), "all is what was always meant"


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({"rare": "merge", "ordered": True}, {"ordered": True}),
        ({"rare": "merge"}, {}),
        ({"rare": "drop", "ordered": True}, {}),  # networks see no order: they are not trained anew for it
        ({"ordered": True}, {}),
    ],
)
def test_a_training_knows_the_order_of_classes_where_rare_ones_are_merged(tmp_path, more, asked):
    made = Made(tmp_path)
    words = {"0": "light", "1": "middle", "9": "severe"}
    write(made.scans, [row | {"grade": words[row["grade"]]} for row in rows_of()])
    target = {"name": "grade", "column": "grade", "task": "classify"} | more
    overlay = tmp_path / "trained.yaml"
    study = {"manifest": str(made.scans), "runs": [{"name": "cnn", "method": "cnn-3d"}]}
    overlay.write_text(yaml.safe_dump(study | {"evaluation": {"folds": 3, "targets": [target]}}))
    text = settings.fold(config.read(overlay), made.manifest, "cnn", "grade")
    said = settings.parse("fold", text)
    assert {k: v for k, v in said["target"].items() if k == "ordered"} == asked
    if asked:
        known = Target(**said["target"])
        cases = Cases(pd.read_parquet(made.features), read_labels(made.manifest.column("grade"), known))
        assert set(probes.chosen_cases(said, made.manifest, cases, known).labels) == {"light", "middle"}


def members(folder, *parts):
    paths = []
    for number, subjects in enumerate(parts):
        paths.append(folder / f"{number}.csv")
        write(paths[-1], [{"scan": f"scan-{s}", "subject": s} for s in subjects])
    return paths


def test_a_network_that_has_seen_its_test_subjects_is_refused(tmp_path):
    folds = {"a": 0, "b": 0, "c": 1, "d": 1, "new": 1}
    now = {f"scan-{s}": s for s in folds}
    probes.check_unseen(members(tmp_path, "cd", "ab"), folds, now)
    with pytest.raises(CohortError, match=r"fold 1 was trained on subjects .*: c\n") as fault:
        probes.check_unseen(members(tmp_path, "cd", "abc"), folds, now)
    assert "ctssl refresh" in fault.value.advice
    with pytest.raises(CohortError, match="or in none: z"):
        probes.check_unseen(members(tmp_path, "cdz", "ab"), folds, now)


def test_a_scan_that_was_trained_on_under_another_subject_is_refused(tmp_path):
    """Network 0 learnt from a scan of c, fold 1, which is one of a by now, whom fold 0 tests."""
    folds, now = {"a": 0, "b": 0, "c": 1, "d": 1}, {"scan-c": "a", "scan-d": "d"}
    with pytest.raises(CohortError, match=r"fold 0 was trained on subjects .*: a\n") as fault:
        probes.check_unseen(members(tmp_path, "cd", "ab"), folds, now)
    assert "ctssl refresh" in fault.value.advice
    probes.check_unseen(members(tmp_path, "cd", "ab"), folds, now | {"scan-c": "d"})
    probes.check_unseen(members(tmp_path, "cd", "ab"), folds, {})  # scans that are left out by now


def test_a_probe_inside_looks_whose_scans_are_now(tmp_path):
    made = Made(tmp_path)
    folds, rows = read_splits(made.splits), rows_of()
    paths = []
    for fold in range(3):
        paths.append(tmp_path / f"members{fold}.csv")
        seen = [row for row in rows if folds[row["subject"]] != fold]
        write(paths[-1], [{"scan": row["scan"], "subject": row["subject"]} for row in seen])

    def probe():
        text = settings_probes.probe_inside(made.config, made.manifest, "fev1")
        probes.probe_inside(text, [made.features] * 3, paths, made.splits, tmp_path / "inside.json")

    probe()
    table = pd.read_parquet(made.features)
    tested = next(s for s, fold in folds.items() if fold == 0)
    moved = next(row["scan"] for row in rows if folds[row["subject"]] != 0)
    table.assign(subject=table.subject.where(table.scan != moved, tested)).to_parquet(made.features)
    with pytest.raises(CohortError, match=rf"fold 0 .*: {tested}\n"):
        probe()
    table[table.scan != moved].to_parquet(made.features)
    probe()
    write(made.scans, [row | {"subject": tested} if row["scan"] == moved else row for row in rows])
    with pytest.raises(CohortError, match=rf"fold 0 .*: {tested}\n"):  # left out, and learnt from
        probe()


def test_a_fold_trains_on_all_others_and_knows_everybody(tmp_path):
    splits = tmp_path / "splits.csv"
    write(splits, [{"subject": s, "fold": f} for s, f in {"a": 0, "b": 1, "gone": 0}.items()])
    rows = [{"scan": "1", "subject": "a"}, {"scan": "2", "subject": "b"}, {"scan": "3", "subject": "b"}]
    assert Fold(0, splits, tmp_path / "m.csv").train(rows) == rows[1:]
    with pytest.raises(CohortError, match="has no fold for x"):
        Fold(0, splits, tmp_path / "m.csv").train([{"scan": "4", "subject": "x"}])
