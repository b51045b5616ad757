import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from ctssl.cohorts.phantom import anatomy, cohort
from ctssl.cohorts.phantom.cohort import CohortPlan, draw_subject, write_cohort, write_nifti
from ctssl.cohorts.phantom.deform import Deformation
from ctssl.cohorts.phantom.scan import Scanner, make_scan
from ctssl.manifest import read_manifest

PEOPLE = range(6)
COARSE = Scanner(5.0, 6.0)


def person(seed: int) -> Deformation:
    return Deformation.draw(np.random.default_rng(seed))


def chest_points(step_mm: float) -> np.ndarray:
    axes = [np.arange(low, high, step_mm) for low, high in zip(anatomy.LOW_MM, anatomy.HIGH_MM, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


@pytest.mark.parametrize("seed", PEOPLE)
def test_the_inverse_is_exact(seed):
    points = chest_points(35.0)
    there = person(seed)(points)
    assert np.linalg.norm(there - points, axis=1).max() > 10
    assert np.abs(person(seed).inverse(there) - points).max() < 1e-6


@pytest.mark.parametrize("seed", PEOPLE)
def test_nothing_folds(seed):
    """The Jacobian determinant, by central differences, stays well above 0."""
    points, h = chest_points(20.0), 1e-3
    columns = [
        (person(seed)(points + h * unit) - person(seed)(points - h * unit)) / (2 * h) for unit in np.eye(3)
    ]
    determinants = np.linalg.det(np.stack(columns, -1))
    assert determinants.min() > 0.3
    assert determinants.std() > 0.01  # and it is no affine map


def test_a_deformation_survives_json():
    here = person(3)
    again = Deformation.from_json(json.loads(json.dumps(here.to_json())))
    points = chest_points(60.0)
    np.testing.assert_array_equal(again(points), here(points))


def test_identity_is_the_canonical_chest():
    points = chest_points(50.0)
    np.testing.assert_array_equal(Deformation.identity()(points), points)
    np.testing.assert_allclose(Deformation.identity().inverse(points), points)


def test_right_lung_lies_at_lower_x_and_is_larger():
    points = chest_points(5.0)
    lungs = anatomy.lungs(points)
    assert points[lungs == 1, 0].mean() < -40
    assert points[lungs == 2, 0].mean() > 40
    assert (lungs == 1).sum() > 1.1 * (lungs == 2).sum()
    assert 3.5 < (lungs > 0).sum() * 5.0**3 / 1e6 < 6.5  # litres


def test_the_heart_makes_the_chest_asymmetric():
    points = chest_points(5.0)
    hu = anatomy.tissue_hu(points, anatomy.lungs(points))
    mirrored = points * [-1, 1, 1]
    assert np.abs(hu - anatomy.tissue_hu(mirrored, anatomy.lungs(mirrored))).mean() > 30


@pytest.mark.parametrize(("grade", "share"), list(enumerate([0.0, 0.06, 0.14, 0.24, 0.36])))
def test_emphysema_takes_its_share_of_the_upper_lungs(grade, share):
    made = make_scan(Deformation.identity(), grade, COARSE, seed=3)
    z_mm = made.origin_mm[2] + made.spacing_mm[2] * np.arange(len(made.hu))
    upper = made.lungs[z_mm > 0] > 0
    assert made.emphysema[z_mm > 0][upper].mean() == pytest.approx(share, abs=0.005)
    assert not made.emphysema[made.lungs == 0].any()
    lower = made.emphysema[z_mm <= 0][made.lungs[z_mm <= 0] > 0].mean()
    assert lower <= share
    if grade:
        assert made.hu[made.emphysema].mean() < -920


def test_tissues_have_the_density_of_tissues():
    made = make_scan(person(1), 0, COARSE, seed=3)
    lung = made.hu[made.lungs > 0]
    assert -900 < np.median(lung) < -780
    assert np.percentile(made.hu, 1) < -950
    assert made.hu.max() > 200
    low_noise = make_scan(person(1), 0, replace(COARSE, noise_hu=0.0), seed=3)
    noise = (made.hu.astype(float) - low_noise.hu)[low_noise.hu > -900]
    assert noise.std() == pytest.approx(18.0, rel=0.05)


def test_the_truth_of_a_scan_is_the_canonical_chest_moved():
    known = person(2)
    made = make_scan(known, 0, COARSE, seed=3)
    index = np.argwhere(np.ones_like(made.lungs))[::37]
    points = made.origin_mm + index[:, ::-1] * made.spacing_mm
    expected = anatomy.lungs(known.inverse(points))
    assert (made.lungs[tuple(index.T)] == expected).mean() > 0.999  # the rest are voxels on the surface


def test_bottom_cuts_the_lungs_off():
    made = make_scan(person(2), 0, replace(COARSE, bottom_mm=-40.0), seed=3)
    assert (made.lungs[0] > 0).sum() * 0.25 > 50  # cm2
    assert not (make_scan(person(2), 0, COARSE, seed=3).lungs[0] > 0).any()


def test_the_file_shows_the_same_values_at_the_same_points(tmp_path):
    made = make_scan(person(2), 2, COARSE, seed=3)
    write_nifti(tmp_path / "a.nii.gz", made.hu, made)
    write_nifti(tmp_path / "b.nii.gz", made.lungs, made)
    image, lungs = (sitk.ReadImage(str(tmp_path / name)) for name in ("a.nii.gz", "b.nii.gz"))
    right, left = (np.argwhere(made.lungs == label) for label in (1, 2))
    for z, y, x in np.concatenate([right[::2000], left[::2000], [[0, 0, 0], [5, 40, 7]]]):
        point = made.origin_mm + np.array([x, y, z]) * made.spacing_mm
        assert image[image.TransformPhysicalPointToIndex(point.tolist())] == made.hu[z, y, x]
        assert lungs[lungs.TransformPhysicalPointToIndex(point.tolist())] == made.lungs[z, y, x]
    measured = sitk.LabelShapeStatisticsImageFilter()
    measured.Execute(lungs)
    assert measured.GetCentroid(1)[0] < measured.GetCentroid(2)[0] - 100  # ITK speaks LPS


PLAN = CohortPlan(2, 3, Scanner(8.0, 10.0))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, PLAN)
    return folder


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_manifest_can_be_read_and_names_the_images(written):
    manifest = read_manifest(written / "scans.csv")
    assert manifest.scans == ["phantom000", "phantom001"]
    assert all(row.image.exists() for row in manifest.rows)
    assert {"age", "sex", "fev1pp", "gold", "severe", "burden_percent"} <= set(manifest.label_columns)
    truth = json.loads((written / "truth/phantom001.json").read_text())
    assert truth["grade"] == 1
    assert float(manifest.column("burden_percent")["phantom001"]) == truth["burden_percent"] > 0


def test_an_unchanged_cohort_is_left_alone(written, monkeypatch):
    monkeypatch.setattr(cohort, "ProcessPoolExecutor", None)  # nothing is made
    before = {p: p.stat().st_mtime_ns for p in written.rglob("*")}
    write_cohort(written, PLAN)
    assert {p: p.stat().st_mtime_ns for p in written.rglob("*")} == before


def test_a_cohort_that_was_half_rewritten_is_made_anew_byte_for_byte(written, tmp_path, monkeypatch):
    folder = shutil.copytree(written, tmp_path / "cohort")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cohort, "ProcessPoolExecutor", killed)
        with pytest.raises(KeyboardInterrupt):
            write_cohort(folder, replace(PLAN, seed=4))
    for image in (folder / "images").iterdir():
        image.write_bytes(b"half")
    write_cohort(folder, PLAN)
    assert contents(folder) == contents(written)
    images = [content for name, content in contents(written).items() if name.endswith(".nii.gz")]
    assert images[0] != images[1]


def test_the_last_of_eight_scans_is_a_second_visit():
    rows = [draw_subject(CohortPlan(8, 3, COARSE), number) for number in range(8)]
    assert rows[7]["subject"] == rows[6]["subject"]
    assert rows[7]["scan"] != rows[6]["scan"]
    assert rows[7]["seed"] != rows[6]["seed"]
    np.testing.assert_array_equal(rows[7]["deformation"].matrix, rows[6]["deformation"].matrix)
    assert len({row["subject"] for row in rows}) == 7


def test_labels_follow_the_disease():
    rows = [draw_subject(CohortPlan(100, 3, COARSE), number) for number in range(99)]
    grades, function = ([row[name] for row in rows] for name in ("grade", "fev1pp"))
    assert np.corrcoef(grades, function)[0, 1] < -0.9
    for row in rows:
        healthy = row["fev1_fvc"] >= 0.7
        stage = 0 if healthy else sum(row["fev1pp"] < limit for limit in (30, 50, 80)) + 1
        if abs(row["fev1_fvc"] - 0.7) > 1e-3 and min(abs(row["fev1pp"] - n) for n in (30, 50, 80)) > 0.1:
            assert row["gold"] == stage  # rounding in the table aside
