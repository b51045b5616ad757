"""One anatomy stored along its axes in all 48 orders: the same volume, mask and patches, and no side swapped.

SimpleITK's DICOMOrient stores the orders, so that ours are not tested with ours.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from prepare import ellipsoids
from prepare.chest import AXES

from ctssl.prepare.chest import Frame, ScannedChest, read_chest
from ctssl.prepare.grid import LEFT, RIGHT
from ctssl.prepare.landmarks import extract_patches
from ctssl.prepare.machine import Machine

NODULE_MM = np.array([-75.0, -38.0, 60.0])
"""In the right lung, in front and above: no other place looks like it."""

SPACING_MM = (3.5, 4.0, 5.0)
FRAME = Frame("LPS", 4.0, margin_voxels=8)
MIRRORS = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])


@cache
def stored() -> sitk.Image:
    """The chest with its nodule, voxels of 3.5 x 4 x 5 mm."""
    hu, _, grid = ellipsoids.chest(2.5)
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    hu[np.linalg.norm(grid.to_points(index.astype(float)) - NODULE_MM, axis=-1) < 12] = 300
    image = sitk.GetImageFromArray(hu)
    image.SetOrigin(grid.origin_mm)
    image.SetSpacing((grid.spacing_mm,) * 3)
    size = [int(n * 2.5 / step) for n, step in zip(grid.size, SPACING_MM, strict=True)]
    return sitk.Resample(
        image,
        size,
        sitk.Transform(),
        sitk.sitkLinear,
        grid.origin_mm,
        SPACING_MM,
        image.GetDirection(),
        -1000,
    )


def read(folder: Path, axes: str, suffix: str) -> ScannedChest:
    path = folder / f"{axes}{suffix}"
    sitk.WriteImage(sitk.DICOMOrient(stored(), axes), str(path))
    settings = {
        "image": str(path),
        "series_uid": None,
        "mask_image": None,
        "volume": {"hu_min": -1024, "hu_max": 3071},
        "mask": {"method": "threshold", "min_lung_l": 0.3},
    }
    return read_chest(settings, FRAME, Machine(10**8))


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> ScannedChest:
    return read(tmp_path_factory.mktemp("plain"), "LPS", ".mha")


@pytest.mark.parametrize("axes", AXES)
def test_every_order_gives_the_same_volume_mask_and_patches(tmp_path, plain, axes):
    chest = read(tmp_path, axes, (".nii", ".nrrd", ".nii.gz", ".mha")[AXES.index(axes) % 4])
    np.testing.assert_allclose(chest.grid.origin_mm, plain.grid.origin_mm, atol=1e-3)
    assert (chest.grid.size, chest.grid.axes) == (plain.grid.size, plain.grid.axes)
    np.testing.assert_allclose(chest.hu, plain.hu, atol=1)
    assert np.mean(chest.hu != plain.hu) < 0.01
    assert np.mean(chest.mask != plain.mask) < 1e-4
    centres = np.concatenate([MIRRORS * NODULE_MM, ellipsoids.RADII[1] * MIRRORS[1:] / 2])
    ours, theirs = (
        extract_patches(one.hu, one.grid, centres, edge=16, outside=-1024) for one in (chest, plain)
    )
    np.testing.assert_allclose(ours, theirs, atol=1)


@pytest.mark.parametrize("axes", AXES[::5])
def test_the_nodule_is_where_it_is_and_not_at_its_mirror_images(tmp_path, axes):
    chest = read(tmp_path, axes, ".nii.gz")
    at, *mirrored = chest.grid.to_array(MIRRORS * NODULE_MM)
    spot = tuple(np.rint(at).astype(int))
    assert chest.hu[spot] > 200
    assert chest.mask[spot] == RIGHT
    for place in mirrored:
        spot = tuple(np.rint(place).astype(int))
        assert chest.hu[spot] < -700
    assert chest.mask[tuple(np.rint(mirrored[0]).astype(int))] == LEFT


@pytest.mark.parametrize("label", [RIGHT, LEFT])
def test_each_lung_is_the_known_one(plain, label):
    index = np.stack(np.meshgrid(*map(np.arange, plain.grid.shape), indexing="ij"), -1)
    truth = ellipsoids.lungs(plain.grid.to_points(index.astype(float))) == label
    ours = plain.mask == label
    assert 2 * (ours & truth).sum() / (ours.sum() + truth.sum()) > 0.95
