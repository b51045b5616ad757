from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from ctssl.cohorts.phantom import body, lungs
from ctssl.cohorts.phantom.chest import build_chest
from ctssl.cohorts.phantom.cohort import write_nifti
from ctssl.cohorts.phantom.disease import Disease
from ctssl.cohorts.phantom.scan import make_scan, true_points
from ctssl.cohorts.phantom.scanner import Scanner, scan_axes
from ctssl.cohorts.phantom.subject import draw_subject

COARSE = Scanner(5.0, 6.0)


@pytest.fixture(scope="module")
def chest():
    return build_chest(3.0)


def person(number: int = 2, **grades):
    return replace(draw_subject(11, number), disease=Disease(**grades))


def points_of(made, index):
    """(P, 3) x, y, z of voxels (P, 3) z, y, x."""
    return made.origin_mm + index[:, ::-1] * made.spacing_mm


@pytest.mark.parametrize("hard", [(), ("tilt",)])
def test_the_truth_of_a_scan_is_the_canonical_chest_moved(chest, hard):
    scanner = replace(COARSE, hard=hard)
    made = make_scan(person(), scanner, chest)
    index = np.argwhere(np.ones_like(made.lobes))[::53]
    body = person().deformation.turned(np.array([0.0, 0.0, 22.0 if hard else 0.0]))
    canonical = body.inverse(points_of(made, index))
    expected = lungs.lobes(*canonical.T)
    surface = np.abs(lungs.lung_margin(*canonical.T)) < 4
    fissures = np.min(np.abs(lungs.fissures(*canonical.T)), axis=0) < 4
    clear = ~surface & ~fissures
    agree = made.lobes[tuple(index.T)] == expected
    airway = (made.lobes[tuple(index.T)] == 0) & (expected > 0)
    assert clear.mean() > 0.5
    assert (agree | airway)[clear].mean() > 0.9999
    assert airway[clear].mean() < 0.01


def test_thick_bright_vessels_lie_at_the_true_branch_points(chest):
    scanner = Scanner(2.0, 2.0, noise_hu=0.0)
    made = make_scan(person(), scanner, chest)
    points = chest.branch_points_mm[100:400]
    points = points[lungs.lung_margin(*points.T) > 12]

    def hu(where):
        voxels = np.rint((true_points(person(), scanner, where) - made.origin_mm) / made.spacing_mm).astype(
            int
        )
        return made.hu[voxels[:, 2], voxels[:, 1], voxels[:, 0]]

    rng = np.random.default_rng(0)
    elsewhere = points + rng.choice([-1, 1], points.shape) * rng.uniform(8, 15, points.shape)
    assert len(points) > 100
    assert np.median(hu(points)) > -500
    assert np.median(hu(points)) > np.median(hu(elsewhere)) + 250


def test_the_interpolated_inverse_errs_by_less_than_a_tenth_of_a_millimetre(chest):
    from ctssl.cohorts.phantom.scan import _canonical

    axes = tuple(np.arange(-120.0, 120.0, 3.1) for _ in range(3))
    for number in range(4):
        body = person(number).deformation
        points, _ = _canonical(body, person(number), axes)
        z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
        exact = body.inverse(np.stack([x, y, z], -1).reshape(-1, 3)).reshape(points.shape)
        assert np.linalg.norm(points - exact, axis=-1).max() < 0.15
        assert np.linalg.norm(points - exact, axis=-1).mean() < 0.05


def test_tissues_have_the_density_of_tissues(chest):
    made = make_scan(person(), COARSE, chest)
    lung = made.hu[made.lungs > 0]
    assert -900 < np.median(lung) < -780
    assert np.percentile(made.hu, 1) < -950
    assert made.hu.max() > 200
    quiet = make_scan(person(), replace(COARSE, noise_hu=0.0), chest)
    noise = (made.hu.astype(float) - quiet.hu)[quiet.hu > -900]
    assert noise.std() == pytest.approx(18.0 * np.sqrt(3 / 6), rel=0.15)


def test_lung_is_denser_at_the_back_and_at_the_base(chest):
    subject = replace(person(), gradient=replace(person().gradient, front_to_back_hu_per_mm=0.4))
    made = make_scan(subject, replace(COARSE, noise_hu=0.0), chest)
    index = np.argwhere((made.lungs > 0) & (made.hu < -700))
    canonical = subject.deformation.inverse(points_of(made, index))
    fit = np.linalg.lstsq(np.c_[np.ones(len(index)), canonical[:, 1:]], made.hu[tuple(index.T)], rcond=None)[
        0
    ]
    assert fit[1] == pytest.approx(0.4, abs=0.1)
    assert fit[2] == pytest.approx(-subject.gradient.apex_to_base_hu_per_mm, abs=0.1)


def test_lesions_lie_in_lobes_and_change_the_image(chest):
    fine = Scanner(3.0, 3.0)
    well, sick = (make_scan(person(**g), fine, chest) for g in ({}, {"centrilobular": 5, "ground_glass": 3}))
    assert not well.lesions.any()
    assert set(np.unique(sick.lesions)) == {0, 1, 4, 5}
    assert not sick.lesions[sick.lobes == 0].any()
    np.testing.assert_array_equal(well.lobes, sick.lobes)
    assert np.median(sick.hu[sick.lesions == 1]) < np.median(well.hu[sick.lesions == 1]) - 40
    assert sick.hu[sick.lesions == 4].mean() > well.hu[sick.lesions == 4].mean() + 120
    outside = (well.lobes == 0) & (sick.lobes == 0)
    assert np.abs(well.hu[outside].astype(float) - sick.hu[outside]).mean() < 3  # but for blur at the pleura


def test_the_same_arguments_give_the_same_scan(chest):
    first, again, other = (make_scan(person(n, centrilobular=2), COARSE, chest) for n in (2, 2, 3))
    np.testing.assert_array_equal(first.hu, again.hu)
    assert first.hu.shape != other.hu.shape or (first.hu != other.hu).any()


@pytest.mark.parametrize("slice_mm", [0.75, 8.0])
def test_thin_and_thick_slices_show_the_same_chest(chest, slice_mm):
    made = make_scan(person(), Scanner(6.0, slice_mm, noise_hu=0.0), chest)
    voxel_l = np.prod(made.spacing_mm) / 1e6
    reference = make_scan(person(), Scanner(3.0, 3.0, noise_hu=0.0), chest)
    expected = (reference.lobes > 0).sum() * np.prod(reference.spacing_mm) / 1e6
    assert (made.lobes > 0).sum() * voxel_l == pytest.approx(expected, rel=0.02)
    assert made.spacing_mm[2] == slice_mm


@pytest.mark.parametrize("slice_mm", [3.0, 8.0])
def test_the_truth_of_a_slice_is_that_of_its_centre(chest, slice_mm):
    """Lobes agree best with the exact inverse where they are said to lie, not above or below."""
    made = make_scan(person(), Scanner(5.0, slice_mm, noise_hu=0.0), chest)
    index = np.argwhere(np.ones_like(made.lobes))[::2]
    points, seen = points_of(made, index), made.lungs[tuple(index.T)]
    shifts_mm = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    agree = []
    for shift in shifts_mm:
        canonical = person().deformation.inverse(points + np.array([0, 0, shift]), tolerance_mm=1e-3)
        agree.append(np.mean(lungs.lungs(*canonical.T) == seen))
    assert shifts_mm[np.argmax(agree)] == 0


@pytest.mark.parametrize("number", range(12))
def test_the_whole_body_is_in_the_scan(number):
    """The outer voxels in front, behind and at both sides are no body, but some near them are."""
    from ctssl.cohorts.phantom.scan import _field_of_view

    scanner, who = Scanner(4.0, 8.0, table=False), draw_subject(11, number)
    axes = scan_axes(*_field_of_view(who.deformation, who, scanner), scanner)
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    canonical = who.deformation.inverse(np.stack([x, y, z], -1).reshape(-1, 3), tolerance_mm=1e-3)
    fat_mm = who.fat_mm + (26 * body.breasts(*canonical.T) if who.sex == "F" else 0)
    inside = (body.outline(*canonical.T) + fat_mm > 0).reshape(x.shape)
    for axis in (1, 2):
        layers = np.flatnonzero(inside.any(tuple({0, 1, 2} - {axis})))
        assert 1 <= layers[0] <= 5
        assert 1 <= inside.shape[axis] - 1 - layers[-1] <= 5


def test_no_air_is_left_where_a_lung_was_taken_out(chest):
    for side, name in ((-1, "one-lung-right"), (1, "one-lung-left")):
        made = make_scan(person(), Scanner(2.0, 2.0, noise_hu=0.0, hard=(name,)), chest)
        air = (made.hu < -300) & (made.lobes == 0)
        around = ndimage.label(air)[0]
        air &= around != around[0, 0, 0]
        canonical = person().deformation.inverse(points_of(made, np.argwhere(air)), tolerance_mm=1e-3)
        within = (lungs.lung_margin(*canonical.T) > 4) & (side * canonical[:, 0] > 0)
        assert not within.any()


def test_heavy_people_have_fat_and_women_breasts(chest):
    slim, heavy = (replace(person(), fat_mm=f, sex="M") for f in (8.0, 40.0))
    woman = replace(slim, sex="F")

    def fat_l(who):
        made = make_scan(who, replace(COARSE, noise_hu=0.0), chest)
        return ((made.hu > -130) & (made.hu < -70)).sum() * np.prod(made.spacing_mm) / 1e6

    assert fat_l(heavy) > fat_l(slim) + 5
    assert 0.2 < fat_l(woman) - fat_l(slim) < 2


def test_the_field_of_view_holds_body_and_lungs(chest):
    made = make_scan(person(), COARSE, chest)
    assert not (made.lungs[[0, -1]] > 0).any()
    assert (made.hu[:, 0] < -900).all()
    assert (made.hu[:, : made.hu.shape[1] // 2, [0, -1]] < -900).all()  # the table is wider
    small = make_scan(person(), replace(COARSE, fov_mm=250.0), chest)
    assert abs(small.hu.shape[2] * 5.0 - 250) <= 5


def test_hard_cases_change_the_truth_with_the_image(chest):
    whole = (make_scan(person(), COARSE, chest).lungs == 1).sum()
    one = make_scan(person(), replace(COARSE, hard=("one-lung-right",)), chest)
    assert not (one.lungs == 1).any()
    assert (one.lungs == 2).any()
    air = make_scan(person(), replace(COARSE, hard=("pneumothorax",)), chest)
    assert 0.3 * whole < (air.lungs == 1).sum() < 0.95 * whole
    cut = make_scan(person(), replace(COARSE, hard=("cut-bottom",)), chest)
    assert (cut.lungs[0] > 0).sum() * 0.25 > 50  # cm2


def test_the_file_shows_the_same_values_at_the_same_points(tmp_path, chest):
    made = make_scan(person(centrilobular=2), COARSE, chest)
    write_nifti(tmp_path / "a.nii.gz", made.hu, made)
    write_nifti(tmp_path / "b.nii.gz", made.lungs, made)
    image, sides = (sitk.ReadImage(str(tmp_path / name)) for name in ("a.nii.gz", "b.nii.gz"))
    right, left = (np.argwhere(made.lungs == label) for label in (1, 2))
    for z, y, x in np.concatenate([right[::2000], left[::2000], [[0, 0, 0], [5, 40, 7]]]):
        point = made.origin_mm + np.array([x, y, z]) * made.spacing_mm
        assert image[image.TransformPhysicalPointToIndex(point.tolist())] == made.hu[z, y, x]
        assert sides[sides.TransformPhysicalPointToIndex(point.tolist())] == made.lungs[z, y, x]
    measured = sitk.LabelShapeStatisticsImageFilter()
    measured.Execute(sides)
    assert measured.GetCentroid(1)[0] < measured.GetCentroid(2)[0] - 100  # ITK speaks LPS
