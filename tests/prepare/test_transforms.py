"""Lungs, coarse images, and the measures of transforms, against fields that are known."""

import numpy as np
import pytest
import SimpleITK as sitk
from prepare.chest import turned
from prepare.ellipsoids import chest

from ctssl.prepare.grid import Grid
from ctssl.prepare.lungs import Lungs, coarse, signed
from ctssl.prepare.transforms import (
    Affine,
    inverse_error_mm,
    map_points,
    min_jacobian,
    overlap,
    warp_to_atlas,
)

AFFINE = Affine(np.array([[1.1, 0.05, 0], [-0.04, 0.95, 0.02], [0, 0.03, 1.06]]), np.array([5.0, -9.0, 30.0]))


def lungs(axes: str = "LPS", spacing_mm: float = 5.0) -> Lungs:
    _, mask, grid = chest(spacing_mm)
    return Lungs(*turned(mask, grid, axes))


def bend(points: np.ndarray) -> np.ndarray:
    """(P, 3) displacement in mm: x moves with y, and y with z, so an axis that is mixed up shows."""
    x, y, z = points.T
    return np.stack([9 * np.sin(y / 40), 6 * np.cos(z / 50), 5 * np.sin(x / 45 + 1)], 1)


def write_field(path, grid: Grid, displacement):
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1).reshape(-1, 3)
    values = displacement(grid.to_points(index.astype(float))).reshape(*grid.shape, 3)
    image = sitk.GetImageFromArray(values, isVector=True)
    image.SetOrigin(grid.origin_mm)
    image.SetSpacing((grid.spacing_mm,) * 3)
    image.SetDirection(grid.direction.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture(params=["LPS", "LAS", "RPI"])
def files(request, tmp_path):
    """Grid along the axes, and the files warp and affine."""
    own = lungs(request.param)
    affine = tmp_path / "affine.mat"
    AFFINE.write(affine)
    return own, [write_field(tmp_path / "warp.nii.gz", own.grid, bend), affine]


def inside(own: Lungs) -> np.ndarray:
    return own.grid.to_points(np.argwhere(own.mask > 0).astype(float))[::97]


def test_points_pass_the_warp_and_then_the_affine(files):
    own, to_scan = files
    points = inside(own)
    np.testing.assert_allclose(map_points(points, to_scan), AFFINE(points + bend(points)), atol=1e-3)


def test_the_jacobian_is_the_derivative_of_the_map(files):
    own, (warp, affine) = files
    points, h = own.grid.to_points(np.argwhere(own.mask > 0).astype(float)), 1e-3
    columns = []
    for unit in np.eye(3):
        there, here = points + h * unit, points - h * unit
        columns.append((AFFINE(there + bend(there)) - AFFINE(here + bend(here))) / (2 * h))
    true = np.linalg.det(np.stack(columns, -1)).min()
    assert min_jacobian(own, warp, affine) == pytest.approx(true, abs=0.01)


def test_a_fold_has_a_negative_jacobian(tmp_path):
    own = lungs()
    warp = write_field(tmp_path / "warp.nii.gz", own.grid, lambda p: p * [0, 0, 1] * -1.5)
    affine = tmp_path / "affine.mat"
    Affine(np.eye(3), np.zeros(3)).write(affine)
    assert min_jacobian(own, warp, affine) == pytest.approx(-0.5, abs=1e-3)


def test_the_error_of_an_inverse_is_how_far_it_leads_astray(files, tmp_path):
    """The inverse of a shift by (6, -2, 3) that forgets half of it."""
    own, (_, affine) = files
    there = write_field(tmp_path / "there.nii.gz", own.grid, lambda p: np.tile([6.0, -2, 3], (len(p), 1)))
    back = write_field(tmp_path / "back.nii.gz", own.grid, lambda p: np.tile([-3.0, 1, -1.5], (len(p), 1)))
    errors = inverse_error_mm(inside(own), [there, affine], back, affine)
    np.testing.assert_allclose(errors, 3.5, atol=1e-4)


@pytest.mark.parametrize("labels", [True, False])
def test_an_array_seen_from_the_atlas_is_looked_up_where_points_go(files, labels):
    own, to_scan = files
    grid = Grid((-200.0, -160.0, -160.0), 4.0, (110, 90, 110), "LPS")
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    points = grid.to_points(index.astype(float))
    plane = (points @ [0.5, -0.3, 0.8]).astype(np.float32)
    array = np.where(plane > 20, 2, 1).astype(np.uint8) if labels else plane
    got = warp_to_atlas(array, grid, own.grid, to_scan, labels=labels, outside=0)
    assert got.dtype == array.dtype
    where = np.argwhere(own.mask > 0)[::97]
    there = map_points(own.grid.to_points(where.astype(float)), to_scan) @ [0.5, -0.3, 0.8]
    values = got[tuple(where.T)]
    if labels:
        sure = np.abs(there - 20) > 4
        np.testing.assert_array_equal(values[sure], np.where(there > 20, 2, 1)[sure])
    else:
        np.testing.assert_allclose(values, there, atol=0.01)


def test_overlap_is_counted_for_each_lung(tmp_path):
    """The atlas's left lung lost its lower half; the right is the same; nobody has a third."""
    own = lungs()
    half = own.mask.copy()
    half[: half.shape[0] // 2][half[: half.shape[0] // 2] == 2] = 0
    same = tmp_path / "same.mat"
    Affine(np.eye(3), np.zeros(3)).write(same)
    share = np.count_nonzero(half == 2) / np.count_nonzero(own.mask == 2)
    got = overlap(own, Lungs(half, own.grid), [same])
    assert got["dice_right"] == 1.0
    assert got["dice_left"] == pytest.approx(2 * share / (1 + share), abs=1e-3)
    right = Lungs(np.where(own.mask == 1, 1, 0).astype(np.uint8), own.grid)
    assert overlap(right, right, [same]) == {"dice_right": 1.0, "dice_left": None}


def test_overlap_of_shifted_lungs_is_that_of_shifted_arrays(tmp_path):
    fine, affine = lungs(spacing_mm=2.0), tmp_path / "affine.mat"
    Affine(np.eye(3), np.array([6.0, 4.0, -4.0])).write(affine)
    ours = np.roll(fine.mask, (2, -2, -3), (0, 1, 2))
    got = overlap(fine, fine, [affine])
    for name, label in (("right", 1), ("left", 2)):
        both = np.count_nonzero((ours == label) & (fine.mask == label))
        assert got[f"dice_{name}"] == pytest.approx(both / np.count_nonzero(ours == label), abs=1e-3)


@pytest.mark.parametrize("axes", ["LPS", "LAS", "RPI"])
@pytest.mark.parametrize("spacing_mm", [1.5, 5.0])
def test_coarse_lungs_lie_where_the_fine_ones_do(axes, spacing_mm):
    own = lungs(axes, spacing_mm)
    values, grid = coarse(signed(own.mask), own.grid, 6.0, pad_mm=18.0, sigma_mm=3.0)
    for sign, label in ((1, 1), (-1, 2)):
        fine = own.grid.to_points(np.argwhere(own.mask == label).astype(float))
        weight = np.clip(sign * values, 0, None)
        points = grid.to_points(np.argwhere(weight > 0).astype(float))
        middle = (points * weight[weight > 0][:, None]).sum(0) / weight.sum()
        np.testing.assert_allclose(middle, fine.mean(0), atol=0.3)
        litres = weight.sum() * 6.0**3 / 1e6
        assert litres == pytest.approx(len(fine) * spacing_mm**3 / 1e6, rel=0.01)


@pytest.mark.parametrize("axes", ["LPS", "RAI", "LAS", "RPS"])
@pytest.mark.parametrize("face", ["right", "left", "front", "back", "bottom", "top"])
@pytest.mark.parametrize("by", ["the array's end", "what was not seen"])
def test_a_field_of_view_that_cuts_the_lungs_names_its_face(axes, face, by):
    """Cut 20 mm inside the lungs, at each face of the body, whatever axes the array has."""
    _, mask, grid = chest(5.0)
    points = grid.to_points(np.argwhere(mask > 0).astype(float))
    axis, far = divmod(["right", "left", "front", "back", "bottom", "top"].index(face), 2)
    low, high = np.zeros(3, int), np.array(mask.shape)
    ends = points.max(0) - 20 if far else points.min(0) + 20
    (high if far else low)[2 - axis] = int(grid.to_array(ends)[2 - axis])
    part = tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))
    if by == "the array's end":
        scan = Lungs(*turned(mask[part], grid.crop(low, high), axes))
    else:
        seen = np.zeros(mask.shape, bool)
        seen[part] = True
        shown, turned_grid = turned(np.where(seen, mask, 0), grid, axes)
        scan = Lungs(shown, turned_grid, seen=turned(seen, grid, axes)[0])
    assert scan.cut_faces() == (face,)
    assert Lungs(*turned(mask, grid, axes)).cut_faces() == ()
    beyond, before = np.zeros((2, 3))
    beyond[axis], before[axis] = (1, -1) if far else (-1, 1)
    edge = np.where(np.eye(3)[axis] > 0, ends, points.mean(0))
    assert scan.sees(np.stack([edge + 12 * before, edge + 12 * beyond]), (face,)).tolist() == [True, False]


@pytest.mark.parametrize(("gone", "name"), [(1, "right"), (2, "left")])
def test_a_lung_of_a_few_voxels_is_missing(gone, name):
    own = lungs()
    rest = np.argwhere(own.mask == gone)[20:]
    own.mask[tuple(rest.T)] = 0
    assert own.missing() == name
    assert lungs().missing() == ""
    assert set(np.unique(own.only([3 - gone]).mask)) == {0, 3 - gone}
