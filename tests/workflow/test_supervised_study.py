"""A study of a network that is trained on labels inside the folds, and of nothing else."""

import json
from pathlib import Path

import pandas as pd
import pytest
from train import lungs
from workflow.study import Study
from workflow.test_prepared import CONFIG, atlas, deliver

from ctssl.jobs.status import Status
from ctssl.prepare.atlas import write_card

pytestmark = [pytest.mark.xdist_group("workflow"), pytest.mark.slow]

RUN = """
  - name: cnn
    label: 3-D CNN
    method: cnn-3d
    options: {volume_voxels: 16, field_mm: 60, feature_size: 8, volume_batch: 4, epochs: 3}
"""
TARGET = "    - {name: severe, column: severe, task: classify}\n"
SCANS = 12
CLASSES = ("no", "=yes")
NEVER = {"fold", "fold_settings", "pretrain", "run_settings"}


def deliver_all(study: Study, scan: str, number: int) -> None:
    theirs = study.folder / "their stores"
    deliver(theirs, scan, number, atlas())
    lungs.write(theirs / "boxes", scan, number, atlas())
    Status(scan, True, "box").write(theirs / "boxes" / scan)


def row(scan: str, number: int, **labels: str) -> dict[str, str]:
    made = {"fev1pp": f"{90 - 5 * number}", "severe": CLASSES[number % 2]} | labels
    return {"scan": scan, "subject": f"p{number // 2 if number < 2 else number}", **made}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Twelve labelled scans of eleven people, run once. Never change it: copy it."""
    study = Study(Path(tmp_path_factory.mktemp("supervised")) / "study")
    for number in range(SCANS):
        deliver_all(study, f"s{number}", number)
    write_card(study.folder / "their stores/atlas", atlas(), {"source": "theirs"})
    study.write_rows([row(f"s{n}", n) for n in range(SCANS)])
    head, runs, rest = CONFIG.partition("runs:\n")
    _, _, after = rest.partition("\nevaluation:")
    (study.folder / "study.yaml").write_text(f"{head}{runs}{RUN}\nevaluation:{after}{TARGET}")
    study.snakemake()
    return study


@pytest.fixture
def study(trained: Study, tmp_path: Path) -> Study:
    return trained.copy(tmp_path / "study")


def folder(study: Study, fold: int, target: str) -> Path:
    return study.results / f"runs/cnn/seed0/split0-fold{fold}/{target}"


def weights(study: Study) -> dict[str, bytes]:
    return {
        str(path.relative_to(study.results)): path.read_bytes()
        for path in study.results.glob("runs/cnn/**/model.safetensors")
    }


def probe(study: Study, target: str) -> tuple[dict, pd.DataFrame]:
    path = study.results / f"probes/cnn_seed0_folds/{target}.json"
    return json.loads(path.read_text()), pd.read_csv(path.with_suffix(".csv"))


def test_there_are_rows_and_no_features(trained):
    assert trained.plan() == {}
    assert [path.name for path in (trained.results / "features").iterdir()] == ["laa-950_seed0_all.parquet"]
    assert [path.name for path in (trained.results / "predictions").iterdir()] == ["laa-950_seed0_all"]
    assert not (trained.results / "figures").exists(), "there is no map without features"
    table = pd.read_csv(trained.results / "tables/probes.csv")
    ours = table[table.row == "3-D CNN"]
    assert set(ours.metric) >= {"r2", "mae", "accuracy", "auroc"}
    assert ours.note.str.startswith("no frozen features: a network was trained on the labels").all()
    page = (trained.results / "tables/probes.md").read_text()
    assert "| 3-D CNN |" in page
    assert "a network was trained on the labels" in page


@pytest.mark.parametrize(
    "wanted",
    ["features/cnn_seed0_all.parquet", "runs/cnn/seed0/all/model.safetensors", "runs/cnn/settings.json"],
)
def test_nothing_makes_features_of_such_a_run(trained, wanted):
    said = trained.snakemake(f"results/{wanted}", "--dry-run", ok=False)
    assert "MissingRuleException" in said
    assert "Error in" not in said


def test_a_new_scan_without_a_label_trains_nothing(study):
    before = weights(study)
    deliver_all(study, "new", 20)
    study.write_rows([*study.rows(), row("new", 20, fev1pp="", severe="na")])
    plan = study.plan()
    assert plan["join"] == 2
    assert not NEVER & set(plan)
    study.snakemake("results/tables/probes.md")
    assert weights(study) == before
    assert probe(study, "fev1pp")[0]["n"] == SCANS
    assert not NEVER & set(study.plan())


def test_a_new_label_or_another_one_trains_anew_and_only_what_it_concerns(study):
    deliver_all(study, "new", 20)
    study.write_rows([*study.rows(), row("new", 20, severe="")])
    plan = study.plan()
    assert (plan["fold"], plan["fold_settings"], plan["join"]) == (2, 1, 2)
    rows = study.rows()
    study.write_rows([rows[0] | {"severe": "=yes"}, *rows[1:]])
    assert study.plan()["fold"] == 4
    study.snakemake()
    result, table = probe(study, "fev1pp")
    assert "new" in set(table.scan)
    assert result["n"] == SCANS + 1
    assert study.plan() == {}


def test_an_option_that_comes_with_a_new_scan_is_noticed(study):
    deliver_all(study, "new", 20)
    study.write_rows([*study.rows(), row("new", 20, fev1pp="", severe="")])
    study.change("epochs: 3", "epochs: 2")
    assert study.plan()["fold"] == 4


def test_a_run_may_name_its_targets(study):
    study.change("    method: cnn-3d", "    method: cnn-3d\n    targets: [severe]")
    assert study.plan() == {"pairs": 1, "tables": 1}
    study.snakemake()
    assert "| not asked |" in (study.results / "tables/probes.md").read_text()
    study.change("targets: [severe]", "targets: [severe, fev1pp]")
    assert study.plan() == {"pairs": 1, "tables": 1}
