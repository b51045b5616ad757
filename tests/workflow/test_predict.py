"""Predictions of scans without a label: no training for a new one, and a file that predicts elsewhere."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
from workflow.study import Study
from workflow.test_prepared import CONFIG as REGRESSED
from workflow.test_prepared import atlas, deliver

from ctssl.prepare.atlas import write_card

pytestmark = pytest.mark.xdist_group("workflow")

PLACE = "predictions/tiny_seed0_all"
LAA = "predictions/laa-950_seed0_all"
FILES = [f"results/{PLACE}/{target}.json" for target in ("fev1pp", "severe")]
CONFIG = f"{REGRESSED}    - {{name: severe, column: severe, task: classify}}\n"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Ten labelled scans, run once. Never change it: copy it."""
    study = Study(Path(tmp_path_factory.mktemp("predicted")) / "study")
    for number in range(10):
        deliver(study.folder / "their stores", f"s{number}", number, atlas())
    write_card(study.folder / "their stores/atlas", atlas(), {"source": "theirs"})
    rows = [(f"s{n}", f"p{n}", f"{90 - 9 * n}", ("no", "=yes")[n % 2]) for n in range(10)]
    study.write_rows([dict(zip(("scan", "subject", "fev1pp", "severe"), r, strict=True)) for r in rows])
    (study.folder / "study.yaml").write_text(CONFIG)
    study.snakemake()
    return study


@pytest.fixture
def study(labelled: Study, tmp_path: Path) -> Study:
    return labelled.copy(tmp_path / "study")


def predictions(study: Study, target: str, place: str = PLACE) -> list[dict[str, str]]:
    with (study.results / place / f"{target}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_with_all_labels_there_is_a_probe_and_nothing_to_predict(labelled):
    assert predictions(labelled, "fev1pp") == []
    card = json.loads((labelled.results / PLACE / "fev1pp.json").read_text())
    assert (card["n"], card["subjects"], card["note"]) == (10, 10, "")
    made = sorted(
        str(path.relative_to(labelled.results)) for path in labelled.results.glob("predictions/*/*")
    )
    kinds = [f"{target}.{kind}" for target in ("fev1pp", "severe") for kind in ("csv", "json")]
    assert made == [f"{place}/{kind}" for place in (LAA, PLACE) for kind in kinds]


def test_a_new_scan_without_labels_is_predicted_and_nothing_is_trained(study):
    weights = study.values()["runs/tiny/seed0/all/model.safetensors"]
    for number, scan in ((4, "new"), (60, "odd")):  # patches like those of s4; patches unlike all
        deliver(study.folder / "their stores", scan, number, atlas())
    empty = {"fev1pp": "", "severe": "na"}
    study.write_rows([*study.rows(), *({"scan": s, "subject": s, **empty} for s in ("new", "odd"))])
    plan = study.plan()
    assert plan["probe"] == 4  # of the run and of LAA-950
    assert set(plan) == {
        *("cohort", "enough", "features", "baseline", "splits"),
        *("probe", "pairs", "tables", "figures"),
    }
    study.snakemake(*FILES, f"results/{LAA}/fev1pp.json")
    assert study.values()["runs/tiny/seed0/all/model.safetensors"] == weights
    numbers, classes = predictions(study, "fev1pp"), predictions(study, "severe")
    for rows in (numbers, classes):
        assert [row["scan"] for row in rows] == ["new", "odd"]
        assert {(row["n"], row["subjects"]) for row in rows} == {("10", "10")}
    for row in numbers:
        assert float(row["low"]) <= float(row["prediction"]) <= float(row["high"])
    assert float(numbers[1]["distance"]) > 1.5 > float(numbers[0]["distance"])
    # Of LAA-950 the labelled scans have 0 to 27, the new ones 12 and 180.
    by_hand = predictions(study, "fev1pp", LAA)
    assert [row["far"] for row in by_hand] == ["no", "yes"]
    assert float(by_hand[1]["distance"]) > 5
    assert {row["prediction"] for row in classes} <= {"no", "'=yes"}, "no formula for a spreadsheet"
    assert float(classes[0]["score_no"]) + float(classes[0]["score_=yes"]) == pytest.approx(1)
    assert not {"pretrain", "features"} & set(study.plan())


def test_a_label_that_goes_away_or_comes_reruns_probes_and_predictions(study):
    rows = study.rows()
    study.write_rows([*rows[:3], rows[3] | {"fev1pp": ""}, *rows[4:]])
    assert study.plan() == {"probe": 2, "pairs": 1, "tables": 1, "figures": 1}
    study.snakemake(FILES[0])
    [row] = predictions(study, "fev1pp")
    assert (row["scan"], row["n"], row["low"], row["far"] in ("yes", "no")) == ("s3", "9", row["low"], True)
    assert row["low"] != ""
    assert predictions(study, "severe") == []


def test_a_target_of_which_nothing_is_known_stops_nothing(study):
    study.write_rows([row | {"severe": ""} for row in study.rows()])
    study.snakemake(FILES[1])
    rows = predictions(study, "severe")
    assert len(rows) == 10
    assert {row["prediction"] for row in rows} == {""}
    done = predict(study, "features/tiny_seed0_all.parquet", "severe.json")
    assert done.returncode == 2
    assert "column severe has no label of a scan with features" in done.stderr


def predict(study: Study, features: str, probe: str):
    return study.ctssl(
        "predict", f"results/{features}", "--probe", f"results/{PLACE}/{probe}", "--out", "out.csv"
    )


def test_the_file_predicts_elsewhere_what_the_workflow_would(study):
    done = predict(study, "features/tiny_seed0_all.parquet", "fev1pp.json")
    assert done.returncode == 0, done.stderr
    assert "fev1pp of 10 scans" in done.stdout
    elsewhere = pd.read_csv(study.folder / "out.csv")
    rows = study.rows()
    study.write_rows([rows[0] | {"fev1pp": ""}, *rows[1:]])
    study.snakemake(FILES[0])
    [left] = predictions(study, "fev1pp")
    assert elsewhere.scan.tolist() == [f"s{n}" for n in range(10)]
    assert float(left["prediction"]) != pytest.approx(elsewhere.prediction[0], rel=1e-6), "it saw that label"
    done = predict(study, "features/tiny_seed0_all.parquet", "fev1pp.json")
    again = pd.read_csv(study.folder / "out.csv")
    for name in ("prediction", "low", "high", "distance"):
        assert again[name][0] == pytest.approx(float(left[name]), rel=1e-9)


def test_features_of_other_weights_are_refused(study):
    table = pd.read_parquet(study.results / "features/tiny_seed0_all.parquet")
    assert len(table.attrs["made_by"]) == 64
    table.attrs["made_by"] = "f" * 64
    table.to_parquet(study.results / "features/other.parquet", index=False)
    done = predict(study, "features/other.parquet", "fev1pp.json")
    assert done.returncode == 2
    assert "but these are of ffff" in done.stderr
    table.attrs.clear()
    table.to_parquet(study.results / "features/other.parquet", index=False)
    done = predict(study, "features/other.parquet", "fev1pp.json")
    assert done.returncode == 0
    assert "the files do not say" in done.stderr


@pytest.mark.parametrize(
    ("features", "probe", "words"),
    [
        ("features/absent.parquet", "fev1pp.json", "absent.parquet"),
        ("predictions/tiny_seed0_all/fev1pp.csv", "fev1pp.json", "ctssl embed"),
        ("features/tiny_seed0_all.parquet", "absent.json", "holds no probe"),
        ("features/tiny_seed0_all.parquet", "fev1pp.csv", "holds no probe"),
        ("features/laa-950_seed0_all.parquet", "fev1pp.json", "takes 128 features, but the table has 1"),
    ],
)
def test_files_that_are_something_else_are_one_message(study, features, probe, words):
    done = predict(study, features, probe)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (study.folder / "out.csv").exists()
