"""Axes come out at right angles, and no point moves that need not."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ctssl.errors import ScanError
from ctssl.prepare.geometry import Place, check_place, straighten, to_image

OUTSIDE = -2000.0
SHAPE = (20, 24, 28)


def points_of(shape, place):
    """(z, y, x, 3) points in LPS mm."""
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return np.stack([i, j, k], -1) @ place.steps_mm.T + place.origin_mm


def ramp(shape, place):
    return (points_of(shape, place) @ [3.0, -2.0, 1.0]).astype(np.float32)


def tilted(degrees, axis=1, spacing=(1.5, 1.5, 4.0)):
    steps = np.diag(spacing).astype(float)
    steps[axis, 2] = np.tan(np.radians(degrees)) * spacing[2]
    return Place(np.array([5.0, -9.0, 12.0]), steps)


def assert_right(place):
    np.testing.assert_allclose(place.directions.T @ place.directions, np.eye(3), atol=1e-12)


def test_straight_axes_stay_as_they_are():
    place = Place(np.array([1.0, 2, 3]), np.diag([0.7, 0.7, 2.5]))
    values = ramp(SHAPE, place)
    got, where, repairs = straighten(values, place, outside=OUTSIDE)
    assert got is values
    assert repairs == ()
    np.testing.assert_allclose(where.steps_mm, place.steps_mm, atol=1e-12)
    np.testing.assert_allclose(where.origin_mm, place.origin_mm, atol=1e-12)


@pytest.mark.parametrize("degrees", [0, 15])
def test_left_handed_axes_stay_so_and_no_point_moves(degrees):
    """Corners in the published list of landmarks count voxels along the file's own axes."""
    place = tilted(degrees, spacing=(-1.5, 1.5, 4.0))
    got, where, repairs = straighten(ramp(SHAPE, place), place, outside=OUTSIDE)
    assert_right(where)
    assert np.linalg.det(where.directions) < 0
    assert len(repairs) == (degrees > 0)
    there = got > OUTSIDE
    np.testing.assert_allclose(got[there], ramp(got.shape, where)[there], atol=2e-3)


def test_rounded_directions_keep_the_centre_and_are_recorded():
    steps = np.diag([0.7, 0.7, 2.5])
    steps[0, 1] = 0.002
    place = Place(np.zeros(3), steps)
    _, where, repairs = straighten(ramp(SHAPE, place), place, outside=OUTSIDE)
    assert_right(where)
    middle = (np.array(SHAPE[::-1]) - 1) / 2
    np.testing.assert_allclose(where.steps_mm @ middle + where.origin_mm, steps @ middle, atol=1e-12)
    assert "cosine 0.0029" in repairs[0]
    assert "at most 0.0" in repairs[0]
    np.testing.assert_allclose(where.spacing_mm, place.spacing_mm)


@pytest.mark.parametrize("degrees", [-30, -8, 15, 34])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
def test_a_ramp_in_space_stays_that_ramp_when_it_is_straightened(degrees, axis, order):
    """Linear interpolation keeps a linear function: no voxel that the slices saw may differ."""
    place = tilted(degrees, axis)
    values = ramp(SHAPE, place)
    stored = Place(place.origin_mm, place.steps_mm[:, order])  # the same voxels, other axes first
    turned = values.transpose([2 - order[2 - d] for d in range(3)])
    got, where, repairs = straighten(turned, stored, outside=OUTSIDE)
    assert_right(where)
    assert f"tilted by {abs(degrees):.1f} degrees" in repairs[0]
    seen = got != OUTSIDE
    np.testing.assert_allclose(got[seen], ramp(got.shape, where)[seen], atol=1e-3)
    assert seen.sum() >= values.size * 0.94  # only the slices' rims, between two voxels, are lost
    # and what was seen covers the slices: every voxel's point lies in the new box
    index = (points_of(SHAPE, place).reshape(-1, 3) - where.origin_mm) @ where.directions / where.spacing_mm
    assert index.min() > -1e-6
    assert (index.max(0) < np.array(got.shape[::-1]) - 1 + 1e-6).all()


def test_padding_is_not_mixed_with_tissue():
    place = tilted(20)
    values = np.full(SHAPE, 40, np.int16)
    values[:, :5] = int(OUTSIDE)
    got, _, _ = straighten(values, place, outside=OUTSIDE)
    assert set(np.unique(got)) == {int(OUTSIDE), 40}
    assert got.dtype == np.int16


def test_labels_take_the_nearest_voxel():
    place = tilted(25)
    labels = np.random.default_rng(0).choice([0, 1, 2, 100], SHAPE).astype(np.int16)
    got, where, _ = straighten(labels, place, outside=0, labels=True)
    at = (points_of(got.shape, where) - place.origin_mm) @ np.linalg.inv(place.steps_mm).T
    expected = map_coordinates(labels, at[..., ::-1].reshape(-1, 3).T, order=0, cval=0).reshape(got.shape)
    sure = np.abs(at - np.floor(at) - 0.5).min(-1) > 0.01
    sure &= ((at >= 0) & (at <= np.array(SHAPE[::-1]) - 1)).all(-1)
    assert sure.mean() > 0.4
    np.testing.assert_array_equal(got[sure], expected[sure])


def test_a_steep_shear_is_refused():
    with pytest.raises(ScanError, match="tilted by 40 degrees"):
        straighten(np.zeros(SHAPE), tilted(40), outside=OUTSIDE)


def test_a_shear_of_two_pairs_of_axes_is_refused():
    steps = tilted(20).steps_mm
    steps[0, 1], steps[0, 2] = 0.4, 1.0
    with pytest.raises(ScanError, match="none of the image's axes are at right angles"):
        straighten(np.zeros(SHAPE), Place(np.zeros(3), steps), outside=OUTSIDE)


def test_an_image_has_every_voxel_where_the_place_says():
    turn = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    place = Place(np.array([1.0, 2, 3]), turn * [0.7, 0.8, 2.5])
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    image = to_image(values[::-1], place)
    assert image.GetPixel(3, 4, 5) == values[::-1][5, 4, 3]
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint((3, 4, 5)), place.origin_mm + place.steps_mm @ [3, 4, 5]
    )


@pytest.mark.parametrize(
    ("size", "spacing", "word"),
    [
        ((7, 50, 50), (1, 1, 1), "only 7 voxels"),
        ((300, 300, 300), (1, 1, 1), "300 x 300 x 300 voxels, more than limits.max_voxels"),
        ((50, 50, 50), (1, 0, 1), "three lengths above 0"),
        ((50, 50, 50), (1, np.nan, 1), "three lengths above 0"),
        ((50, 50, 50), (1, np.inf, 1), "three lengths above 0"),
        ((50, 50, 50), (0.07, 0.07, 0.5), "less than a lung"),
        ((50, 50, 50), (1, 1, 70), "3500 mm along one axis"),
    ],
)
def test_sizes_that_no_scan_has_are_refused(size, spacing, word):
    with pytest.raises(ScanError, match=word) as fault:
        check_place(size, Place(np.zeros(3), np.diag(spacing).astype(float)), 10**6)
    assert fault.value.advice


def test_a_size_that_a_scan_has_passes():
    check_place((512, 512, 8), Place(np.zeros(3), np.diag([0.6, 0.6, 5.0])), 10**7)
