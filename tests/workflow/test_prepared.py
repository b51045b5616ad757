"""A study of stores that were made elsewhere: no image, no preparation."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from workflow.study import Study

from ctssl.jobs.status import Status
from ctssl.prepare.atlas import Atlas, write_card
from ctssl.store.layout import StoreArrays
from ctssl.store.writer import write_store

pytestmark = pytest.mark.xdist_group("workflow")

CONFIG = """
manifest: scans.csv
prepared: their stores
results: results
pretraining: {device: cpu, threads: 1}
runs:
  - name: tiny
    method: context-aware
    options: {epochs: 1, patch_batch: 4, graph_batch: 4, graph_steps: 1, bn_groups: 1, queue_size: 8}
evaluation:
  folds: 2
  targets:
    - {name: fev1pp, column: fev1pp, task: regress}
"""
FEATURES = "results/features/tiny_seed0_all.parquet"
PREPARATION = {"atlas", "volume", "register", "store"}
LANDMARKS = 6


def atlas(name: str = "theirs") -> Atlas:
    places = np.arange(LANDMARKS)[:, None] * np.array([30.0, 0, 0])
    near = np.stack([np.arange(LANDMARKS - 1), np.arange(1, LANDMARKS)], 1)
    return Atlas(name, "LPS", 1.0, 30.0, places, near)


def deliver(folder: Path, scan: str, number: int, chest: Atlas) -> None:
    """One scan's store, with a status as the store job writes it."""
    rng = np.random.default_rng(number)
    valid = np.ones(LANDMARKS, bool)
    valid[0] = number != 1
    patches = rng.normal(-850 + 40 * number, 60, (LANDMARKS, 32, 32, 32)).astype(np.int16)
    edges = chest.neighbours[valid[chest.neighbours].all(1)]
    path = folder / "stores" / scan
    path.mkdir(parents=True)
    arrays = StoreArrays(patches, valid, chest.landmarks_mm, valid.astype(np.float32), edges)
    measures = {"laa_950_percent": 3.0 * number}
    about = {"scan": scan, "atlas": chest.id, "spacing_mm": 1.0, "axes": "LPS", "measures": measures}
    card = write_store(path, arrays, about)
    Status(scan, True, "store", numbers={"digest": card["digest"], **measures}).write(path)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Four stores, an atlas, a table without images, run once. Never change it: copy it."""
    study = Study(Path(tmp_path_factory.mktemp("prepared")) / "study")
    for number in range(4):
        deliver(study.folder / "their stores", f"s{number}", number, atlas())
    write_card(study.folder / "their stores/atlas", atlas(), {"source": "theirs"})
    study.write_rows([{"scan": f"s{n}", "subject": f"p{n}", "fev1pp": f"{90 - 9 * n}"} for n in range(4)])
    (study.folder / "study.yaml").write_text(CONFIG)
    study.snakemake()
    return study


@pytest.fixture
def study(delivered: Study, tmp_path: Path) -> Study:
    return delivered.copy(tmp_path / "study")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def add_row(study: Study, scan: str) -> None:
    study.write_rows([*study.rows(), {"scan": scan, "subject": scan, "fev1pp": "70"}])


def test_stores_alone_give_all_products(delivered):
    assert len(pd.read_parquet(delivered.results / "features/tiny_seed0_all.parquet")) == 4
    assert (delivered.results / "tables/probes.md").stat().st_size > 0
    laa = pd.read_parquet(delivered.results / "features/laa-950_seed0_all.parquet")
    assert laa["f000"].tolist() == [0, 3, 6, 9]
    assert (delivered.results / "failures.csv").read_text() == "scan,subject,stage,reason,advice\n"
    assert not {"atlas", "stores", "volumes"} & {path.name for path in delivered.results.iterdir()}
    assert delivered.plan() == {}


def test_quality_holds_what_the_stores_say_and_nothing_that_nobody_measured(delivered):
    rows = table(delivered.results / "quality/quality.csv")
    assert [row["valid"] for row in rows] == ["6", "5", "6", "6"]
    assert [row["edges"] for row in rows] == ["5", "4", "5", "5"]
    assert [row["verdict"] for row in rows] == ["pass", "warn", "pass", "pass"]
    assert rows[1]["reasons"] == "share of valid landmarks 0.8333 is below 0.95 (warn_valid_fraction)"
    assert {row["dice_right"] for row in rows} == {""}


def test_the_contact_sheet_shows_no_picture_that_is_not_there(delivered):
    page = (delivered.results / "quality/index.html").read_text()
    assert page.count("<article") == 4
    assert "<img" not in page


def test_nothing_is_written_into_the_prepared_folder(delivered):
    files = {path.name for path in (delivered.folder / "their stores").rglob("*") if path.is_file()}
    assert files <= {"atlas.json", "status.json", "store.json", "zarr.json", "0"}


def test_show_names_the_prepared_stores(delivered):
    assert str(delivered.folder / "their stores/stores") in delivered.ctssl("show").stdout


def test_a_row_without_a_store_is_excluded_until_it_comes(study):
    add_row(study, "late")
    before = study.values()["runs/tiny/seed0/all/model.safetensors"]
    said = study.snakemake(FEATURES)
    assert "1 of 5 scans excluded, see results/failures.csv" in said
    [lost] = study.failures()
    assert (lost["scan"], lost["stage"]) == ("late", "store")
    assert "stores/late does not exist" in lost["reason"]
    assert "put the whole store into place" in lost["advice"]
    assert len(pd.read_parquet(study.results / "features/tiny_seed0_all.parquet")) == 4

    status = study.ctssl("status")
    assert status.returncode == 3
    assert "4 of 5 scans are ready" in status.stdout
    assert "late: excluded at store" in status.stdout
    retry = study.ctssl("retry")
    assert retry.returncode == 2
    assert "nothing to clear" in retry.stderr

    deliver(study.folder / "their stores", "late", 7, atlas())
    plan = study.plan()
    assert plan["cohort"] == 1
    assert not (PREPARATION | {"pretrain"}) & set(plan)
    study.snakemake(FEATURES)
    assert study.failures() == []
    assert len(pd.read_parquet(study.results / "features/tiny_seed0_all.parquet")) == 5
    assert study.values()["runs/tiny/seed0/all/model.safetensors"] == before


def test_every_kind_of_unusable_store_is_excluded(study):
    stores = study.folder / "their stores/stores"
    (stores / "s0/store.json").unlink()
    shutil.rmtree(stores / "s1/store.zarr/valid")
    Status("s2", False, "register", "the lungs do not fit", "look at it").write(stores / "s2")
    shutil.copytree(stores / "s3", stores / "twin")
    deliver(study.folder / "their stores", "strange", 5, atlas("other"))
    for scan in ("twin", "strange"):
        add_row(study, scan)
    study.snakemake("results/failures.csv")
    lost = {row["scan"]: (row["stage"], row["reason"]) for row in study.failures()}
    assert lost.keys() == {"s0", "s1", "s2", "twin", "strange"}
    assert "no complete store" in lost["s0"][1]
    assert "valid cannot be opened" in lost["s1"][1]
    assert lost["s2"] == ("register", "the lungs do not fit")
    assert "holds the store of scan s3" in lost["twin"][1]
    assert "atlas other, not theirs" in lost["strange"][1]


def test_a_row_can_be_left_out(study):
    rows = [row | {"exclude": "", "exclude_reason": ""} for row in study.rows()]
    study.write_rows([rows[0] | {"exclude": "yes", "exclude_reason": "coughed"}, *rows[1:]])
    study.snakemake("results/failures.csv")
    assert [(row["scan"], "coughed" in row["reason"]) for row in study.failures()] == [("s0", True)]


def test_stores_of_another_atlas_are_refused_with_both_ids(study):
    write_card(study.folder / "their stores/atlas", atlas("mine"), {"source": "mine"})
    assert study.plan()["pretrain"] == 1, "another atlas is another pretraining"
    study.snakemake(ok=False)
    said = (study.results / "logs/cohort.log").read_text()
    assert "are of atlas theirs, but atlas/ is atlas mine" in said
    assert "Traceback" not in said


def test_a_copy_with_other_times_reruns_no_training(study):
    (study.folder / "their stores").rename(study.folder / "original")
    shutil.copytree(study.folder / "original", study.folder / "their stores", copy_function=shutil.copy)
    assert not {"pretrain", *PREPARATION} & set(study.plan())


def test_a_study_that_moved_as_a_whole_finds_its_stores(study):
    [first, *_] = table(study.results / "scans.csv")
    assert (study.results / first["path"]).resolve() == study.folder / "their stores/stores/s0"


def test_results_may_be_a_link_to_another_disk(study):
    disk = study.folder.parent / "disk/deep/er"
    disk.mkdir(parents=True)
    shutil.rmtree(study.results)
    study.results.symlink_to(disk)
    study.snakemake("results/runs/tiny/seed0/all/model.safetensors")
    [first, *_] = table(disk / "scans.csv")
    assert (disk / first["path"]).resolve() == study.folder / "their stores/stores/s0"


def test_stores_with_another_number_of_landmarks_are_excluded(study):
    card = study.folder / "their stores/atlas/atlas.json"
    values = json.loads(card.read_text())
    for key in ("landmarks_mm", "neighbours"):
        values[key] = values[key][:-1]
    card.write_text(json.dumps(values))
    (study.results / "failures.csv").unlink()
    study.snakemake("results/failures.csv")
    assert {row["scan"] for row in study.failures()} >= {"s0", "s1"}
    assert all("has 6 landmarks, not 5" in row["reason"] for row in study.failures())


def test_a_damaged_patch_is_an_error_that_names_the_way_out(study):
    [shard] = [
        p for p in (study.folder / "their stores/stores/s2/store.zarr/patches/c").rglob("*") if p.is_file()
    ]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    shutil.rmtree(study.results / "runs")
    study.snakemake("results/runs/tiny/seed0/all/model.safetensors", ok=False)
    said = (study.results / "logs/pretrain/tiny_seed0_all.log").read_text()
    assert re.search(r"the patch of landmark \d of scan s2 is missing or damaged", said)


@pytest.mark.parametrize("card", [None, "{", json.dumps({"axes": "LPS"})])
def test_a_folder_without_an_atlas_is_one_message_before_anything_starts(study, card):
    path = study.folder / "their stores/atlas/atlas.json"
    path.unlink()
    if card is not None:
        path.write_text(card)
    said = study.snakemake("--dry-run", ok=False)
    assert "the prepared folder their stores should hold atlas/atlas.json" in said
    assert "Traceback" not in said


def test_results_with_stores_of_their_own_are_refused(study):
    (study.results / "stores").mkdir()
    said = study.snakemake("--dry-run", ok=False)
    assert "results holds stores of its own" in said
    assert "name another `results` folder" in said


def test_without_prepared_stores_an_image_is_needed(study):
    study.change("prepared: their stores\n", "")
    assert "the column 'image' is missing" in study.snakemake("--dry-run", ok=False)
