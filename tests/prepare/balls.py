"""A made-up body with three unlike balls at known points: after reading they must be where they were."""

import numpy as np
import pytest

from ctssl.prepare.geometry import Place

BALLS = {(-50.0, -20.0, 40.0): 13.0, (45.0, 30.0, 70.0): 17.0, (-20.0, 25.0, -60.0): 22.0}
"""Centre x, y, z in LPS mm -> radius in mm; at 600 HU, the body's brightest."""

SIZE = (40, 36, 44)
SPACING_MM = np.array([5.0, 5.0, 6.0])


def straight(size=SIZE, spacing_mm=SPACING_MM, turn=None) -> Place:
    """A place whose centre is the body's; turned by a matrix, if one is given."""
    steps = np.diag(np.asarray(spacing_mm, float)) if turn is None else turn * np.asarray(spacing_mm)
    return Place(-steps @ (np.array(size) - 1) / 2, steps)


def points_mm(size, place) -> np.ndarray:
    """(z, y, x, 3) points x, y, z in LPS mm of all voxels."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in size[::-1]), indexing="ij")
    return np.stack([i, j, k], -1) @ place.steps_mm.T + place.origin_mm


def body(place, size=SIZE) -> np.ndarray:
    """(z, y, x) int16 HU: air, a body of fat and muscle, two lungs, the balls."""
    at = points_mm(size, place)

    def ball(centre, radii):
        return (((at - centre) / radii) ** 2).sum(-1) < 1

    hu = np.where(ball((0, 0, 0), (98, 86, 135)), -105, -1000)
    hu[ball((0, 0, 0), (88, 74, 130))] = 45
    hu[ball((45, -10, 0), (28, 40, 55))] = hu[ball((-45, -10, -10), (26, 40, 50))] = -860
    for centre, radius in BALLS.items():
        hu[ball(centre, radius)] = 600
    noise = np.random.default_rng(0).normal(0, 9, hu.shape)
    return np.rint(hu + noise).astype(np.int16)


def assert_in_place(image) -> None:
    """Each ball of a SimpleITK image lies within half a voxel of its point and has its size."""
    import SimpleITK as sitk

    direction = np.array(image.GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-9)
    spacing = np.array(image.GetSpacing())
    at = points_mm(image.GetSize(), Place(np.array(image.GetOrigin()), direction * spacing))
    bright = sitk.GetArrayFromImage(image) > 350
    for centre, radius in BALLS.items():
        own = bright & (np.linalg.norm(at - centre, axis=-1) < radius + 9)
        assert np.linalg.norm(at[own].mean(0) - centre) < max(0.5 * spacing.min(), 0.8)
        assert own.sum() * spacing.prod() / (4 / 3 * np.pi * radius**3) == pytest.approx(1, abs=0.12)
    assert bright.sum() * spacing.prod() < 1.1 * sum(4 / 3 * np.pi * r**3 for r in BALLS.values())
