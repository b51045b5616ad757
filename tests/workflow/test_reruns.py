"""What runs again after which change, on a micro cohort."""

import os
import shutil

import pandas as pd
import pytest
from workflow.study import Study

from ctssl.cohorts.phantom.chest import build_chest
from ctssl.cohorts.phantom.cohort import write_nifti
from ctssl.cohorts.phantom.scan import make_scan
from ctssl.cohorts.phantom.scanner import Scanner
from ctssl.cohorts.phantom.subject import draw_subject

pytestmark = pytest.mark.xdist_group("workflow")

AFTER_COHORT = {"enough", "features", "baseline", "splits", "probe", "pairs", "tables", "figures"}
PER_SCAN = ("volume", "register", "store")


def add_scan(study: Study) -> None:
    """A fifth scan, of a new subject."""
    scan = make_scan(draw_subject(3, 4), Scanner(spacing_mm=5.0, slice_mm=6.0), build_chest(3.0))
    write_nifti(study.folder / "images" / "new.nii.gz", scan.hu, scan)
    rows = study.rows()
    study.write_rows([*rows, rows[0] | {"scan": "new", "subject": "new", "image": "images/new.nii.gz"}])


def test_the_study_has_four_scans_of_nine_landmarks_and_all_products(finished):
    table = pd.read_csv(finished.results / "quality/quality.csv")
    assert list(table.landmarks) == [9] * 4
    assert (finished.results / "failures.csv").read_text() == "scan,subject,stage,reason,advice\n"
    pictures = ("figures/umap.png", "quality/phantom000.png")
    for product in ("tables/probes.csv", "tables/probes.md", "quality/index.html", *pictures):
        assert (finished.results / product).stat().st_size > 0
    assert "LAA-950" in (finished.results / "tables/probes.md").read_text()


def test_a_second_run_does_nothing(study):
    assert study.plan() == {}
    assert "warning" not in study.snakemake("--dry-run")


def test_a_new_row_runs_its_scan_and_the_cohort_but_no_pretraining(study):
    before = study.values()
    add_scan(study)
    plan = study.plan()
    assert {rule: plan[rule] for rule in PER_SCAN} == dict.fromkeys(PER_SCAN, 1)
    assert set(plan) == {*PER_SCAN, "cohort", *AFTER_COHORT}
    study.snakemake()
    after = study.values()
    old = [n for n in before if n.startswith(("stores/", "registration/", "volumes/", "runs/"))]
    assert {n: before[n] for n in old} == {n: after[n] for n in old}
    features = after["features/tiny_seed0_all.parquet"].splitlines()
    assert features[:5] == before["features/tiny_seed0_all.parquet"].splitlines()
    assert len(features) == 6
    folds = after["splits/seed0-plain.csv"].splitlines()
    assert set(before["splits/seed0-plain.csv"].splitlines()) < set(folds), "old subjects keep their fold"
    assert study.plan() == {}


def test_a_deleted_store_is_made_again_and_a_deleted_volume_is_not_missed(study):
    shutil.rmtree(study.results / "stores/phantom001")
    shutil.rmtree(study.results / "volumes/phantom002")
    plan = study.plan()
    assert (plan["store"], set(plan)) == (1, {"store", "cohort", *AFTER_COHORT})


def test_an_edited_label_reruns_its_probes_and_what_shows_them(study):
    rows = study.rows()
    study.write_rows([rows[0] | {"severe": "yes"}, *rows[1:]])
    assert study.plan() == {"probe": 2, "pairs": 1, "tables": 1}  # of the run and of LAA-950
    study.write_rows([rows[0] | {"fev1pp": "55"}, *rows[1:]])
    assert study.plan() == {"probe": 2, "pairs": 1, "tables": 1, "figures": 1}  # the map is coloured by it


def test_a_column_that_nothing_uses_reruns_nothing(study):
    study.write_rows([row | {"comment": "x"} for row in study.rows()])
    assert study.plan() == {}


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        ("pitch_mm: 100.0", "pitch_mm: 110.0", "atlas"),
        ("method: threshold}", "method: threshold, min_lung_l: 0.2}", "volume"),
        ("rho_mm: 120.0", "rho_mm: 110.0", "register"),
        ("warn_dice: 0.8", "warn_dice: 0.7", "cohort"),
        ("queue_size: 8", "queue_size: 9", "pretrain"),
        ("folds: 2", "folds: 3", "splits"),
    ],
)
def test_a_changed_setting_reruns_its_stage_and_below(study, old, new, first):
    study.change(old, new)
    plan = study.plan()
    order = ["atlas", *PER_SCAN, "cohort", "pretrain", "features", "probe", "tables"]
    if first == "splits":
        assert set(plan) == {"splits", "probe", "pairs", "tables"}
        return
    expected = set(order[order.index(first) :])
    if first == "cohort":
        expected.remove("pretrain")  # it does not depend on verdicts
    assert expected <= set(plan)
    assert not set(order[: order.index(first)]) & set(plan)
    if first in ("atlas", *PER_SCAN):
        assert plan["store"] == 4


def test_a_moved_limit_of_the_machine_reruns_nothing(study):
    study.change("retries: 1", "retries: 2, time_s: 77, memory_gb: 8, max_voxels: 5")
    study.change("method: threshold}", "method: threshold, device: cuda, weights: other.pth}")
    study.change("device: cpu, threads: 1, checkpoint_steps: 3", "device: auto, threads: 2")
    assert study.plan() == {}


@pytest.mark.parametrize(
    "stage",
    ["volume", "pretrain", *(pytest.param(s, marks=pytest.mark.slow) for s in ("store", "probe"))],
)
def test_a_bumped_recipe_reruns_its_stage_and_below(study, stage):
    plan = study.plan(recipe=stage)
    order = ["atlas", *PER_SCAN, "cohort", "pretrain", "features", "probe", "tables"]
    assert set(order[order.index(stage) :]) <= set(plan)
    assert not set(order[: order.index(stage)]) & set(plan)


def test_a_changed_run_is_trained_anew_in_the_same_invocation_as_a_new_scan(study):
    add_scan(study)
    study.change("queue_size: 8", "queue_size: 9")
    assert study.plan()["pretrain"] == 1


def test_a_replaced_image_of_the_same_name_is_noticed(study):
    image = study.folder / "images/phantom001.nii.gz"
    other = (study.folder / "images/phantom002.nii.gz").read_bytes()
    about = image.stat()
    image.write_bytes(other)
    os.utime(image, ns=(about.st_atime_ns, about.st_mtime_ns))  # older than everything made from it
    plan = study.plan()
    assert [plan[rule] for rule in PER_SCAN] == [1, 1, 1]
    assert "pretrain" not in plan


def test_a_removed_row_leaves_tables_and_features_without_retraining(study):
    study.write_rows(study.rows()[:-1])
    plan = study.plan()
    assert set(plan) == {"cohort", *AFTER_COHORT}
    study.snakemake()
    assert "phantom003" not in study.values()["features/tiny_seed0_all.parquet"]


def test_a_moved_results_directory_is_taken_as_it_is(study):
    study.results.rename(study.folder / "elsewhere")
    study.change("results: results", "results: elsewhere")
    said = study.snakemake("--dry-run")
    assert "Nothing to be done" in said
    assert "elsewhere was made elsewhere or moved" in said, "changes are not noticed there: it must say so"


def test_scans_frozen_for_pretraining_are_those_of_the_first_run(study):
    assert (study.results / "runs/tiny/scans.txt").read_text().split() == [f"phantom00{i}" for i in range(4)]


def test_without_a_manifest_it_says_what_to_do(fresh):
    fresh.change("manifest: scans.csv", "manifest: null")
    said = fresh.snakemake("--dry-run", ok=False)
    assert "ctssl init FOLDER_OF_SCANS" in said
    assert "Traceback" not in said


def test_a_fault_of_the_config_is_one_readable_message(fresh):
    fresh.change("rho_mm: 120.0", "rho_mm: -1, rhomm: 3")
    said = fresh.snakemake("--dry-run", ok=False)
    assert "graph.rho_mm: Input should be greater than 0" in said
    assert "graph.rhomm: there is no such key" in said
    assert "Traceback" not in said
