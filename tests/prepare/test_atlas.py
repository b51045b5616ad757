import json
from itertools import product

import numpy as np
import pytest
import SimpleITK as sitk

from ctssl.cohorts.phantom import anatomy
from ctssl.config.prepare import Atlas as Settings
from ctssl.errors import StoreError
from ctssl.prepare.atlas import build_atlas, grid_landmarks, read_atlas
from ctssl.prepare.grid import Grid

SETTINGS = Settings(source="builtin", spacing_mm=5.0, pitch_mm=50.0, min_lung_fraction=0.1)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    return folder, build_atlas(folder, SETTINGS)


def test_the_mask_is_the_canonical_anatomy(built):
    image = sitk.ReadImage(str(built[0] / "mask.nii.gz"))
    mask = sitk.GetArrayFromImage(image)
    assert set(np.unique(mask)) == {0, 1, 2}
    rng = np.random.default_rng(0)
    for index in rng.integers(0, image.GetSize(), (300, 3)).tolist():
        point = np.array(image.TransformIndexToPhysicalPoint(index))
        assert image[index] == anatomy.lungs(point)


def test_landmarks_are_the_points_of_the_grid_whose_patch_holds_lung():
    """Of a lung that is a box, the share of lung in a patch is a product of three shares."""
    lungs = np.zeros((70, 90, 80), bool)
    lungs[20:55, 10:70, 30:60] = True
    grid = Grid((-40.0, 10.0, -7.0), 2.0, (80, 90, 70), "LPS")
    expected = []
    axes = []
    for axis, (first, last, size) in enumerate([(30, 59, 80), (10, 69, 90), (20, 54, 70)]):
        line = np.zeros(size)
        line[first : last + 1] = 1
        length = 2.0 * (last - first)
        count = int(np.ceil(length / 30)) + 1
        centre = grid.origin_mm[axis] + (first + last) / 2 * 2.0
        places = centre + 30 * (np.arange(count) - (count - 1) / 2)
        index = (places - grid.origin_mm[axis]) / 2.0
        shares = [np.interp(i + np.arange(32) - 15.5, range(size), line).mean() for i in index]
        axes.append(list(zip(places, shares, strict=True)))
    for (x, a), (y, b), (z, c) in product(*axes):
        if a * b * c > 0.12:
            expected.append([x, y, z])
    got = grid_landmarks(lungs, grid, 30.0, 0.12)
    np.testing.assert_allclose(got, expected)
    assert 0 < len(got) < len(axes[0]) * len(axes[1]) * len(axes[2])


def test_rows_run_x_slowest_z_fastest_and_neighbours_are_one_pitch_apart(built):
    atlas = built[1]
    points = atlas.landmarks_mm
    np.testing.assert_array_equal(np.lexsort(points.T[::-1]), np.arange(len(points)))
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.testing.assert_array_equal(atlas.neighbours, np.argwhere(np.triu(np.isclose(apart, 50.0))))


def test_coordinates_run_from_0_to_1(built):
    coordinates = built[1].coordinates()
    np.testing.assert_allclose(coordinates.min(0), 0)
    np.testing.assert_allclose(coordinates.max(0), 1)
    steps = np.diff(np.unique(np.round(coordinates[:, 0], 9)))
    np.testing.assert_allclose(steps, steps[0])


def test_the_id_follows_the_settings(built, tmp_path):
    again = build_atlas(tmp_path / "again", SETTINGS)
    assert again.id == built[1].id
    for name in ("mask.nii.gz", "atlas.json"):
        assert (tmp_path / "again" / name).read_bytes() == (built[0] / name).read_bytes()
    other = build_atlas(tmp_path / "other", SETTINGS.model_copy(update={"pitch_mm": 60.0}))
    assert other.id != again.id


def test_no_atlas_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="holds no atlas"):
        read_atlas(tmp_path)
    (tmp_path / "atlas.json").write_text("{")
    with pytest.raises(StoreError, match="holds no atlas"):
        read_atlas(tmp_path)
    (tmp_path / "atlas.json").write_text(json.dumps({"id": "x"}))
    with pytest.raises(StoreError, match="holds no atlas"):
        read_atlas(tmp_path)
