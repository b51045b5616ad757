"""Scans that cannot be used leave the cohort; the others finish."""

import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from workflow.study import Study

pytestmark = pytest.mark.xdist_group("workflow")


def spoil(study: Study) -> None:
    """Four more rows: no file, an empty file, a text, a body without lungs."""
    images = study.folder / "images"
    (images / "empty.nii.gz").touch()
    (images / "text.nii.gz").write_text("this is no image\n")
    good = nibabel.load(images / "phantom000.nii.gz")
    solid = np.full(good.shape, -1000, np.int16)
    solid[tuple(slice(n // 5, -n // 5) for n in good.shape)] = 40
    nibabel.save(nibabel.Nifti1Image(solid, good.affine), images / "solid.nii.gz")
    rows = study.rows()
    names = ["missing", "empty", "text", "solid"]
    more = [rows[0] | {"scan": n, "subject": n, "image": f"images/{n}.nii.gz"} for n in names]
    study.write_rows([*rows, *more])


def test_bad_scans_are_excluded_with_advice_and_can_be_tried_again(study):
    spoil(study)
    said = study.snakemake()
    assert "4 of 8 scans excluded, see results/failures.csv" in said
    lost = {row["scan"]: row for row in study.failures()}
    expected = {
        "missing": "does not exist",
        "empty": "the image file is empty",
        "text": "damaged",
        "solid": "no lungs were found",
    }
    assert set(lost) == set(expected)
    for scan, words in expected.items():
        assert lost[scan]["stage"] == "volume"
        assert words in lost[scan]["reason"]
        assert len(lost[scan]["advice"]) > 10
        assert not (study.results / "stores" / scan / "store.json").exists()
        assert (study.results / f"quality/{scan}.png").stat().st_size > 0
    assert len(pd.read_parquet(study.results / "features/tiny_seed0_all.parquet")) == 4
    assert study.plan() == {}, "an excluded scan is not tried again by itself"

    status = study.ctssl("status")
    assert status.returncode == 3
    assert "4 of 8 scans are ready" in status.stdout
    assert "text: excluded at volume" in status.stdout

    for scan in expected:
        shutil.copy(study.folder / "images/phantom001.nii.gz", study.folder / f"images/{scan}.nii.gz")
    assert study.ctssl("retry").returncode == 0
    study.snakemake()
    assert study.failures() == []
    assert study.ctssl("status").returncode == 0
    assert len(pd.read_parquet(study.results / "features/tiny_seed0_all.parquet")) == 8


def test_a_removed_bad_row_is_forgotten(study):
    rows = study.rows()
    study.write_rows([*rows, rows[0] | {"scan": "gone", "image": "images/gone.nii.gz"}])
    assert "1 of 5 scans excluded" in study.snakemake("results/failures.csv")
    study.write_rows(rows)
    assert "excluded, see" not in study.snakemake("results/failures.csv")
    assert study.ctssl("status").returncode == 0


def test_too_many_excluded_scans_are_a_failure_when_the_config_says_so(study):
    study.change("retries: 1", "retries: 1, max_excluded_fraction: 0.1")
    rows = study.rows()
    study.write_rows([rows[0] | {"image": "images/nowhere.nii.gz"}, *rows[1:]])
    said = study.snakemake(ok=False)
    assert "1 of 4 scans are excluded, more than limits.max_excluded_fraction (0.1)" in said
    assert [row["scan"] for row in study.failures()] == ["phantom000"], "the table stays"
    assert "Traceback" not in said


def test_a_scan_that_the_manifest_excludes_says_why(study):
    rows = [row | {"exclude": "", "exclude_reason": ""} for row in study.rows()]
    study.write_rows([rows[0] | {"exclude": "yes", "exclude_reason": "arms in the way"}, *rows[1:]])
    plan = study.plan()
    assert [plan[rule] for rule in ("volume", "register", "store")] == [1, 1, 1]
    study.snakemake("results/failures.csv")
    (lost,) = study.failures()
    assert lost["scan"] == "phantom000"
    assert "arms in the way" in lost["reason"]


def test_what_quality_excludes_is_decided_by_cohort_alone_and_the_manifest_overrules_it(study):
    quality = pd.read_csv(study.results / "quality/quality.csv").set_index("scan")
    worst, second = quality[["dice_right", "dice_left"]].min(axis=1).sort_values().index[:2]
    low, high = quality.loc[[worst, second], ["dice_right", "dice_left"]].min(axis=1)
    assert low < high, "the limit lies between the two"
    study.change("warn_dice: 0.8", f"warn_dice: 0.8, exclude_dice: {(low + high) / 2}")
    plan = study.plan()
    assert plan["cohort"] == 1
    assert not {"volume", "register", "store", "pretrain"} & set(plan)
    assert "1 of 4 scans excluded" in study.snakemake("results/features/tiny_seed0_all.parquet")
    (lost,) = study.failures()
    assert (lost["scan"], lost["stage"]) == (worst, "quality")
    assert f"quality/{worst}.png" in lost["advice"]
    assert len(pd.read_parquet(study.results / "features/tiny_seed0_all.parquet")) == 3

    status = study.ctssl("status")
    assert status.returncode == 3
    assert f"{worst}: excluded at quality: " in status.stdout
    retry = study.ctssl("retry")
    assert retry.returncode == 2
    assert "keep: yes" in retry.stderr

    keep = {"keep": "yes", "keep_reason": "looked at by a radiologist"}
    study.write_rows(
        [row | (keep if row["scan"] == worst else dict.fromkeys(keep, "")) for row in study.rows()]
    )
    plan = study.plan()
    assert plan["cohort"] == 1
    assert not {"volume", "register", "store", "pretrain"} & set(plan)
    study.snakemake("results/features/tiny_seed0_all.parquet")
    assert study.failures() == []
    assert len(pd.read_parquet(study.results / "features/tiny_seed0_all.parquet")) == 4
    kept = pd.read_csv(study.results / "quality/quality.csv").set_index("scan").loc[worst]
    assert kept.verdict == "warn"
    assert kept.reasons.startswith("kept by the manifest: looked at by a radiologist; ")
    assert study.ctssl("status").returncode == 0
