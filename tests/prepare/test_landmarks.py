from itertools import product

import numpy as np
import pytest
from prepare.chest import AXES, grid_of, scan, turned
from scipy.ndimage import map_coordinates

from ctssl.prepare.grid import Grid
from ctssl.prepare.landmarks import (
    extract_patches,
    grid_landmarks,
    lung_fraction,
    main_labels,
    valid_landmarks,
)

OFFSET = np.arange(32) - 15.5


def patch_points(centre: np.ndarray, grid: Grid) -> np.ndarray:
    """(32, 32, 32, 3) where the voxels of a patch lie: along the grid's axes, 15.5 voxels to each side."""
    z, y, x = np.meshgrid(OFFSET, OFFSET, OFFSET, indexing="ij")
    return centre + np.stack([x, y, z], -1) * grid.spacing_mm @ grid.direction.T


@pytest.mark.parametrize("axes", AXES)
def test_trap_4_points_are_x_y_z_and_arrays_z_y_x(axes):
    grid = Grid((-40.0, 25.0, -60.0), 1.5, (60, 52, 56), axes)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    ramp = (grid.to_points(index) @ [1.0, 20.0, 0.05] - 300).astype(np.float32)
    middle = grid.to_points(np.array(grid.shape) / 2)
    centres = middle + np.array([[0.0, 0, 0], [4.1, -2.7, 3.3]])
    for patch, centre in zip(extract_patches(ramp, grid, centres, edge=32, outside=0), centres, strict=True):
        expected = patch_points(centre, grid) @ [1.0, 20.0, 0.05] - 300
        np.testing.assert_allclose(patch, expected, atol=2e-3)


@pytest.mark.parametrize("axes", ["LAS", "RPI", "SPL"])
def test_trap_3_a_centre_finds_the_same_block_along_flipped_axes(axes):
    """A corner would land one patch away; a centre shows the same values, turned."""
    made = scan()
    grid = grid_of(made)
    other, other_grid = turned(made.hu, grid, axes)
    centre = grid.to_points(np.array([[35.5, 30.5, 40.5]]))
    ours = extract_patches(made.hu, grid, centre, edge=32, outside=-1024)[0]
    theirs = extract_patches(other, other_grid, centre, edge=32, outside=-1024)[0]
    cube = Grid((0.0, 0.0, 0.0), 1.0, (32, 32, 32), "LPS")
    np.testing.assert_array_equal(theirs, turned(ours, cube, axes)[0])


def test_trap_3_the_centre_lies_between_the_middle_voxels():
    volume = np.random.default_rng(0).integers(-1000, 1000, (40, 41, 42)).astype(np.int16)
    grid = Grid((0.0, 0.0, 0.0), 1.0, (42, 41, 40), "LPS")
    patch = extract_patches(volume, grid, np.array([[3 + 15.5, 5 + 15.5, 7 + 15.5]]), edge=32, outside=0)[0]
    np.testing.assert_array_equal(patch, volume[7:39, 5:37, 3:35])


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_patches_equal_scipy_for_any_centre(dtype):
    rng = np.random.default_rng(2)
    volume = rng.uniform(-1000, 1000, (45, 40, 50)).astype(dtype)
    grid = Grid((10.0, -20.0, 5.0), 2.0, (50, 40, 45), "LPS")
    positions = np.concatenate(
        [
            rng.uniform(-10, 55, (8, 3)),  # many reach beyond the volume
            rng.integers(0, 40, (3, 3)),
            rng.integers(0, 40, (3, 3)) + 0.5,
            [[200.0, 20, 20], [-17.5, 20, 20]],
        ]
    )
    got = extract_patches(volume, grid, grid.to_points(positions), edge=32, outside=-1024)
    padded = np.pad(volume.astype(float), 2, constant_values=-1024)  # beyond the edge lies air, not nothing
    for patch, position in zip(got, positions, strict=True):
        where = np.meshgrid(*[c + 2 + OFFSET for c in position], indexing="ij")
        expected = map_coordinates(padded, where, order=1, cval=-1024)
        assert patch.dtype == dtype
        np.testing.assert_allclose(patch, expected, atol=0.502 if dtype == np.int16 else 2e-3)


def test_far_outside_is_only_the_outside_value():
    grid = Grid((0.0, 0.0, 0.0), 1.0, (8, 8, 8), "LPS")
    patch = extract_patches(np.zeros((8, 8, 8), np.int16), grid, np.array([[1e4, 0, 0]]), edge=32, outside=-7)
    assert (patch == -7).all()


@pytest.mark.parametrize("axes", ["LPS", "RAI", "SLP"])
def test_valid_equals_counting_voxels(axes):
    rng = np.random.default_rng(3)
    grid = Grid((-5.0, 3.0, 9.0), 1.25, (50, 38, 44), axes)
    positions = rng.integers(-12, 60, (300, 3)) + 0.5  # then voxels of patch and volume coincide
    fractions = []
    for position in positions:
        inside = [
            ((position[d] + OFFSET >= 0) & (position[d] + OFFSET <= grid.shape[d] - 1)).mean()
            for d in range(3)
        ]
        fractions.append(np.prod(inside))
    centre = ((positions >= -0.5) & (positions <= np.array(grid.shape) - 0.5)).all(1)
    for share in (0.0, 0.3, 0.5, 0.9, 1.0):
        expected = centre & (np.array(fractions) >= share - 1e-9)
        np.testing.assert_array_equal(
            valid_landmarks(grid.to_points(positions), grid, share, edge=32), expected
        )
    assert 0 < expected.sum() < centre.sum()


@pytest.mark.parametrize("edge", [16, 48])
def test_patches_of_any_edge_share_their_middle(edge):
    """The middle of a larger patch is the smaller one, and beyond lie the voxels next to it."""
    rng = np.random.default_rng(4)
    volume = rng.uniform(-1000, 1000, (60, 64, 58)).astype(np.float32)
    grid = Grid((3.0, 4.0, 5.0), 1.5, (58, 64, 60), "LPS")
    centre = np.array([[29.25, 31.5, 28.75]])
    patch = extract_patches(volume, grid, grid.to_points(centre), edge=edge, outside=0)[0]
    assert patch.shape == (edge,) * 3
    offset = np.arange(edge) - (edge - 1) / 2
    where = np.meshgrid(*[c + offset for c in centre[0]], indexing="ij")
    np.testing.assert_allclose(patch, map_coordinates(volume.astype(float), where, order=1), atol=2e-3)


@pytest.mark.parametrize("edge", [16, 32])
def test_landmarks_are_the_points_of_the_grid_whose_patch_holds_lung(edge):
    """Of a lung that is a box, the share of lung in a patch is a product of three shares."""
    lungs = np.zeros((70, 90, 80), np.uint8)
    lungs[20:55, 10:70, 30:60] = 2
    grid = Grid((-40.0, 10.0, -7.0), 2.0, (80, 90, 70), "LPS")
    expected, shares_of, axes = [], [], []
    for axis, (first, last, size) in enumerate([(30, 59, 80), (10, 69, 90), (20, 54, 70)]):
        line = np.zeros(size)
        line[first : last + 1] = 1
        count = int(np.ceil(2.0 * (last - first) / 30)) + 1
        centre = grid.origin_mm[axis] + (first + last) / 2 * 2.0
        places = centre + 30 * (np.arange(count) - (count - 1) / 2)
        index = (places - grid.origin_mm[axis]) / 2.0
        offset = np.arange(edge) - (edge - 1) / 2
        shares = [np.interp(i + offset, range(size), line, 0, 0).mean() for i in index]
        axes.append(list(zip(places, shares, strict=True)))
    for (x, a), (y, b), (z, c) in product(*axes):
        if a * b * c > 0.12:
            expected.append([x, y, z])
            shares_of.append(a * b * c)
    got = grid_landmarks(lungs, grid, edge=edge, pitch_mm=30.0, min_lung_fraction=0.12)
    np.testing.assert_allclose(got, expected)
    np.testing.assert_allclose(lung_fraction(lungs, grid, got, edge=edge), shares_of, rtol=1e-5)
    assert 0 < len(got) < len(axes[0]) * len(axes[1]) * len(axes[2])


def test_lungs_of_whole_pitches_get_the_same_grid_wherever_they_lie():
    """41 voxels of 0.7 mm reach over 28 mm, which is 2 pitches and so 3 landmarks: neither 2 nor 4."""
    lungs = np.ones((41, 41, 41), np.uint8)
    for origin in np.random.default_rng(5).uniform(-300, 300, (40, 3)).round(1):
        grid = Grid(tuple(origin), 0.7, (41, 41, 41), "LPS")
        got = grid_landmarks(lungs, grid, edge=16, pitch_mm=14.0, min_lung_fraction=0.0)
        assert len(got) == 27
        np.testing.assert_allclose(got[0], origin, atol=1e-6)


def test_the_main_label_of_a_patch_is_its_most_frequent_one():
    rng = np.random.default_rng(6)
    labels = rng.integers(0, 3, (10, 12, 9)).repeat(6, 0).repeat(6, 1).repeat(6, 2).astype(np.uint8)
    labels[:, :, :18] = 0
    grid = Grid((0.0, 0.0, 0.0), 1.0, labels.shape[::-1], "LPS")
    positions = rng.integers(-20, 70, (60, 3)) + 0.5
    expected = []
    for position in positions:
        low = (position - 7.5).astype(int)
        part = labels[tuple(slice(max(a, 0), max(a + 16, 0)) for a in low)]
        counts = [(part == 1).sum(), (part == 2).sum()]
        expected.append(0 if not any(counts) else 1 + int(counts[1] > counts[0]))
    got = main_labels(labels, grid, grid.to_points(positions), edge=16)
    np.testing.assert_array_equal(got, expected)
    assert set(expected) == {0, 1, 2}


def test_what_the_scanner_did_not_see_counts_as_outside():
    """An unseen half space leaves the same landmarks as a grid that ends there."""
    whole = Grid((0.0, 0.0, 0.0), 2.0, (60, 50, 55), "LPS")
    part = Grid((0.0, 0.0, 0.0), 2.0, (60, 50, 30), "LPS")
    seen = np.zeros(whole.shape, bool)
    seen[:30] = True
    positions = np.random.default_rng(5).integers(0, 49, (200, 3)) + 0.5
    points = whole.to_points(positions[positions[:, 0] != 29.5])  # on the border itself both may be right
    for share in (0.2, 0.5, 0.8):
        ours = valid_landmarks(points, whole, share, edge=16, seen=seen)
        np.testing.assert_array_equal(ours, valid_landmarks(points, part, share, edge=16))
        assert 0 < ours.sum() < len(ours)
