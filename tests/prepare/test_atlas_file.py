"""Atlases from files: the published one, whose numbers are known, and small ones."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from prepare.chest import turned
from prepare.ellipsoids import chest, write
from prepare.file_atlas import HERE, build
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ctssl.config import read
from ctssl.errors import ConfigError
from ctssl.prepare.atlas import read_atlas
from ctssl.prepare.atlas_sources import build_atlas
from ctssl.prepare.graph import scan_edges
from ctssl.prepare.images import read_array
from ctssl.prepare.landmarks import extract_patches

ROOT = Path(__file__).parents[2]
MASK, CORNERS = ROOT / "atlases/copdgene/lung_mask.nii.gz", ROOT / "atlases/copdgene/patch_loc.npy"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The atlas of config/copdgene-atlas.yaml, at 4 mm instead of 1 to be quick."""
    folder = tmp_path_factory.mktemp("copdgene")
    settings = read(ROOT / "config/copdgene-atlas.yaml").atlas.model_dump()
    settings |= {"mask": MASK, "landmarks": CORNERS, "spacing_mm": 4.0, "patch_voxels": 16}
    return folder, build_atlas(folder, {"atlas": settings}, HERE)


def test_the_published_files_are_the_released_ones():
    for path in (MASK, CORNERS):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest in (path.parent / "README.md").read_text()


def test_trap_5_the_published_landmarks_are_all_kept_in_their_order(published):
    """Middles of the cubes, through ITK's own geometry of the file."""
    image = sitk.ReadImage(str(MASK))
    corners = np.load(CORNERS)
    assert corners.shape == (581, 3)
    centres = [image.TransformContinuousIndexToPhysicalPoint((c + 15.5).tolist()) for c in corners]
    atlas = read_atlas(published[0])
    np.testing.assert_allclose(atlas.landmarks_mm, centres, atol=1e-3)
    assert atlas.lobes is None


def test_the_published_atlas_keeps_its_axes_and_its_graph(published):
    atlas = published[1]
    assert atlas.axes == "LAS"
    assert len(atlas.neighbours) == 1398
    degree = np.bincount(atlas.neighbours.ravel(), minlength=581)
    assert (degree.min(), degree.max()) == (1, 6)
    joined = coo_matrix((np.ones(1398), atlas.neighbours.T), (581, 581))
    assert connected_components(joined, directed=False)[0] == 1


@pytest.mark.parametrize(("scale", "count"), [(0.75, 3902), (0.9, 1398), (1.0, 1398), (1.08, 0), (1.2, 0)])
def test_trap_6_the_released_overlap_rule_loses_the_published_edges(published, scale, count):
    """At size 1 as released; larger lungs lose every edge, much smaller ones gain diagonals."""
    atlas = _with_edge_32_mm(published[1])
    points, valid = scale * atlas.landmarks_mm, np.ones(581, bool)
    plain = scan_edges(points, valid, atlas, edges="overlap", min_overlap=0.13)
    expected = _overlap_by_hand(points, 32.0) > 0.13
    np.testing.assert_array_equal(plain, np.argwhere(np.triu(expected, 1)))
    assert len(plain) == count
    normalised = scan_edges(points, valid, atlas, edges="overlap", min_overlap=0.13, scale_normalised=True)
    np.testing.assert_array_equal(normalised, atlas.neighbours)


def _with_edge_32_mm(atlas):
    return replace(atlas, spacing_mm=1.0, patch_voxels=32)


def _overlap_by_hand(points: np.ndarray, edge: float) -> np.ndarray:
    apart = np.abs(points[:, None] - points[None])
    return (np.maximum(edge - apart, 0) / edge).prod(2)


def test_the_published_mask_is_read_with_its_sides(published):
    mask, grid = read_array(published[0] / "mask.nii.gz")
    image = sitk.ReadImage(str(MASK))
    rng = np.random.default_rng(0)
    voxels = np.concatenate(
        [np.argwhere(mask == k)[rng.integers(0, (mask == k).sum(), 100)] for k in (0, 1, 2)]
    )
    for voxel, point in zip(voxels, grid.to_points(voxels.astype(float)), strict=True):
        theirs = image[image.TransformPhysicalPointToIndex(point.tolist())]
        assert {0: 0, 50: 1, 100: 2}[theirs] == mask[tuple(voxel)]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """hu, mask and grid of a small chest, and its files in LPS and in LAS."""
    folder = tmp_path_factory.mktemp("files")
    hu, mask, grid = chest()
    write(folder / "mask.nii.gz", mask, grid)
    write(folder / "ct.nii.gz", hu, grid)
    las, las_grid = turned(mask, grid, "LAS")
    write(folder / "las.nii.gz", las * 50, las_grid)
    return folder, hu, mask, grid


def test_a_file_on_the_atlas_grid_is_kept_voxel_for_voxel(small, tmp_path):
    folder, hu, mask, grid = small
    atlas = build(tmp_path, mask=folder / "mask.nii.gz", ct=folder / "ct.nii.gz")
    for name, truth in (("mask", mask), ("ct", hu)):
        array, where = read_array(tmp_path / f"{name}.nii.gz")
        np.testing.assert_array_equal(array, truth)
        np.testing.assert_allclose(where.to_points(np.zeros(3)), grid.to_points(np.zeros(3)), atol=1e-5)
    assert len(atlas.landmarks_mm) > 20


def test_axes_of_a_file_stay_and_its_landmarks_are_the_same_points(small, tmp_path):
    ours = build(tmp_path / "lps", mask=small[0] / "mask.nii.gz")
    theirs = build(tmp_path / "las", mask=small[0] / "las.nii.gz")
    assert (ours.axes, theirs.axes) == ("LPS", "LAS")
    np.testing.assert_allclose(theirs.landmarks_mm, ours.landmarks_mm, atol=1e-3)
    assert ours.id != theirs.id


def test_trap_3_a_corner_in_a_file_with_flipped_axes_is_the_corner_of_that_cube(small, tmp_path):
    """The cube of 32 voxels above a corner has the same values as the patch around its landmark."""
    las, grid = turned(small[2], small[3], "LAS")
    corners = np.array([[4, 2, 6], [20, 5, 9], [21, 6, 11]])
    np.save(tmp_path / "corners.npy", corners)
    changes = {"landmarks": tmp_path / "corners.npy", "landmark_points": "corners", "min_lung_fraction": None}
    atlas = build(tmp_path / "atlas", mask=small[0] / "las.nii.gz", **changes)
    patches = extract_patches(las, grid, atlas.landmarks_mm, edge=32, outside=0)
    for patch, (x, y, z) in zip(patches, corners, strict=True):
        np.testing.assert_array_equal(patch, las[z : z + 32, y : y + 32, x : x + 32])


def test_landmarks_as_csv_keep_number_and_order(small, tmp_path):
    points = np.array([[70.5, 3.25, 4.0], [-70.0, 0.0, 9.0], [-60.0, 12.0, -40.0]])
    lines = ["note,z,x,y", *(f"a,{z},{x},{y}" for x, y, z in points)]
    (tmp_path / "points.csv").write_text("\n".join(lines))
    atlas = build(
        tmp_path / "atlas",
        mask=small[0] / "mask.nii.gz",
        landmarks=tmp_path / "points.csv",
        landmark_points="centres",
        min_lung_fraction=None,
    )
    np.testing.assert_array_equal(atlas.landmarks_mm, points)


def test_the_id_follows_mask_and_landmarks(small, tmp_path):
    folder, _, mask, grid = small
    changed = mask.copy()
    changed[tuple(np.argwhere(mask == 1)[5000])] = 0
    write(tmp_path / "mask.nii.gz", changed, grid)
    corners = np.array([[4, 2, 6], [14, 5, 9]])
    ids = [
        build(tmp_path / "a", mask=folder / "mask.nii.gz").id,
        build(tmp_path / "b", mask=tmp_path / "mask.nii.gz").id,
    ]
    for number, list_ in enumerate((corners, corners[::-1], corners + np.array([0, 0, 1]))):
        np.save(tmp_path / "list.npy", list_)
        given = {"landmarks": tmp_path / "list.npy", "landmark_points": "corners", "min_lung_fraction": None}
        ids.append(build(tmp_path / f"c{number}", mask=folder / "mask.nii.gz", **given).id)
    assert len(set(ids)) == 5
    assert build(tmp_path / "d", mask=folder / "mask.nii.gz").id == ids[0]


def listed(path: Path, mask: Path, **changes) -> dict[str, object]:
    """Settings of an atlas with this list of centres."""
    given = {"mask": mask, "landmarks": path, "landmark_points": "centres", "min_lung_fraction": None}
    return given | changes


@pytest.mark.parametrize("head", ["x,y,z", " X ,Y,z,side", "X_mm, y_mm,z_MM", "side,x_mm,y_mm,z_mm"])
def test_columns_of_a_list_are_found_whatever_their_case_and_unit(small, tmp_path, head):
    points = [[-70.0, 0, 9], [-60, 12, -40]]
    place = {name.strip().lower()[0]: number for number, name in enumerate(head.split(","))}
    rows = [[str(point["xyz".index(c)]) if c in "xyz" else "l" for c in place] for point in points]
    (tmp_path / "points.csv").write_text("\n".join([head, *map(",".join, rows), ""]))
    atlas = build(tmp_path / "atlas", **listed(tmp_path / "points.csv", small[0] / "mask.nii.gz"))
    np.testing.assert_array_equal(atlas.landmarks_mm, points)


def test_the_median_distance_of_a_list_helps_to_set_the_pitch(small, tmp_path):
    """Points 50 mm apart, one of them far away: neighbours at 50 mm, few of them at 40 mm."""
    points = [[-70.0, 0, 0], [-70, 0, 50], [-70, 0, -50], [70, 0, 9]]
    np.save(tmp_path / "points.npy", points)
    changes = listed(tmp_path / "points.npy", small[0] / "mask.nii.gz")
    assert build(tmp_path / "atlas", **changes, pitch_mm=50.0).neighbours.tolist() == [[0, 1], [0, 2]]
    with pytest.raises(ConfigError, match=r"100 % have no neighbour: .* is 50 mm, .*pitch_mm is 40") as fault:
        build(tmp_path / "atlas", **changes, pitch_mm=40.0)
    assert "atlas.pitch_mm" in fault.value.advice


def test_half_of_a_list_may_stand_alone_but_no_more(small, tmp_path):
    points = [[-70.0, 0, 0], [-70, 0, 20], [-70, 0, -50], [70, 0, 9]]
    changes = listed(tmp_path / "points.npy", small[0] / "mask.nii.gz", pitch_mm=20.0)
    np.save(tmp_path / "points.npy", points)
    assert build(tmp_path / "atlas", **changes).neighbours.tolist() == [[0, 1]]
    np.save(tmp_path / "points.npy", [*points, [70, 0, 70]])
    with pytest.raises(ConfigError, match=r"of 5 points .* 60 % have no neighbour"):
        build(tmp_path / "atlas", **changes)


def test_bright_metal_in_a_ct_stays_bright(small, tmp_path):
    """40000 HU would become -25536 as int16."""
    folder, hu, _, grid = small
    metal = hu.astype(np.float32)
    metal[0, 0, :2] = 40000, -40000
    write(tmp_path / "ct.nii.gz", metal, grid)
    build(tmp_path / "atlas", mask=folder / "mask.nii.gz", ct=tmp_path / "ct.nii.gz")
    assert read_array(tmp_path / "atlas/ct.nii.gz")[0][0, 0, :2].tolist() == [32767, -32768]
