"""A study with a method that takes boxes of whole lungs, beside one that takes patches."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from train import lungs
from workflow.study import Study
from workflow.test_prepared import CONFIG, atlas, deliver

from ctssl.jobs.status import Status
from ctssl.prepare.atlas import write_card

pytestmark = pytest.mark.xdist_group("workflow")

FAULTS = Path(__file__).parents[1] / "faults"
RUN = """
  - name: boxed
    method: moco-v2
    options: {volume_voxels: 16, field_mm: 60, volume_batch: 4, bn_groups: 1, epochs: 1, queue_size: 5}
"""


def deliver_box(boxes: Path, scan: str, number: int) -> None:
    """One scan's box, with a status as the box job writes it."""
    lungs.write(boxes, scan, number, atlas())
    Status(scan, True, "box").write(boxes / scan)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Five stores and boxes, and what a run on patches made of them."""
    study = Study(Path(tmp_path_factory.mktemp("boxed")) / "study")
    theirs = study.folder / "their stores"
    for number in range(5):
        deliver(theirs, f"s{number}", number, atlas())
        deliver_box(theirs / "boxes", f"s{number}", number)
    write_card(theirs / "atlas", atlas(), {"source": "theirs"})
    study.write_rows([{"scan": f"s{n}", "subject": f"p{n}", "fev1pp": f"{90 - 9 * n}"} for n in range(5)])
    (study.folder / "study.yaml").write_text(CONFIG)
    study.snakemake()
    return study


@pytest.mark.slow
def test_from_images_a_crash_of_one_box_leaves_that_scan_out_until_it_is_tried_again(finished, tmp_path):
    study = finished.copy(tmp_path / "study")
    before = study.values()
    study.change("evaluation:", f"{RUN.strip(chr(10))}\nevaluation:")
    rows = study.rows()
    study.write_rows([*rows, rows[0] | {"scan": "crash-box", "subject": "new", "fev1pp": "", "severe": ""}])
    plan = study.plan()
    assert [plan[rule] for rule in ("volume", "register", "store", "box", "pretrain")] == [1, 1, 1, 5, 1]
    assert "1 of 5 scans excluded" in study.snakemake(python_path=FAULTS)
    [lost] = study.failures()
    assert (lost["scan"], lost["stage"]) == ("crash-box", "box")
    assert lost["reason"] == "the computation crashed (SIGSEGV)"
    log = (study.results / "logs/box/crash-box.log").read_text()
    assert log.count("---- attempt 2 ----\n") == 1
    for row in ("tiny", "boxed"):
        assert len(pd.read_parquet(study.results / f"features/{row}_seed0_all.parquet")) == 4
    after = study.values()
    old = [name for name in before if name.startswith(("stores/", "registration/", "volumes/", "runs/"))]
    assert {name: before[name] for name in old} == {name: after[name] for name in old}
    assert study.plan() == {}
    assert "crash-box: excluded at box" in study.ctssl("status").stdout

    assert study.ctssl("retry", "crash-box").returncode == 0
    plan = study.plan()
    assert [plan[rule] for rule in ("volume", "register", "store", "box")] == [1, 1, 1, 1]
    assert "pretrain" not in plan
    study.snakemake()
    assert study.failures() == []
    again = study.values()
    kept = [name for name in after if name.startswith(("stores/", "runs/")) and "crash" not in name]
    assert {name: after[name] for name in kept} == {name: again[name] for name in kept}
    made = pd.read_csv(study.results / "predictions/boxed_seed0_all/fev1pp.csv")
    assert (made.scan.tolist(), made.n.tolist()) == (["crash-box"], [4])
    assert made.prediction.notna().all()


@pytest.mark.slow
def test_a_run_on_boxes_is_added_and_a_replaced_box_is_noticed(study):
    config = study.folder / "study.yaml"
    head, runs, rest = CONFIG.partition("runs:\n")
    first, _, after = rest.partition("\nevaluation:")
    config.write_text(f"{head}{runs}{first.rstrip()}{RUN}\nevaluation:{after}")
    plan = study.plan()
    assert plan["pretrain"] == plan["cohort"] == 1, "the cohort knows which boxes there are"
    assert "store" not in plan

    theirs = study.folder / "their stores/boxes"
    away = theirs.rename(study.folder / "away")
    assert "has no folder boxes/" in study.snakemake("--dry-run", ok=False)
    away.rename(theirs)
    shutil.move(theirs / "s3", study.folder / "away")
    study.snakemake(ok=False)
    log = (study.results / "logs/pretrain/boxed_seed0_all.log").read_text()
    assert "the box of scan s3 is not there" in log
    shutil.move(study.folder / "away", theirs / "s3")

    study.snakemake()
    assert study.plan() == {}
    table = pd.read_parquet(study.results / "features/boxed_seed0_all.parquet")
    assert table.scan.tolist() == [f"s{n}" for n in range(5)]
    assert table.shape[1] == 2 + 128

    weights = study.values()["runs/boxed/seed0/all/model.safetensors"]
    shutil.rmtree(theirs / "s3")
    deliver_box(theirs, "s3", 7)
    plan = study.plan()
    assert plan["cohort"] == 1
    assert "pretrain" not in plan
    study.snakemake()
    after = pd.read_parquet(study.results / "features/boxed_seed0_all.parquet")
    same = (after.iloc[:, 2:] == table.iloc[:, 2:]).all(axis=1)
    assert same.tolist() == [True, True, True, False, True]
    assert study.values()["runs/boxed/seed0/all/model.safetensors"] == weights
    assert study.plan() == {}
