"""Results that were damaged, or that somebody else made: the cohort goes on, nothing is taken for another."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from jobs.test_cohort_job import Cohort, finish
from safety import study
from safety.study import BAD, GOOD, atlas, change_json

from ctssl import settings
from ctssl.config.evaluation import Evaluation
from ctssl.errors import CohortError, ConfigError, StoreError
from ctssl.jobs import study as study_jobs
from ctssl.jobs import summary
from ctssl.jobs.rows import read_features, read_rows
from ctssl.prepare.atlas import read_atlas, write_card

ROOT = Path(__file__).parents[2]


@pytest.fixture
def made(tmp_path):
    cohort = Cohort(tmp_path)
    shutil.rmtree(cohort.results / "stores/unfit")
    for stage in summary.STAGES:
        shutil.rmtree(cohort.results / stage / "unfit", ignore_errors=True)
    finish(cohort.results, "unfit")
    return cohort


@pytest.mark.parametrize("stage", summary.STAGES)
@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", '{"dice_left": 3}', '{"scan": "good", "ok": 1, "stage": "x"}']
)
def test_a_damaged_status_excludes_its_scan_and_no_other(made, stage, text):
    path = made.results / stage / "good/status.json"
    path.unlink() if text is None else path.write_text(text)
    rows = made.run()
    assert (rows["good"]["verdict"], rows["good"]["excluded_at"]) == ("exclude", summary.STAGES[stage])
    assert f"{stage}/good/status.json cannot be used" in rows["good"]["reasons"]
    assert str(made.folder) not in rows["good"]["reasons"]
    assert rows["unfit"]["verdict"] == "pass"
    lost = {row["scan"]: row for row in read_rows(made.tables.failures)}
    assert "ctssl retry" in lost["good"]["advice"]
    assert [row["scan"] for row in read_rows(made.tables.scans)] == ["unfit"]


@pytest.mark.parametrize(
    "numbers", [{"dice_left": "0.9"}, {"cut": 3}, {"mask_doubts": "x"}, {"right_l": [1]}]
)
def test_numbers_of_the_wrong_kind_exclude_their_scan(made, numbers):
    path = made.results / "registration/good/status.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"numbers": values["numbers"] | numbers}))
    rows = made.run()
    assert (rows["good"]["excluded_at"], rows["unfit"]["excluded_at"]) == ("register", "")
    assert f"{next(iter(numbers))} should not be" in rows["good"]["reasons"]


def test_a_status_of_another_scan_is_not_taken(made):
    shutil.copy(made.results / "stores/unfit/status.json", made.results / "stores/good/status.json")
    assert "it is of scan 'unfit'" in made.run()["good"]["reasons"]


@pytest.fixture
def prepared(tmp_path):
    """A study of stores made elsewhere, after its cohort job."""
    study.make(tmp_path / "study")
    assert study.judged(tmp_path / "study") == ([GOOD, BAD], {})
    return tmp_path / "study"


def open_stores(folder: Path) -> list[str]:
    return [store.scan for store in study_jobs._stores(folder / "results/scans.csv", "theirs")[0]]


def test_the_stores_of_the_table_are_opened(prepared):
    assert open_stores(prepared) == [GOOD, BAD]


@pytest.mark.parametrize("place", ["relative", "absolute"])
def test_a_table_that_names_another_store_is_refused(prepared, place):
    table = prepared / "results/scans.csv"
    rows = read_rows(table)
    theirs = rows[1]["path"] if place == "relative" else str(prepared / "stores" / BAD)
    table.write_text(table.read_text().replace(rows[0]["path"], theirs))
    with pytest.raises(StoreError, match=f"is not the store of {GOOD}") as fault:
        open_stores(prepared)
    assert "delete that table" in fault.value.advice


def test_a_store_that_was_replaced_since_is_refused(prepared):
    study.deliver(prepared, BAD, seed=5)
    with pytest.raises(StoreError, match=f"is not the store of {BAD}"):
        open_stores(prepared)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"id": None}, "holds no atlas"),
        ({"id": 7}, "texts"),
        ({"landmarks_mm": []}, "two points or more"),
        ({"landmarks_mm": [[0, 0, 0], [0, 0]]}, "holds no atlas"),
        ({"landmarks_mm": [[0, 0, float("nan")]] * 5}, "two points or more"),
        ({"landmarks_mm": "many"}, "holds no atlas"),
        ({"neighbours": [[0, 5]]}, "not there"),
        ({"neighbours": [[-1, 0]]}, "not there"),
        ({"neighbours": [[0, 10**30]]}, "holds no atlas"),
        ({"lobes": [1, 2]}, "lobes"),
        ({"patch_voxels": 10**9}, "patch_voxels is 1000000000"),
        ({"patch_voxels": "32"}, "patch_voxels is 32"),
        ({"patch_voxels": -2}, "patch_voxels is -2"),
        ({"spacing_mm": 0}, "spacing_mm is 0"),
        ({"spacing_mm": float("nan")}, "spacing_mm is nan"),
        ({"pitch_mm": "wide"}, "pitch_mm is wide"),
    ],
)
def test_an_atlas_that_cannot_be_is_a_named_error(tmp_path, values, words):
    write_card(tmp_path, atlas(), {"source": "theirs"})
    assert read_atlas(tmp_path).id == "theirs"
    change_json(tmp_path / "atlas.json", **values)
    with pytest.raises(StoreError) as fault:
        read_atlas(tmp_path)
    assert words in fault.value.message
    assert str(tmp_path) in fault.value.message


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.write_text("[" * 10**5), lambda path: None]
)
def test_a_prepared_folder_without_an_atlas_is_told_when_the_workflow_starts(tmp_path, make):
    (tmp_path / "atlas").mkdir()
    make(tmp_path / "atlas/atlas.json")
    with pytest.raises(ConfigError, match="should hold atlas/atlas"):
        settings.prepared_atlas(tmp_path)
    with pytest.raises(StoreError, match="holds no atlas"):
        read_atlas(tmp_path / "atlas")


@pytest.mark.parametrize("column", ["../../fold", "a/b", "a\\b", "{scan}", "x" * 101, ""])
def test_the_file_of_the_folds_stays_where_it_belongs(column):
    given = yaml.safe_load((ROOT / "config.yaml").read_text())["evaluation"]
    for key in ("stratify", "leave_out"):
        with pytest.raises(ValueError, match="the file of the folds"):
            Evaluation(**given | {key: column})
        assert getattr(Evaluation(**given | {key: "Sex (M or F)"}), key) == "Sex (M or F)"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.write_bytes(b"\xff")])
def test_a_list_of_frozen_scans_that_is_none_is_a_named_error(tmp_path, make):
    make(tmp_path / "scans.txt")
    with pytest.raises(CohortError, match=r"scans\.txt cannot be read") as fault:
        study_jobs._freeze(tmp_path / "scans.txt", ["anna"])
    assert "ctssl refresh" in fault.value.advice


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.write_bytes(b"PAR1" * 9)])
def test_a_table_of_features_that_is_none_is_a_named_error(tmp_path, make):
    make(tmp_path / "a.parquet")
    with pytest.raises(CohortError, match=r"a\.parquet holds no features"):
        read_features(tmp_path / "a.parquet")


def test_a_cut_table_of_features_is_a_named_error(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"scan": ["anna"] * 50, "subject": "p", "f000": 1.0}).to_parquet(path)
    content = path.read_bytes()
    assert len(read_features(path)) == 50
    for at in range(0, len(content), 41):
        path.write_bytes(content[:at])
        with pytest.raises(CohortError, match="holds no features"):
            read_features(path)
    pd.DataFrame({"f000": [1.0]}).to_parquet(path)
    with pytest.raises(CohortError, match="no columns scan and subject"):
        read_features(path)
