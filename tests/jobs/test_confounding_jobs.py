"""The jobs about confounders and those that write tables, one after the other, on features made by hand."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from ctssl import config, confounders, settings_tables
from ctssl.errors import CtsslError, ManifestError, WeightsError
from ctssl.evaluate.features import write_table
from ctssl.evaluate.probes import read_probe
from ctssl.jobs import confounding, tables
from ctssl.jobs.rows import read_rows
from ctssl.jobs.status import Status
from ctssl.manifest import read_manifest

SCANS = 36
KERNELS = ("B30f", "B70f", "B30f")
CONFIG = {
    "cohort": "Ours",
    "baselines": [],
    "runs": [
        {"name": "given", "method": "context-aware", "weights": "PLACE/given.safetensors"},
        {"name": "own", "label": "Own", "method": "context-aware"},
    ],
    "evaluation": {
        "folds": 3,
        "confounders": ["site", "kernel", "slice_mm", {"name": "blood", "column": "B (g/dl)"}, "scanner"],
        "published": "copdgene",
        "targets": [
            {"name": "fev1pp", "column": "fev1", "task": "regress"},
            {"name": "gold", "column": "gold", "task": "classify"},
        ],
    },
}


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study whose features know kernel and spacing, which the files of the scans say, and nothing else."""
    folder = tmp_path_factory.mktemp("confounded")
    results = folder / "results"
    (results / "features").mkdir(parents=True)
    rng, rows, table, made = np.random.default_rng(0), [], [], []
    for n in range(SCANS):
        scan, kernel, spacing = f"s{n:02}", KERNELS[n % 3], 0.6 + 0.11 * (n % 12)
        about = {"format": "dicom", "kernel": kernel} if n else {"format": "nifti"}
        numbers = {"native_spacing_mm": [0.5, 0.5, spacing + 1e-5 * n], "about": about}
        (results / "volumes" / scan).mkdir(parents=True)
        Status(scan, True, "volume", numbers=numbers).write(results / "volumes" / scan)
        site = "AB"[int(rng.integers(2))]
        rows.append(
            {"scan": scan, "subject": f"p{n}", "image": "x.nii", "site": site, "B (g/dl)": rng.normal(14, 1)}
            | {"fev1": 60 + 30 * (kernel == "B30f") + rng.normal(), "gold": int(site == "B")}
        )
        table.append({"scan": scan, "subject": f"p{n}", "store": "x", "path": "x"})
        features = [5 * (kernel == "B70f"), 9 * spacing, *rng.normal(size=3)]
        made.append((scan, f"p{n}", np.array(features)))
    write(folder / "scans.csv", [*rows, rows[0] | {"scan": "lost", "subject": "lost"}])
    write(results / "scans.csv", table)
    write(results / "folds.csv", [{"subject": f"p{n}", "fold": n // 3 % 3} for n in range(SCANS)])
    write_table(results / "features/own_seed0_all.parquet", made)
    text = yaml.safe_dump(CONFIG | {"manifest": str(folder / "scans.csv")}).replace("PLACE", str(folder))
    (folder / "study.yaml").write_text(text)
    chosen = config.read(folder / "study.yaml")
    return SimpleNamespace(
        folder=folder, results=results, config=chosen, manifest=read_manifest(chosen.manifest)
    )


def about(study, name):
    """What the features say of a confounder."""
    out = study.results / "confounding/own_seed0_all" / f"{name}.json"
    text = settings_tables.confounder(study.config, study.manifest, name)
    scans, folds = study.results / "scans.csv", [study.results / "folds.csv"]
    confounding.confounder(text, study.results / "features/own_seed0_all.parquet", folds, scans, out)
    return read_probe(out)


def alone(study, name, target):
    """What a confounder alone says of a target."""
    out = study.results / "confounding/alone" / name / f"{target}.json"
    text = settings_tables.alone(study.config, study.manifest, name, target)
    confounding.alone(text, [study.results / "folds.csv"], study.results / "scans.csv", out)
    return read_probe(out)


def value(result, metric):
    return result["metrics"][metric]["value"]


def test_features_are_asked_for_what_the_files_of_scans_say(study):
    found = about(study, "kernel")
    assert (found["n"], found["task"]) == (SCANS - 1, "classify")  # the first is no DICOM
    assert found["classes"] == {"B30f": 23, "B70f": 12}
    assert value(found, "accuracy") > 0.95
    spacing = about(study, "slice_mm".replace("_", "-"))
    assert (spacing["n"], spacing["task"]) == (SCANS, "regress")  # 12 spacings, apart by more than rounding
    assert value(spacing, "r2") > 0.9


def test_features_are_asked_for_columns_of_the_manifest(study):
    found = about(study, "site")
    assert (found["target"], found["n"], sum(found["classes"].values())) == ("site", SCANS, SCANS)
    assert value(found, "accuracy") < 0.75
    assert about(study, "blood")["task"] == "regress"


def test_a_task_of_the_config_and_one_spelling_of_a_number_reach_the_job(study):
    names = ["1.5", "1.50", "2"]
    rows = [row | {"dose": names[i % 3]} for i, row in enumerate(read_rows(study.folder / "scans.csv"))]
    write(study.folder / "doses.csv", rows)
    for task, expected in ((None, "classify"), ("classify", "classify"), ("regress", "regress")):
        asked = [{"column": "dose", "task": task}]
        overlay = {"manifest": str(study.folder / "doses.csv"), "evaluation": {"confounders": asked}}
        chosen = overlaid(study, overlay)
        dosed = SimpleNamespace(
            **vars(study) | {"config": chosen, "manifest": read_manifest(chosen.manifest)}
        )
        found = about(dosed, "dose")
        assert found["task"] == expected
        if expected == "classify":
            assert found["classes"] == {"1.5": 24, "2": 12}
            assert "kappa" not in found["metrics"]


def test_what_nobody_measured_is_said(study):
    found = about(study, "scanner")
    assert found["metrics"] is None
    assert "fewer than 2 folds with labelled scans" in found["note"]


def test_a_confounder_alone_predicts_what_hangs_on_it(study):
    assert value(alone(study, "kernel", "fev1pp"), "r2") > 0.95
    assert value(alone(study, "site", "gold"), "accuracy") == 1
    assert value(alone(study, "kernel", "gold"), "accuracy") < 0.8
    assert value(alone(study, "blood", "fev1pp"), "r2") < 0.2
    assert alone(study, "scanner", "gold")["metrics"] is None
    assert "1 labelled scan(s) have no features" in alone(study, "site", "gold")["note"]  # the excluded one


def test_changed_values_stop_the_job(study):
    folds, scans, out = [study.results / "folds.csv"], study.results / "scans.csv", study.folder / "none.json"
    features = study.results / "features/own_seed0_all.parquet"
    text = changed(settings_tables.confounder(study.config, study.manifest, "site"))
    with pytest.raises(ManifestError, match="changed since"):
        confounding.confounder(text, features, folds, scans, out)
    text = changed(settings_tables.alone(study.config, study.manifest, "site", "gold"))
    with pytest.raises(ManifestError, match="changed since"):
        confounding.alone(text, folds, scans, out)


def changed(text):
    return json.dumps(json.loads(text) | {"values": "0"}, sort_keys=True)


def test_the_page_of_confounding_holds_every_row_and_column(study):
    names = [chosen.name for chosen in study.config.evaluation.confounders]
    targets = [target.name for target in study.config.evaluation.targets]
    for name in names:
        about(study, name)
        for target in targets:
            alone(study, name, target)
    own = study.config.model_copy(update={"runs": study.config.runs[1:]})
    paths = [study.results / f"confounding/own_seed0_all/{name}.json" for name in names]
    paths += [study.results / f"confounding/alone/{name}/{t}.json" for name in names for t in targets]
    out = [study.results / "tables" / f"confounding.{kind}" for kind in ("csv", "md")]
    tables.confounding(settings_tables.confounding(own), paths, *out)
    table = pd.read_csv(out[0])
    assert set(table.row) == {
        "Own",
        *(f"{c} alone" for c in ("site", "kernel", "slice_mm", "B (g/dl)", "scanner")),
    }
    page = out[1].read_text()
    heads = [line for line in page.splitlines() if line.startswith(("| method", "| features"))]
    assert [head.count("|") - 2 for head in heads] == [5, 2]
    assert "fev1pp: R² (n = " in heads[1]


def test_a_study_without_rows_of_features_asks_the_second_question_alone(study):
    inside = [{"name": "inner", "method": "context-aware", "pretrained_on": "folds"}]
    none = overlaid(study, {"runs": inside, "evaluation": {"confounders": ["site"]}})
    targets = [target.name for target in none.evaluation.targets]
    for target in targets:
        alone(study, "site", target)
    paths = [study.results / f"confounding/alone/site/{target}.json" for target in targets]
    out = [study.folder / f"few.{kind}" for kind in ("csv", "md")]
    tables.confounding(settings_tables.confounding(none), paths, *out)
    assert set(pd.read_csv(out[0]).row) == {"site alone"}
    page = out[1].read_text()
    assert "No row of this study has one table of features of all scans" in page
    assert [line for line in page.splitlines() if line.startswith("| method")] == []
    assert "- all rows: 1 labelled scan(s) have no features." in page


def tabled(study, name, card, asked=None):
    """The file of a table, of results of two rows, one of which was given weights with such a card."""
    if card is not None:
        (study.folder / "given.json").write_text(json.dumps(card))
    paths = []
    for row in ("given_seed0_all", "own_seed0_all"):
        for target, metric in (("fev1pp", "r2"), ("gold", "accuracy")):
            path = study.results / "probes" / row / f"{target}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            values = {"value": 0.5, "low": 0.4, "high": 0.6, "fold_mean": 0.5, "fold_sd": 0.1}
            result = {"target": target, "task": "regress" if metric == "r2" else "classify", "n": 60}
            result |= {"subjects": 60, "classes": {"0": 30, "1": 30}, "majority": 0.5, "note": ""}
            balanced = {"balanced_accuracy": values} if metric == "accuracy" else {}
            path.write_text(json.dumps(result | {"metrics": {metric: values} | balanced, "folds": []}))
            paths.append(path)
    out = study.results / "tables"
    made = {"preparation": {"mask": {"method": "threshold"}}}
    if name == "paper":
        kinds = [out / f"paper.{kind}" for kind in ("csv", "md", "tex")]
        tables.paper(settings_tables.paper(study.config), paths, *kinds, made)
    else:
        kinds = [out / f"probes.{kind}" for kind in ("csv", "md")]
        tables.tables(settings_tables.tables(study.config), paths, *kinds, made, asked)
    return pd.read_csv(kinds[0]), kinds[1].read_text()


def test_tables_say_on_what_rows_were_pretrained(study):
    card = {"method": "context-aware", "cohort_name": "COPDGene", "preparation": {"mask": {}}}
    table, page = tabled(study, "tables", card)
    on = dict(zip(table.row, table.pretrained_on, strict=True))
    assert on == {"given": "COPDGene", "Own": "Ours (this cohort, transductive)"}
    assert "- given: COPDGene. The scans it learnt from were prepared otherwise than these: mask." in page
    assert "- Own: Ours (this cohort, transductive)." in page
    table, page = tabled(study, "paper", card)
    ours = table[table.source == "this study"]
    assert dict(zip(ours.row, ours.pretrained_on, strict=True)) == on
    assert ours.groupby("row").target.apply(list).to_dict() == {row: ["fev1pp", "gold"] for row in on}
    assert page.count("| published |") == 11


def test_the_job_of_tables_removes_a_page_that_nothing_brings_up_to_date(study):
    old = study.results / "tables/paper.md"
    for asked, stays in ((None, True), (["probes", "paper"], True), (["probes"], False)):
        old.parent.mkdir(exist_ok=True)
        old.write_text("old")
        tabled(study, "tables", {"method": "context-aware"}, asked)
        assert old.exists() == stays


def test_weights_of_the_same_cohort_are_transductive(study):
    table, _ = tabled(study, "tables", {"method": "context-aware", "cohort_name": "ours"})
    assert set(table.pretrained_on) == {
        "ours (this cohort, transductive)",
        "Ours (this cohort, transductive)",
    }


def test_a_card_that_is_not_there_is_named(study):
    (study.folder / "given.json").unlink(missing_ok=True)
    with pytest.raises(WeightsError, match=r"given\.json cannot be read"):
        tabled(study, "tables", None)


def test_a_confounder_that_is_no_column_is_named(study):
    for column, message in (
        ("sight", "no label column 'sight'.*site"),
        ("Kernel", "no label column 'Kernel'"),
    ):
        chosen = overlaid(study, {"evaluation": {"confounders": [column]}})
        with pytest.raises(ManifestError, match=message):
            confounders.check(chosen, study.manifest)
    confounders.check(study.config, study.manifest)
    prepared = overlaid(study, {"prepared": str(study.folder)})
    with pytest.raises(ManifestError, match="kernel is not a column"):
        confounders.check(prepared, study.manifest)


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ("mosmed", "no target has such a name; published are severity"),
        ("copdgene", "fev1pp has another task"),
    ],
)
def test_published_figures_need_targets_of_their_names(study, published, message):
    targets = [{"name": "fev1pp", "column": "fev1", "task": "classify"}]
    chosen = overlaid(study, {"evaluation": {"published": published, "targets": targets}})
    with pytest.raises(CtsslError, match=message):
        settings_tables.paper(chosen)


def overlaid(study, overlay):
    path = study.folder / "overlay.yaml"
    path.write_text(yaml.safe_dump(overlay))
    return config.read(study.folder / "study.yaml", path)
