"""The affine start: known maps of ellipsoids and phantoms are found again, also when lungs are cut."""

import numpy as np
import pytest
from prepare import ellipsoids
from prepare.chest import turned
from prepare.cuts import cut_at
from scipy.spatial.transform import Rotation

from ctssl.prepare.grid import covering_grid
from ctssl.prepare.lungs import Lungs
from ctssl.prepare.start import Fit, by_spread, guesses
from ctssl.prepare.transforms import Affine

SPACING_MM = 5.0


def atlas() -> Lungs:
    _, mask, grid = ellipsoids.chest(SPACING_MM)
    return Lungs(mask, grid)


def moved(affine: Affine, axes: str = "LPS") -> Lungs:
    """The pattern's ellipsoids, carried by an affine map, drawn exactly."""
    corners = affine(
        np.array([[x, y, z] for x in (-160, 160) for y in (-110, 110) for z in (-150, 150)], float)
    )
    grid = covering_grid(corners, SPACING_MM, "LPS")
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    points = grid.to_points(index.astype(float))
    back = np.linalg.inv(affine.matrix)
    return Lungs(*turned(ellipsoids.lungs((points - affine.shift) @ back.T), grid, axes))


def errors_mm(found: Affine, true: Affine, where: Lungs) -> np.ndarray:
    """Distances at points of the atlas's lungs that `where` shows."""
    points = atlas().grid.to_points(np.argwhere(atlas().mask > 0).astype(float))
    points = points[where.sees(true(points), where.cut_faces())]
    return np.linalg.norm(found(points) - true(points), axis=1)


def an_affine(turn_deg: tuple[float, float, float] = (4.0, -3.0, 6.0)) -> Affine:
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    return Affine(turn @ np.diag([1.1, 0.92, 1.05]), np.array([14.0, -22.0, 160.0]))


@pytest.mark.parametrize("axes", ["LPS", "LAS", "RPI"])
def test_a_known_affine_is_found(axes):
    true, scan = an_affine(), moved(an_affine(), axes)
    guess = by_spread(scan, atlas(), ())
    found = Fit(scan, atlas(), ())(guess)
    assert errors_mm(guess, true, scan).mean() > 9  # measured: 10.4, then 1.9: ellipsoids look alike turned
    assert errors_mm(found, true, scan).mean() < 3.0
    assert errors_mm(found, true, scan).max() < 6.0


def test_a_chest_that_lies_askew_is_found():
    """A lying body turned by 22 degrees about its long axis, and tilted."""
    true = an_affine((8.0, 0.0, 22.0))
    scan = moved(true)
    errors = errors_mm(Fit(scan, atlas(), ())(by_spread(scan, atlas(), ())), true, scan)
    assert errors.mean() < 5.0  # measured: 3.1 from 32


def test_the_ladder_has_a_turn_near_the_body_s():
    """Before any fit, the guess turned as the body lies overlaps most."""
    scan = moved(Affine(Rotation.from_euler("y", 30, degrees=True).as_matrix(), np.array([9.0, 5.0, -40.0])))
    fit = Fit(scan, atlas(), ())
    overlaps = {name: fit.dice(guess) for name, guess in guesses(scan, atlas(), ())}
    assert list(overlaps)[:2] == ["spread", "centre"]
    assert len(overlaps) == 14
    assert max(overlaps, key=lambda name: overlaps[name]) == "y+30"
    assert overlaps["y+30"] > 0.9 > 0.7 > overlaps["spread"]


@pytest.mark.parametrize("face", ["right", "left", "front", "back", "bottom", "top"])
def test_cut_lungs_are_not_squeezed(face):
    """A third or so of the lungs lies beyond the field of view, and what is seen comes to its place."""
    true = Affine(np.diag([1.1, 1.05, 1.08]), np.array([14.0, -22.0, 160.0]))
    depth = {"right": 40.0, "left": 40.0, "front": 45.0, "back": 45.0, "bottom": 80.0, "top": 80.0}[face]
    scan = cut_at(moved(true), **{face: depth})
    assert scan.cut_faces() == (face,)
    found = Fit(scan, atlas(), (face,))(by_spread(scan, atlas(), (face,)))
    assert errors_mm(found, true, scan).max() < 8.0
    whole = Fit(scan, atlas(), ())(by_spread(scan, atlas(), ()))
    assert errors_mm(whole, true, scan).max() > 2 * errors_mm(found, true, scan).max()
    size = np.linalg.det(found.matrix) / np.linalg.det(true.matrix)
    assert 0.93 < size < 1.07
