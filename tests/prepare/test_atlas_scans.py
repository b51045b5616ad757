"""Atlases made of scans: one of them, or the mean of several. Chests are ellipsoids, known exactly."""

import numpy as np
import pytest
from prepare.chest import turned
from prepare.ellipsoids import chest, lungs, write

from ctssl.config.prepare import Registration
from ctssl.errors import ScanError
from ctssl.prepare.atlas import read_atlas
from ctssl.prepare.atlas_sources import build_atlas
from ctssl.prepare.images import read_array
from ctssl.prepare.lungs import Lungs
from ctssl.prepare.machine import Machine
from ctssl.prepare.registration import register
from ctssl.prepare.template import Member, lungs_of, make_template, mean_anatomy

pytestmark = pytest.mark.xdist_group("registration")

HERE = Machine(max_voxels=10**8)
REGISTRATION = {
    "spacing_mm": 12.0,
    "syn_iterations": (20, 10),
    "gradient_step": 0.4,
    "flow_sigma": 3.0,
    "total_sigma": 0.0,
    "seed": 1,
    "threads": 1,
    "enough_dice": 0.9,
    "ct_weight": 0.0,
}
PEOPLE = {  # scale and shift of the pattern
    "anna": ((1.1, 1.0, 0.92), (10.0, -5.0, 20.0)),
    "ben": ((0.9, 1.06, 1.08), (-8.0, 3.0, 0.0)),
}
MEAN = np.array([1.0, 1.03, 1.0])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Folder with an image and a mask of each person."""
    folder = tmp_path_factory.mktemp("cohort")
    for name, (scale, shift) in PEOPLE.items():
        hu, mask, grid = chest(6.0, scale, shift)
        write(folder / f"{name}.nii.gz", hu, grid)
        write(folder / f"{name}-mask.nii.gz", mask, grid)
    hu, mask, grid = chest(6.0, bottom_mm=-60.0)
    write(folder / "cut.nii.gz", hu, grid)
    return folder


def settings(cohort, source, *names, masks=()):
    section = {
        "source": source,
        "spacing_mm": 6.0,
        "patch_voxels": 16,
        "pitch_mm": 60.0,
        "min_lung_fraction": 0.1,
        **dict.fromkeys(("mask", "ct", "landmarks", "landmark_points")),
        "scans": names,
    }
    given = {name: str(cohort / f"{name}-mask.nii.gz") if name in masks else None for name in names}
    scans = [
        {"scan": n, "image": str(cohort / f"{n}.nii.gz"), "series_uid": None, "mask_image": given[n]}
        for n in names
    ]
    return {
        "atlas": section,
        "scans": scans,
        "volume": {"hu_min": -1024, "hu_max": 3071},
        "mask": {"method": "threshold", "min_lung_l": 0.3},
        "registration": REGISTRATION,
    }


def overlap(folder, truth) -> list[float]:
    """Dice of each lung in the atlas's folder with a known function of points."""
    mask, grid = read_array(folder / "mask.nii.gz")
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    known = truth(grid.to_points(index.astype(float)))
    return [2 * ((mask == k) & (known == k)).sum() / ((mask == k).sum() + (known == k).sum()) for k in (1, 2)]


def test_one_scan_becomes_the_atlas(cohort, tmp_path):
    made = build_atlas(tmp_path, settings(cohort, "scan", "anna"), HERE)
    assert min(overlap(tmp_path, lambda points: lungs(points, *PEOPLE["anna"]))) > 0.95
    hu, grid = read_array(tmp_path / "ct.nii.gz")
    whole, where = read_array(cohort / "anna.nii.gz")
    corner = np.rint(where.to_array(grid.to_points(np.zeros(3)))).astype(int)
    part = whole[tuple(slice(c, c + n) for c, n in zip(corner, hu.shape, strict=True))]
    np.testing.assert_array_equal(hu, part)
    inside = lungs(made.landmarks_mm, *PEOPLE["anna"])
    assert {1, 2} <= set(inside.tolist())
    assert (made.axes, read_atlas(tmp_path).id) == ("LPS", made.id)


def test_the_mask_of_the_manifest_is_used(cohort, tmp_path):
    build_atlas(tmp_path, settings(cohort, "scan", "anna", masks=["anna"]), HERE)
    assert min(overlap(tmp_path, lambda points: lungs(points, *PEOPLE["anna"]))) == 1.0


@pytest.mark.parametrize(
    ("source", "names", "said"),
    [
        ("scan", ["cut"], "from scan cut: its field of view cuts the lungs at the bottom"),
        ("scan", ["gone"], "from scan gone: the image does not exist"),
        ("template", ["anna", "cut"], "from scan cut"),
    ],
)
def test_a_scan_that_cannot_be_used_is_named(cohort, tmp_path, source, names, said):
    with pytest.raises(ScanError, match=said) as fault:
        build_atlas(tmp_path, settings(cohort, source, *names), HERE)
    assert "atlas.scans" in fault.value.advice
    assert not (tmp_path / "atlas.json").exists()


def test_lungs_at_the_side_of_the_field_of_view_make_no_atlas(cohort, tmp_path):
    """A scan that ends inside the right lung, with its mask given."""
    hu, mask, grid = chest(6.0)
    low, high = np.array([0, 0, 16]), np.array(mask.shape)
    for name, array in (("side", hu), ("side-mask", mask)):
        write(cohort / f"{name}.nii.gz", array[:, :, 16:], grid.crop(low, high))
    with pytest.raises(ScanError, match="scan side: its field of view cuts the lungs at the right"):
        build_atlas(tmp_path, settings(cohort, "scan", "side", masks=["side"]), HERE)


@pytest.fixture(scope="module")
def template(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    return folder, build_atlas(folder, settings(cohort, "template", "anna", "ben", masks=PEOPLE), HERE)


def test_the_template_has_the_mean_size_of_its_members(template):
    """Its lungs are nearer to the mean person than that person's are to either member."""
    mask, grid = read_array(template[0] / "mask.nii.gz")
    points = grid.to_points(np.argwhere(mask > 0).astype(float))

    def mean_person(where: np.ndarray) -> np.ndarray:
        return lungs(where - points.mean(0) + MEAN * lung_centre(), MEAN)

    assert min(overlap(template[0], mean_person)) > 0.94
    spreads = []
    for name, (scale, shift) in PEOPLE.items():
        _, own, where = chest(6.0, scale, shift)
        spreads.append(where.to_points(np.argwhere(own > 0).astype(float)).std(0))
        assert np.abs(points.std(0) / spreads[-1] - 1).max() > 0.05, name
    np.testing.assert_allclose(points.std(0), np.mean(spreads, 0), rtol=0.03)


def test_the_template_of_equal_scans_is_as_large_as_they_are(tmp_path):
    """Cut at half the value of smoothed lungs, it had 6 % less."""
    hu, mask, grid = chest(6.0)
    members = [Member.written(name, tmp_path / name, hu, Lungs(mask, grid)) for name in ("one", "two")]
    made = make_template(members, Registration(**REGISTRATION), 8)
    for label in (1, 2):
        assert (made.lungs == label).sum() == pytest.approx((mask == label).sum(), rel=0.02)


def test_the_template_has_the_mean_volume_of_its_members_at_one_size(template):
    """Both are the pattern, scaled: so is their mean, by the means of their scales."""
    mask, _ = read_array(template[0] / "mask.nii.gz")
    _, pattern, _ = chest(2.0)
    for label in (1, 2):
        expected = (pattern == label).sum() * 2.0**3 * MEAN.prod()
        assert (mask == label).sum() * 6.0**3 == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("lost", [{1}, {2}, {1, 2}])
def test_scans_without_a_common_shape_make_no_template(lost):
    """As antspyx's mean would be, of lungs that lie beside each other."""
    _, mask, grid = chest(8.0)
    signs = np.where(mask == 1, 1.0, np.where(mask == 2, -1.0, 0.0))
    signs[np.isin(mask, list(lost))] *= 0.2
    litres = {label: (mask == label).sum() * 8.0**3 / 1e6 for label in (1, 2)}
    with pytest.raises(ScanError, match="the scans have no common shape") as fault:
        lungs_of(signs, grid, litres, 8.0, 4)
    assert "atlas.scans" in fault.value.advice


def lung_centre() -> np.ndarray:
    _, mask, grid = chest(6.0)
    return grid.to_points(np.argwhere(mask > 0).astype(float)).mean(0)


def test_the_template_has_a_ct_of_the_same_chest(template):
    (hu, grid), (mask, same) = (read_array(template[0] / f"{name}.nii.gz") for name in ("ct", "mask"))
    assert grid == same
    assert np.median(hu[mask > 0]) == pytest.approx(-860, abs=4)
    assert np.std(hu[mask > 0][::7]) < 250  # sharp enough: the rim alone is mixed
    middle = grid.to_array(np.zeros((1, 3)))[0].astype(int)
    assert hu[tuple(middle)] == pytest.approx(40, abs=30)  # between the lungs


def test_nothing_but_the_atlas_is_left(template):
    names = sorted(path.name for path in template[0].iterdir())
    assert names == ["atlas.json", "ct.nii.gz", "mask.nii.gz"]


@pytest.mark.slow
def test_the_same_scans_make_the_same_template(cohort, template, tmp_path):
    again = build_atlas(tmp_path, settings(cohort, "template", "anna", "ben", masks=PEOPLE), HERE)
    assert again.id == template[1].id
    assert (tmp_path / "ct.nii.gz").read_bytes() == (template[0] / "ct.nii.gz").read_bytes()


def test_a_scan_that_does_not_fit_the_others_is_named(cohort, tmp_path):
    members = []
    for name, scale in (("fits", 1.05), ("anna", 1.0)):
        hu, mask, grid = chest(6.0, (scale,) * 3)
        mask[mask == (1 if name == "anna" else 0)] = 0  # anna has lost her right lung
        members.append(Member.written(name, tmp_path / name, hu, Lungs(mask, grid)))
    _, mask, grid = chest(6.0)
    with pytest.raises(ScanError, match="scan anna cannot be part of the template: its lungs do not fit"):
        mean_anatomy(members, Lungs(mask, grid), Registration(**REGISTRATION), 8)


def test_trap_3_an_atlas_stored_along_las_finds_the_same_points_as_along_lps(tmp_path):
    """What axes an atlas's array has changes no landmark in the scan."""
    _, scan, scan_grid = chest(6.0, *PEOPLE["anna"])
    _, mask, grid = chest(6.0)
    inside = np.argwhere(mask > 0)
    points = grid.to_points(inside[::400].astype(float))
    found = {}
    for axes in ("LPS", "LAS"):
        (tmp_path / axes).mkdir()
        atlas, ours = (Lungs(*turned(m, g, axes)) for m, g in ((mask, grid), (scan, scan_grid)))
        found[axes] = register(ours, atlas, points, Registration(**REGISTRATION), tmp_path / axes)
    np.testing.assert_allclose(found["LAS"].landmarks_mm, found["LPS"].landmarks_mm, atol=0.5)
    scale, shift = PEOPLE["anna"]
    errors = np.linalg.norm(found["LAS"].landmarks_mm - (points * scale + shift), axis=1)
    assert errors.mean() < 4.0
