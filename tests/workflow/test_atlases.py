"""A study whose atlas is one of its scans, with patches and edges other than the usual ones."""

import os
from pathlib import Path

import pandas as pd
import pytest
from workflow.study import Study

from ctssl.prepare.atlas import read_atlas

pytestmark = pytest.mark.xdist_group("workflow")

SCANS = 3
PREPARATION = ("volume", "register", "store")


@pytest.fixture(scope="module")
def made(untouched: Study, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The micro study on the chest of its first scan, run once. Never change it: copy it."""
    study = untouched.copy(Path(tmp_path_factory.mktemp("atlases")) / "study")
    study.write_rows(study.rows()[:SCANS])
    first = study.rows()[0]["scan"]
    study.change(
        "atlas: {spacing_mm: 4.0, pitch_mm: 100.0,",
        f"atlas: {{source: scan, scans: [{first}], patch_voxels: 48, spacing_mm: 4.0, pitch_mm: 100.0,",
    )
    study.change("graph: {rho_mm: 120.0}", "graph: {edges: overlap, scale_normalised: true}")
    study.change("    - {name: severe, column: severe, task: classify}\n", "")
    study.change("evaluation:\n", "baselines: []\nevaluation:\n")  # one probe is enough here
    study.snakemake()
    return study


@pytest.fixture
def study(made: Study, tmp_path: Path) -> Study:
    return made.copy(tmp_path / "study")


def test_a_scan_as_atlas_runs_to_the_end(made):
    atlas = read_atlas(made.results / "atlas")
    assert (atlas.patch_voxels, atlas.axes, atlas.lobes) == (48, "LPS", None)
    assert made.failures() == []
    quality = pd.read_csv(made.results / "quality/quality.csv")
    assert quality.landmarks.tolist() == [len(atlas.landmarks_mm)] * SCANS
    assert (quality.edges > 0).all()
    own = quality.set_index("scan").loc[made.rows()[0]["scan"]]
    assert min(own.dice_right, own.dice_left) > 0.98, "the atlas is this scan"
    assert len(pd.read_parquet(made.results / "features/tiny_seed0_all.parquet")) == SCANS
    assert (made.results / "tables/probes.md").stat().st_size > 0


def test_a_second_run_does_nothing(made):
    assert made.plan() == {}


def touch_image(study: Study) -> None:
    os.utime(study.folder / study.rows()[0]["image"], ns=(5, 5))


def smaller_patches(study: Study) -> None:
    study.change("patch_voxels: 48", "patch_voxels: 32")


def another_scan(study: Study) -> None:
    first, second, *_ = (row["scan"] for row in study.rows())
    study.change(f"scans: [{first}]", f"scans: [{second}]")


@pytest.mark.parametrize("change", [touch_image, smaller_patches, another_scan])
def test_what_the_atlas_is_made_of_reruns_everything(study, change):
    change(study)
    plan = study.plan()
    assert (plan["atlas"], plan["pretrain"]) == (1, 1)
    assert {rule: plan[rule] for rule in PREPARATION} == dict.fromkeys(PREPARATION, SCANS)


def test_an_atlas_scan_without_its_image_is_one_message_before_anything_starts(study):
    row = study.rows()[0]
    (study.folder / row["image"]).unlink()
    said = study.snakemake("--dry-run", ok=False)
    assert f"atlas.scans names {row['scan']}, whose image" in said
    assert "Traceback" not in said
