"""One synthetic scan: the canonical chest, deformed, diseased, scanned."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctssl.cohorts.phantom import anatomy
from ctssl.cohorts.phantom.deform import Deformation

SICK_FRACTION = np.array([0.0, 0.06, 0.14, 0.24, 0.36])
"""Share of the upper lung that emphysema destroys, by grade 0 to 4."""

EMPHYSEMA_HU = -985.0
_HOLE_MM = 5.0  # smoothing of the noise whose peaks become holes
_INVERSE_MM = 8.0  # grid of the inverse; the field bends so little that linear interpolation errs by < 0.1 mm


@dataclass(frozen=True)
class Scanner:
    """How a chest is scanned.

    Attributes:
        spacing_mm: in-plane spacing (x and y).
        slice_mm: distance of slices (z).
        noise_hu: standard deviation of the noise.
        bottom_mm: z of the lowest slice in canonical terms; raise it to cut the lungs off.
    """

    spacing_mm: float = 2.0
    slice_mm: float = 3.0
    noise_hu: float = 18.0
    bottom_mm: float = float(anatomy.LOW_MM[2])


@dataclass(frozen=True)
class SyntheticScan:
    """A scan and its truth.

    Attributes:
        hu: (z, y, x) int16.
        lungs: (z, y, x) uint8, 1 right, 2 left.
        emphysema: (z, y, x) bool.
        origin_mm: x, y, z of the first voxel's centre, LPS.
        spacing_mm: x, y, z. Axes are LPS.
    """

    hu: np.ndarray
    lungs: np.ndarray
    emphysema: np.ndarray
    origin_mm: np.ndarray
    spacing_mm: np.ndarray


def make_scan(deformation: Deformation, grade: int, scanner: Scanner, seed: int) -> SyntheticScan:
    """A scan of one subject, the same for the same arguments.

    Args:
        deformation: from canonical to this subject.
        grade: emphysema, 0 to 4.
        scanner: grid and noise.
        seed: of the disease pattern and the noise.
    """
    spacing = np.array([scanner.spacing_mm, scanner.spacing_mm, scanner.slice_mm])
    low, high = _box(deformation, scanner.bottom_mm)
    shape = np.ceil((high - low) / spacing).astype(int)[::-1]
    points = _canonical_points(deformation, low, spacing, shape)
    lung = anatomy.lungs(points)
    hu = anatomy.tissue_hu(points, lung)
    sick = _emphysema(points, lung, grade, seed)
    hu[sick] = EMPHYSEMA_HU
    noise = np.random.default_rng([seed, 1]).standard_normal(hu.shape, np.float32)
    noise = ndimage.gaussian_filter(noise, 0.6)
    hu = ndimage.gaussian_filter(hu, 0.4) + scanner.noise_hu * noise / noise.std()
    hu = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    return SyntheticScan(hu, lung, sick, low, spacing)


def _box(deformation: Deformation, bottom_mm: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = anatomy.LOW_MM.copy(), anatomy.HIGH_MM
    low[2] = bottom_mm
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
    linear = corners @ deformation.matrix.T + deformation.shift_mm
    centre = linear.mean(0)
    half = (high - low) / 2 * np.abs(np.diag(deformation.matrix))
    return centre - half, centre + half


def _canonical_points(
    deformation: Deformation, low: np.ndarray, spacing: np.ndarray, shape: np.ndarray
) -> np.ndarray:
    """(z, y, x, 3) canonical position of every voxel: the inverse on a coarse grid, interpolated."""
    extent = spacing * (shape[::-1] - 1)
    coarse_shape = (np.ceil(extent / _INVERSE_MM).astype(int) + 1)[::-1]
    axes = [low[d] + _INVERSE_MM * np.arange(coarse_shape[2 - d]) for d in range(3)]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    coarse = deformation.inverse(np.stack([x, y, z], -1).reshape(-1, 3)).reshape(*coarse_shape, 3)
    fine = [np.arange(shape[d]) * spacing[2 - d] / _INVERSE_MM for d in range(3)]
    index = np.meshgrid(*fine, indexing="ij")
    return np.stack(
        [ndimage.map_coordinates(coarse[..., d], index, order=1, mode="nearest") for d in range(3)], -1
    )


def _emphysema(points_mm: np.ndarray, lung: np.ndarray, grade: int, seed: int) -> np.ndarray:
    """Holes in the upper zones; their share of the upper lung is SICK_FRACTION[grade]."""
    sick = np.zeros(lung.shape, bool)
    inside = lung > 0
    if grade == 0 or not inside.any():
        return sick
    where = points_mm[inside]
    pattern = anatomy.sample_texture(anatomy.smooth_noise(seed, _HOLE_MM), where)
    pattern = pattern / np.exp(-np.clip(where[:, 2], None, 0) / 60)  # fades toward the base
    threshold = np.quantile(pattern[where[:, 2] > 0], 1 - SICK_FRACTION[grade])
    sick[inside] = pattern > threshold
    return sick
