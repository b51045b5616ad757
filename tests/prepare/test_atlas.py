"""The built-in atlas, and what every atlas shares: id, neighbours, coordinates, files."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prepare.ellipsoids import chest

from ctssl.cohorts.phantom import lungs as truth
from ctssl.errors import ConfigError, StoreError
from ctssl.prepare.atlas import Anatomy, landmarked, read_atlas, write_atlas
from ctssl.prepare.atlas_sources import build_atlas
from ctssl.prepare.grid import Grid
from ctssl.prepare.images import read_array
from ctssl.prepare.machine import Machine

NUMBERS = {"spacing_mm": 5.0, "patch_voxels": 16, "pitch_mm": 50.0, "min_lung_fraction": 0.1}
SETTINGS = {
    "atlas": {
        **NUMBERS,
        "source": "builtin",
        **dict.fromkeys(("mask", "ct", "landmarks", "landmark_points")),
        "scans": (),
    }
}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    return folder, build_atlas(folder, SETTINGS, Machine(10**8))


def test_lobes_of_the_built_in_atlas_are_the_canonical_ones(built):
    lobes, grid = read_array(built[0] / "lobes.nii.gz")
    rng = np.random.default_rng(0)
    inside = np.argwhere(lobes > 0)
    voxels = inside[rng.integers(0, len(inside), 400)]
    points = grid.to_points(voxels.astype(float))
    known = np.array([int(truth.lobes(*(np.array([[[c]]]) for c in p)).item()) for p in points])
    assert (known == lobes[tuple(voxels.T)]).mean() > 0.97  # vessels and fissures are a voxel thick


def test_mask_ct_and_lobes_of_the_built_in_atlas_agree(built):
    (mask, grid), (hu, _), (lobes, _) = (
        read_array(built[0] / f"{n}.nii.gz") for n in ("mask", "ct", "lobes")
    )
    np.testing.assert_array_equal(mask, np.where(lobes > 3, 2, lobes > 0))
    assert mask.dtype == np.uint8
    assert np.median(hu[mask > 0]) < -800 < -200 < np.median(hu[(mask == 0) & (hu > -500)])
    centres = [grid.to_points(np.argwhere(mask == side).astype(float))[:, 0].mean() for side in (1, 2)]
    assert centres[0] < -40 < 40 < centres[1]


def test_each_landmark_has_the_lobe_that_fills_most_of_its_patch(built):
    lobes, grid = read_array(built[0] / "lobes.nii.gz")
    atlas = read_atlas(built[0])
    where = np.argwhere(lobes > 0)
    points, labels = grid.to_points(where.astype(float)), lobes[lobes > 0]
    half = 16 * 5.0 / 2
    for centre, got in zip(atlas.landmarks_mm, atlas.lobes, strict=True):
        near = (np.abs(points - centre) < half).all(1)
        counts = np.bincount(labels[near], minlength=6)
        assert counts[got] > 0.9 * counts.max()  # the patch's rim lies between voxels
    assert set(atlas.lobes.tolist()) == {1, 2, 3, 4, 5}


def test_rows_run_x_slowest_z_fastest_and_neighbours_are_one_pitch_apart(built):
    atlas = built[1]
    points = atlas.landmarks_mm
    np.testing.assert_array_equal(np.lexsort(points.T[::-1]), np.arange(len(points)))
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.testing.assert_array_equal(atlas.neighbours, np.argwhere(np.triu(np.isclose(apart, 50.0, atol=1e-3))))


def test_coordinates_run_from_0_to_1(built):
    coordinates = built[1].coordinates()
    np.testing.assert_allclose(coordinates.min(0), 0)
    np.testing.assert_allclose(coordinates.max(0), 1)
    steps = np.diff(np.unique(np.round(coordinates[:, 0], 4)))
    np.testing.assert_allclose(steps, steps[0], atol=2e-4)


def test_what_is_read_is_what_was_built(built):
    read = read_atlas(built[0])
    for name, value in vars(built[1]).items():
        np.testing.assert_array_equal(getattr(read, name), value, err_msg=name)


LIGHT = """
import importlib.abc, sys
ALLOWED = {"numpy", "scipy", "ctssl", "__future__"} | set(sys.stdlib_module_names)

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] not in ALLOWED and not name.startswith("_sysconfigdata"):
            raise ImportError(f"{name} is not on this machine")

sys.meta_path.insert(0, Refuse())
from pathlib import Path
from ctssl.prepare.atlas import builtin_atlas, read_atlas, write_card
atlas, chest = builtin_atlas(5, 16, 50, 0.1)
assert chest.grid.shape == chest.hu.shape == chest.lobes.shape
write_card(Path(sys.argv[1]), atlas, {"source": "builtin"})
print(read_atlas(Path(sys.argv[1])).id)
"""


def test_a_machine_with_numpy_and_scipy_alone_makes_the_same_atlas(built, tmp_path):
    command = [sys.executable, "-c", LIGHT, str(tmp_path)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == built[1].id
    assert (tmp_path / "atlas.json").read_bytes() == (built[0] / "atlas.json").read_bytes()


@pytest.fixture(scope="module")
def anatomy():
    hu, mask, grid = chest()
    return Anatomy(grid, mask, hu)


def id_of(anatomy: Anatomy, **changes) -> str:
    numbers = {"patch_voxels": 16, "pitch_mm": 60.0, "min_lung_fraction": 0.1}
    return landmarked(anatomy, **numbers | changes).id


def test_the_id_follows_all_that_volumes_and_landmarks_depend_on(anatomy):
    mask = anatomy.lungs.copy()
    mask[tuple(np.argwhere(mask)[1000])] = 0
    grid = anatomy.grid
    moved = Grid((grid.origin_mm[0] + 0.01, *grid.origin_mm[1:]), grid.spacing_mm, grid.size, "LPS")
    ids = [
        id_of(anatomy),
        id_of(replace(anatomy, lungs=mask)),
        id_of(replace(anatomy, grid=moved)),
        id_of(anatomy, patch_voxels=18),
        id_of(anatomy, pitch_mm=61.0),
        id_of(anatomy, min_lung_fraction=0.3),
        id_of(anatomy, landmarks_mm=np.array([[70.0, 0, 0], [-70, 0, 0]])),
        id_of(anatomy, landmarks_mm=np.array([[-70.0, 0, 0], [70, 0, 0]])),
        id_of(anatomy, files={"mask": "ab"}),
    ]
    assert len(set(ids)) == len(ids)
    assert id_of(replace(anatomy, hu=None)) == ids[0]  # no store depends on the CT


def test_lobes_that_nobody_knows_stay_unknown(anatomy, tmp_path):
    atlas = landmarked(anatomy, patch_voxels=16, pitch_mm=60.0, min_lung_fraction=0.1)
    write_atlas(tmp_path, atlas, replace(anatomy, hu=None), {"source": "file"})
    assert read_atlas(tmp_path).lobes is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["atlas.json", "mask.nii.gz"]


def test_an_atlas_without_landmarks_is_an_error(anatomy):
    with pytest.raises(ConfigError, match="has 0 landmarks") as fault:
        landmarked(anatomy, patch_voxels=64, pitch_mm=60.0, min_lung_fraction=0.99)
    assert "min_lung_fraction" in fault.value.advice


@pytest.mark.parametrize("card", [None, "{", "[]", json.dumps({"id": "x"})])
def test_no_atlas_is_an_error(tmp_path, card):
    if card is not None:
        (Path(tmp_path) / "atlas.json").write_text(card)
    with pytest.raises(StoreError, match="holds no atlas"):
        read_atlas(tmp_path)
