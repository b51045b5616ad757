import csv
import json
import os
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from ctssl.cohorts.phantom import cohort
from ctssl.cohorts.phantom.cohort import BRANCH_POINTS, CohortPlan, write_cohort
from ctssl.cohorts.phantom.deform import Deformation
from ctssl.cohorts.phantom.folder import claimed
from ctssl.cohorts.phantom.oracle import OraclePlan, write_oracle
from ctssl.cohorts.phantom.scanner import Scanner
from ctssl.errors import ConfigError
from ctssl.manifest import read_manifest

PLAN = CohortPlan(3, 3, Scanner(8.0, 10.0), ("A", "B"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, PLAN)
    return folder


def values(path):
    return np.asarray(nibabel.load(path).dataobj)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_manifest_can_be_read_and_names_the_images(written):
    manifest = read_manifest(written / "scans.csv")
    assert manifest.scans == ["phantom000", "phantom001", "phantom002"]
    assert all(row.image.exists() for row in manifest.rows)
    columns = {
        "age",
        "sex",
        "fev1pp",
        "gold",
        "severe",
        "centrilobular",
        "emphysema_percent",
        "site",
        "kernel",
    }
    assert columns <= set(manifest.label_columns)
    assert manifest.column("site") == {"phantom000": "A", "phantom001": "B", "phantom002": "A"}
    assert manifest.column("kernel")["phantom001"] == "sharp"


def test_the_burden_is_that_of_the_lesions_written(written):
    with (written / "scans.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        truth = written / "truth" / row["scan"]
        lobes, lesions = (
            np.asarray(nibabel.load(truth / f"{name}.nii.gz").dataobj) for name in ("lobes", "lesions")
        )
        image = nibabel.load(written / row["image"])
        assert image.shape == lobes.shape == lesions.shape
        assert set(np.unique(lobes)) == set(range(6))
        percent = 100 * np.isin(lesions, (1, 2, 3)).sum() / (lobes > 0).sum()
        assert float(row["emphysema_percent"]) == pytest.approx(percent, abs=0.01)


def test_the_true_points_are_those_of_the_deformation(written):
    known = Deformation.from_json(json.loads((written / "truth/phantom001/deformation.json").read_text()))
    table = np.loadtxt(written / "truth/phantom001/branch_points.csv", delimiter=",", skiprows=1)
    assert len(table) == BRANCH_POINTS >= 100
    assert table[:, 6].mean() > 0.9  # visible
    np.testing.assert_allclose(known(table[:, :3]), table[:, 3:6], atol=1e-3)
    np.testing.assert_allclose(known.inverse(table[:, 3:6]), table[:, :3], atol=1e-3)


def test_the_truth_of_hard_cases_is_that_of_the_scan(tmp_path):
    write_cohort(
        tmp_path / "c", CohortPlan(1, 3, Scanner(8.0, 10.0, hard=("tilt", "one-lung-left", "cut-top")))
    )
    truth = tmp_path / "c/truth/phantom000"
    known = Deformation.from_json(json.loads((truth / "deformation.json").read_text()))
    table = np.loadtxt(truth / "branch_points.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(known(table[:, :3]), table[:, 3:6], atol=1e-3)
    visible = table[:, 6] == 1
    assert 0.2 < visible.mean() < 0.7
    assert (table[visible, 0] < 0).all()  # the right lung alone is left
    assert table[visible, 2].max() < table[:, 2].max() - 15


def test_a_wrong_plan_or_folder_leaves_what_is_there(written, tmp_path, monkeypatch):
    before = contents(written)
    with pytest.raises(ConfigError, match="site is one of"):
        replace(PLAN, sites=("A", "Z"))
    for wrong in ({"scans": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match="a cohort has"):
            replace(PLAN, **wrong)
    with pytest.raises(ConfigError, match="kind images, not oracle"):
        write_oracle(written, OraclePlan(2, 3))
    assert contents(written) == before
    own = tmp_path / "study"
    (own / "images").mkdir(parents=True)
    (own / "images/patient.nii.gz").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="not a phantom's"):
        write_cohort(own, PLAN)
    assert (own / "images/patient.nii.gz").read_bytes() == b"precious"
    with pytest.raises(ConfigError, match="is a file"):
        write_cohort(own / "images/patient.nii.gz", PLAN)
    monkeypatch.setattr(os, "sysconf", lambda name: 2**14)  # 256 MB of memory
    with pytest.raises(ConfigError, match="million voxels needs about"):
        write_cohort(tmp_path / "large", replace(PLAN, scanner=Scanner(0.5, 0.5)))


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    with claimed(tmp_path / "c", "images", {}) as wanted:
        assert wanted
        with pytest.raises(ConfigError, match="another run"):
            write_cohort(tmp_path / "c", PLAN)


def test_an_unchanged_cohort_is_left_alone(written, monkeypatch):
    monkeypatch.setattr(cohort, "make_all", None)  # nothing is made
    before = {p: p.stat().st_mtime_ns for p in written.rglob("*")}
    write_cohort(written, PLAN)
    assert {p: p.stat().st_mtime_ns for p in written.rglob("*")} == before


def test_a_cohort_that_was_half_rewritten_is_made_anew_byte_for_byte(written, tmp_path, monkeypatch):
    folder = shutil.copytree(written, tmp_path / "cohort")

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cohort, "make_all", killed)
        with pytest.raises(KeyboardInterrupt):
            write_cohort(folder, replace(PLAN, seed=4))
    assert not (folder / "scans.csv").exists()  # its labels are not those of what is half made
    (folder / "images/phantom000.nii.gz").write_bytes(b"half")
    write_cohort(folder, PLAN)
    assert contents(folder) == contents(written)
    images = [content for name, content in contents(written).items() if name.startswith("images/")]
    assert len(set(images)) == 3


def test_a_smaller_cohort_in_the_same_folder_leaves_nothing_of_the_larger(written, tmp_path):
    folder = shutil.copytree(written, tmp_path / "cohort")
    write_cohort(folder, replace(PLAN, scans=2))
    assert sorted(p.name for p in (folder / "images").iterdir()) == ["phantom000.nii.gz", "phantom001.nii.gz"]
    assert not (folder / "truth/phantom002").exists()
    assert (folder / "images/phantom000.nii.gz").read_bytes() == (
        written / "images/phantom000.nii.gz"
    ).read_bytes()


def test_the_last_of_eight_scans_is_a_second_visit():
    people = [CohortPlan(8, 3, Scanner()).subject(number) for number in range(8)]
    (name, visit, before), (again, later, after) = people[6:]
    assert (name, visit) == (again, 0)
    assert later == 1
    assert after.age == before.age + 5
    np.testing.assert_array_equal(before.deformation.matrix, after.deformation.matrix)
    assert len({name for name, _, _ in people}) == 7
