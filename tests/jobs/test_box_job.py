"""The job that writes boxes, as a rule calls it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from jobs.test_cohort_job import Cohort, read
from train import lungs

from ctssl import config, settings
from ctssl.errors import ScanError, StoreError
from ctssl.jobs import cohort, summary
from ctssl.jobs.boxes import folder_of, open_boxes, with_boxes
from ctssl.jobs.status import Status
from ctssl.manifest import read_manifest
from ctssl.prepare.atlas import Atlas, write_card
from ctssl.prepare.grid import Grid
from ctssl.prepare.images import write_array
from ctssl.recipes import RECIPES
from ctssl.store.boxes import open_box

ATLAS = Atlas("chest", "LPS", 1.5, 30.0, np.zeros((3, 3)), np.array([[0, 1]]))
ROWS = [{"scan": "anna", "path": "stores/anna"}, {"scan": "bert", "path": "stores/bert"}]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A results folder: anna has a volume, bert was lost there; the job ran for both."""
    folder = tmp_path_factory.mktemp("results")
    write_card(folder / "atlas", ATLAS, {"source": "theirs"})
    mask, grid = lungs.lungs(), Grid((-30.0, -20.5, 7.0), 1.5, lungs.SHAPE[::-1], "LPS")
    for scan in ("anna", "bert"):
        (folder / "volumes" / scan).mkdir(parents=True)
    write_array(folder / "volumes/anna/volume.nii", lungs.values(1, mask), grid)
    write_array(folder / "volumes/anna/mask.nii.gz", mask, grid)
    Status("anna", True, "volume").write(folder / "volumes/anna")
    Status.excluded("bert", "volume", ScanError("no lungs")).write(folder / "volumes/bert")
    for scan in ("anna", "bert"):
        settings = json.dumps({"stage": "box", "recipe": RECIPES["box"]})
        asked = ["--scan", scan, "--atlas", folder / "atlas", "--volume", folder / "volumes" / scan]
        asked += ["--out", folder / "boxes" / scan, "--time-s", 100, "--memory-mb", 8000]
        command = [sys.executable, "-c", "from ctssl.cli import main; main()", "stage", "box"]
        subprocess.run([*command, "--settings", settings, *map(str, asked)], check=True, timeout=200)
    return folder


def test_the_box_holds_the_volume_and_knows_its_place(results):
    box = open_box(results / "boxes/anna", scan="anna", atlas="chest")
    assert (box.whole("volume") == lungs.values(1, lungs.lungs())).all()
    assert (box.whole("mask") == lungs.lungs()).all()
    assert box.card["origin_mm"] == pytest.approx([-30, -20.5, 7])
    assert (box.card["spacing_mm"], box.card["axes"]) == (1.5, "LPS")
    status = Status.read(results / "boxes/anna", "anna")
    assert (status.ok, status.stage, status.numbers) == (True, "box", {"digest": box.card["digest"]})
    box.verify()


def test_a_scan_that_was_lost_is_passed_on_and_left_out(results, capfd):
    status = Status.read(results / "boxes/bert", "bert")
    assert (status.ok, status.stage, status.reason) == (False, "volume", "no lungs")
    table = results / "scans.csv"
    assert with_boxes(table, ROWS) == ROWS[:1]
    assert "bert has no box of its lungs and is left out: no lungs" in capfd.readouterr().err
    assert list(open_boxes(table, ROWS[:1], "chest")) == ["anna"]


def test_a_box_that_nobody_made_is_an_error_that_names_the_scan(results):
    with pytest.raises(StoreError, match="the box of scan carl is not there"):
        with_boxes(results / "scans.csv", [{"scan": "carl", "path": "stores/carl"}])


def test_boxes_lie_beside_the_stores_wherever_those_are(tmp_path):
    for path, wanted in (
        ("stores/a", "boxes/a"),
        ("../theirs/stores/a", "../theirs/boxes/a"),
        ("/x/stores/a", "/x/boxes/a"),
    ):
        assert folder_of(tmp_path / "scans.csv", {"scan": "a", "path": path}) == tmp_path / wanted


@pytest.fixture
def judged(tmp_path):
    """Scans good, unfit and lost; the box of good crashed. Calling it runs the cohort's job for a method."""
    made = Cohort(tmp_path)
    made.write_manifest(unfit="its lungs are so")
    boxes = {
        "good": Status.excluded("good", "box", ScanError("the computation crashed", "look")),
        "unfit": Status("unfit", True, "box", numbers={"digest": "of the box"}),
        "lost": Status("lost", True, "box", numbers={"digest": "of the box"}),
    }
    for scan, status in boxes.items():
        (made.results / "boxes" / scan).mkdir(parents=True)
        status.write(made.results / "boxes" / scan)

    def judge(method):
        path = tmp_path / "study.yaml"
        runs = [{"name": "one", "method": method}]
        path.write_text(yaml.safe_dump({"manifest": str(tmp_path / "scans.csv"), "runs": runs}))
        chosen = config.read(path)
        cohort.cohort(settings.cohort(chosen, read_manifest(chosen.manifest)), made.tables)
        return made

    return judge


def test_a_scan_whose_box_crashed_leaves_a_study_that_needs_boxes(judged):
    made = judged("moco-v2")
    lost = {row["scan"]: (row["stage"], row["reason"], row["advice"]) for row in read(made.tables.failures)}
    assert lost.keys() == {"good", "lost"}
    assert lost["good"] == ("box", "the computation crashed", "look")
    assert lost["lost"][0] == "register", "where it was lost, although there is a box"
    assert [(row["scan"], row["store"]) for row in read(made.tables.scans)] == [("unfit", "digest-unfit")]
    said, any_lost = summary.describe(made.results)
    assert any_lost
    assert "good: excluded at box: the computation crashed" in said
    assert summary.retry(made.results, ["good"]) == ["good"]
    assert not [folder for folder in ("volumes", "boxes") if (made.results / folder / "good").exists()]


def test_boxes_that_no_run_needs_exclude_nobody(judged):
    made = judged("context-aware")
    assert [row["scan"] for row in read(made.tables.failures)] == ["lost"]
    assert "good" not in summary.describe(made.results)[0]
