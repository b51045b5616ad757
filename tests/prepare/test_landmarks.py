import numpy as np
import pytest
from prepare.chest import AXES, grid_of, scan, turned
from scipy.ndimage import map_coordinates

from ctssl.prepare.grid import Grid
from ctssl.prepare.landmarks import extract_patches, valid_landmarks

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
    for patch, centre in zip(extract_patches(ramp, grid, centres, outside=0), centres, strict=True):
        expected = patch_points(centre, grid) @ [1.0, 20.0, 0.05] - 300
        np.testing.assert_allclose(patch, expected, atol=2e-3)


@pytest.mark.parametrize("axes", ["LAS", "RPI", "SPL"])
def test_trap_3_a_centre_finds_the_same_block_along_flipped_axes(axes):
    """A corner would land one patch away; a centre shows the same values, turned."""
    made = scan()
    grid = grid_of(made)
    other, other_grid = turned(made.hu, grid, axes)
    centre = grid.to_points(np.array([[35.5, 30.5, 40.5]]))
    ours = extract_patches(made.hu, grid, centre, outside=-1024)[0]
    theirs = extract_patches(other, other_grid, centre, outside=-1024)[0]
    cube = Grid((0.0, 0.0, 0.0), 1.0, (32, 32, 32), "LPS")
    np.testing.assert_array_equal(theirs, turned(ours, cube, axes)[0])


def test_trap_3_the_centre_lies_between_the_middle_voxels():
    volume = np.random.default_rng(0).integers(-1000, 1000, (40, 41, 42)).astype(np.int16)
    grid = Grid((0.0, 0.0, 0.0), 1.0, (42, 41, 40), "LPS")
    patch = extract_patches(volume, grid, np.array([[3 + 15.5, 5 + 15.5, 7 + 15.5]]), outside=0)[0]
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
    got = extract_patches(volume, grid, grid.to_points(positions), outside=-1024)
    padded = np.pad(volume.astype(float), 2, constant_values=-1024)  # beyond the edge lies air, not nothing
    for patch, position in zip(got, positions, strict=True):
        where = np.meshgrid(*[c + 2 + OFFSET for c in position], indexing="ij")
        expected = map_coordinates(padded, where, order=1, cval=-1024)
        assert patch.dtype == dtype
        np.testing.assert_allclose(patch, expected, atol=0.502 if dtype == np.int16 else 2e-3)


def test_far_outside_is_only_the_outside_value():
    grid = Grid((0.0, 0.0, 0.0), 1.0, (8, 8, 8), "LPS")
    patch = extract_patches(np.zeros((8, 8, 8), np.int16), grid, np.array([[1e4, 0, 0]]), outside=-7)
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
        np.testing.assert_array_equal(valid_landmarks(grid.to_points(positions), grid, share), expected)
    assert 0 < expected.sum() < centre.sum()
