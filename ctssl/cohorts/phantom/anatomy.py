"""The canonical chest: which tissue is where, as functions of points x, y, z in LPS mm.

The origin lies mid-chest. x grows to the subject's left, y to the back, z to the head.
"""

from functools import cache

import numpy as np
from scipy import ndimage

RIGHT, LEFT = 1, 2
"""Labels of the lungs, in every mask of the project."""

LOW_MM = np.array([-200.0, -150.0, -170.0])
HIGH_MM = np.array([200.0, 160.0, 170.0])
"""The box that holds the whole canonical chest."""

# (centre, radii) in mm: two lungs of unlike size, and the heart that presses into both.
_RIGHT_LUNG = ((-74.0, 2.0, 0.0), (62.0, 86.0, 128.0))
_LEFT_LUNG = ((76.0, 6.0, 6.0), (55.0, 83.0, 120.0))
_HEART = ((22.0, -28.0, -42.0), (58.0, 46.0, 55.0))
_BODY_RADII_MM = (178.0, 122.0)
_FAT_MM = 14.0
_TRACHEA = ((0.0, 12.0, 175.0), (0.0, 12.0, 38.0), 9.0)  # from, to, radius
_BRONCHI = (((0.0, 12.0, 38.0), (-44.0, 8.0, 6.0), 6.0), ((0.0, 12.0, 38.0), (48.0, 10.0, 14.0), 6.0))
_SPINE = (88.0, 19.0)  # y of the centre, radius
_TABLE_Y_MM = (132.0, 138.0)

HU = {"air": -1000.0, "fat": -95.0, "muscle": 45.0, "heart": 40.0, "bone": 320.0, "table": 120.0}


def lungs(points_mm: np.ndarray) -> np.ndarray:
    """(...) uint8: 1 in the right lung, 2 in the left, 0 elsewhere; points (..., 3), x, y, z."""
    free = ~(_ellipsoid(points_mm, *_HEART) | airways(points_mm))
    right = _ellipsoid(points_mm, *_RIGHT_LUNG) & free
    left = _ellipsoid(points_mm, *_LEFT_LUNG) & free
    return np.where(right, RIGHT, np.where(left, LEFT, 0)).astype(np.uint8)


def airways(points_mm: np.ndarray) -> np.ndarray:
    """(...) bool: inside the trachea or a main bronchus; points (..., 3), x, y, z."""
    inside = _capsule(points_mm, *_TRACHEA)
    for bronchus in _BRONCHI:
        inside |= _capsule(points_mm, *bronchus)
    return inside


def tissue_hu(points_mm: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """(...) float32 HU of a healthy chest; points (..., 3), x, y, z; `lung` as from `lungs`."""
    x, y = points_mm[..., 0], points_mm[..., 1]
    radius = np.hypot(x / _BODY_RADII_MM[0], y / _BODY_RADII_MM[1])
    inner = np.hypot(x / (_BODY_RADII_MM[0] - _FAT_MM), y / (_BODY_RADII_MM[1] - _FAT_MM))
    hu = np.full(points_mm.shape[:-1], HU["air"], np.float32)
    hu[(y > _TABLE_Y_MM[0]) & (y < _TABLE_Y_MM[1]) & (np.abs(x) < 190)] = HU["table"]
    hu[radius < 1] = HU["fat"]
    hu[inner < 1] = HU["muscle"]
    hu[np.hypot(x, y - _SPINE[0]) < _SPINE[1]] = HU["bone"]
    hu[_ellipsoid(points_mm, *_HEART)] = HU["heart"]
    hu[airways(points_mm)] = HU["air"]
    inside = lung > 0
    hu[inside] = _parenchyma_hu(points_mm[inside])
    return hu


def _parenchyma_hu(points_mm: np.ndarray) -> np.ndarray:
    """Denser toward the back and the base, with vessels."""
    y, z = points_mm[:, 1], points_mm[:, 2]
    return -865 + 0.35 * y - 0.12 * z + 820 * sample_texture(_vessels(), points_mm)


@cache
def _vessels() -> np.ndarray:
    """A net of thin tubes: where two smooth fields are both near zero. Same in every subject."""
    fields = [smooth_noise(seed, sigma_mm=13.0) for seed in (11, 12)]
    distance = np.hypot(*fields)
    return np.clip(1.5 - distance / 0.17, 0, 1).astype(np.float32)


GRID_MM = 2.5
"""Spacing of the grid on which textures are made."""


def smooth_noise(seed: int, sigma_mm: float) -> np.ndarray:
    """(z, y, x) float32 Gaussian noise over the canonical box, smoothed, mean 0, deviation 1."""
    shape = tuple(np.ceil((HIGH_MM - LOW_MM) / GRID_MM).astype(int)[::-1])
    noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
    noise = ndimage.gaussian_filter(noise, sigma_mm / GRID_MM, mode="wrap")
    return noise / noise.std()


def sample_texture(texture: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """(P,) values of a texture (z, y, x) at points (P, 3), x, y, z."""
    index = ((points_mm - LOW_MM) / GRID_MM)[:, ::-1].T
    return ndimage.map_coordinates(texture, index, order=1, mode="nearest")


def _ellipsoid(points_mm: np.ndarray, centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    return (((points_mm - np.array(centre)) / np.array(radii)) ** 2).sum(-1) < 1


def _capsule(
    points_mm: np.ndarray, start: tuple[float, ...], end: tuple[float, ...], radius_mm: float
) -> np.ndarray:
    axis = np.subtract(end, start)
    from_start = points_mm - np.array(start)
    along = np.clip(from_start @ axis / (axis @ axis), 0, 1)
    return ((from_start - along[..., None] * axis) ** 2).sum(-1) < radius_mm**2
