"""One synthetic scan: the canonical chest, deformed, diseased, scanned."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctssl.cohorts.phantom import body, hard, lungs
from ctssl.cohorts.phantom.chest import BLOOD_HU, PARENCHYMA_HU, Chest, sides
from ctssl.cohorts.phantom.deform import Deformation
from ctssl.cohorts.phantom.disease import LungPoints, add_disease
from ctssl.cohorts.phantom.scanner import (
    Axes,
    Scanner,
    acquire,
    field_of_view,
    planes_mm,
    scan_axes,
    subslices,
)
from ctssl.cohorts.phantom.subject import Subject
from ctssl.prepare.grid import Grid

_COARSE_MM = 10.0  # grid of the inverse, which bends so little that cubic interpolation errs by < 0.05 mm
_BEYOND_MM = 12.0  # body that is scanned above and below the lungs
_SKIN_MM, _SKIN_HU = 2.0, 20.0
_BREAST_MM = 26.0
_AIR_HU = -1000.0


@dataclass(frozen=True)
class SyntheticScan:
    """A scan and its truth. Axes are LPS.

    Attributes:
        hu: (z, y, x) int16.
        lobes: (z, y, x) uint8, named by `lungs.LOBES`.
        lesions: (z, y, x) uint8, named by `disease.LESIONS`.
        origin_mm: x, y, z of the first voxel's centre, LPS.
        spacing_mm: x, y, z.
    """

    hu: np.ndarray
    lobes: np.ndarray
    lesions: np.ndarray
    origin_mm: np.ndarray
    spacing_mm: np.ndarray

    @property
    def lungs(self) -> np.ndarray:
        """(z, y, x) uint8: 1 right, 2 left."""
        return sides(self.lobes)

    def grid(self) -> Grid:
        """The grid of the arrays, when slices lie as far apart as voxels in them."""
        step = float(self.spacing_mm[0])
        assert np.allclose(self.spacing_mm, step), "a Grid has equal spacing along all axes"
        x, y, z = (float(v) for v in self.origin_mm)
        k, j, i = self.hu.shape
        return Grid((x, y, z), step, (i, j, k), "LPS")


def make_scan(subject: Subject, scanner: Scanner, chest: Chest) -> SyntheticScan:
    """A scan of one subject, the same for the same arguments."""
    deformation = subject.deformation.turned(hard.extra_rotation_deg(scanner.hard))
    low, high = _field_of_view(deformation, subject.fat_mm, scanner)
    x, y, z = scan_axes(low, high, scanner)
    points, skin_mm = _canonical(deformation, subject, (x, y, planes_mm(z, scanner)))
    hu, lobes, lesions = _scene(subject, chest, points, skin_mm, scanner.spacing_mm)
    if scanner.hard:
        hu, kept = hard.alter_anatomy(hu, sides(lobes), None, points, scanner.hard)
        lobes[kept == 0] = lesions[kept == 0] = 0
    parts = subslices(scanner)
    middle = slice(parts // 2, None, parts)  # what is at the centre of a slice stands for all of it
    back_mm = float(y[np.flatnonzero((skin_mm > 0).any((0, 2)))[-1]])
    image = acquire(hu, (x, y, z), scanner, back_mm, np.random.default_rng([subject.seed, 1]))
    spacing = np.array([scanner.spacing_mm, scanner.spacing_mm, scanner.slice_mm])
    return SyntheticScan(image, lobes[middle], lesions[middle], np.array([x[0], y[0], z[0]]), spacing)


def true_points(subject: Subject, scanner: Scanner, canonical_mm: np.ndarray) -> np.ndarray:
    """(P, 3) where canonical points (P, 3) lie in this scan, x, y, z in LPS mm: exactly."""
    return subject.deformation.turned(hard.extra_rotation_deg(scanner.hard))(canonical_mm)


def _field_of_view(
    deformation: Deformation, fat_mm: float, scanner: Scanner
) -> tuple[np.ndarray, np.ndarray]:
    """(3,) lowest and (3,) highest x, y, z: the whole body across, the lungs and a little more along it."""
    axes = [np.arange(lungs.LOW_MM[d], lungs.HIGH_MM[d], _COARSE_MM) for d in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    x, y, z = points.T
    body_mm = deformation(points[np.abs(body.outline(x, y, z)) < _COARSE_MM])
    lung_mm = deformation(points[np.abs(lungs.lung_margin(x, y, z)) < _COARSE_MM])
    fat, ends = np.array([fat_mm, fat_mm, 0]), np.array([0, 0, _BEYOND_MM])
    low, high = body_mm.min(0) - fat, body_mm.max(0) + fat
    low[2], high[2] = (lung_mm.min(0) - ends)[2], (lung_mm.max(0) + ends)[2]
    low, high = field_of_view(low, high, scanner)
    return hard.cut_box(low, high, lung_mm.min(0), lung_mm.max(0), scanner.hard)


def _canonical(deformation: Deformation, subject: Subject, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """(z, y, x, 3) canonical position of every voxel, and (z, y, x) depth under the skin in mm.

    Both are computed on a coarse grid and interpolated.
    """
    coarse_axes = [np.arange(a[0] - _COARSE_MM, a[-1] + 3 * _COARSE_MM, _COARSE_MM) for a in axes]
    z, y, x = np.meshgrid(*coarse_axes[::-1], indexing="ij")
    coarse = deformation.inverse(np.stack([x, y, z], -1).reshape(-1, 3), tolerance_mm=1e-3)
    cx, cy, cz = coarse.T
    fat = subject.fat_mm + (_BREAST_MM * body.breasts(cx, cy, cz) if subject.sex == "F" else 0)
    skin = body.outline(cx, cy, cz) + fat
    field = np.concatenate([coarse, skin[:, None]], 1).reshape(*x.shape, 4).astype(np.float32)
    for d, fine in enumerate(axes[::-1]):
        field = _interpolate(field, 1 + (fine - fine[0]) / _COARSE_MM, d)
    return field[..., :3], field[..., 3]


def _interpolate(values: np.ndarray, position: np.ndarray, axis: int) -> np.ndarray:
    """Values at positions along one axis, by the cubic through the four neighbours (Catmull and Rom)."""
    first = position.astype(int)
    t = position - first
    weights = (
        (-t + 2 * t**2 - t**3) / 2,
        (2 - 5 * t**2 + 3 * t**3) / 2,
        (t + 4 * t**2 - 3 * t**3) / 2,
        (-(t**2) + t**3) / 2,
    )
    matrix = np.zeros((len(position), values.shape[axis]), np.float32)
    for shift, weight in enumerate(weights):
        matrix[np.arange(len(position)), first + shift - 1] = weight
    return np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)


def _scene(
    subject: Subject, chest: Chest, points_mm: np.ndarray, skin_mm: np.ndarray, spacing_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(z, y, x) HU float32, lobes and lesions uint8 of a subject at canonical points (z, y, x, 3)."""
    hu = np.full(skin_mm.shape, _AIR_HU, np.float32)
    lobes, lesions = np.zeros((2, *skin_mm.shape), np.uint8)
    body_at = np.flatnonzero(skin_mm > -1)  # nothing is computed for the air around the body
    where = points_mm.reshape(-1, 3)[body_at]
    index = _index(where, chest.grid)
    tissue = ndimage.map_coordinates(chest.hu, index, np.float32, order=1, mode="nearest")
    _cover(tissue, skin_mm.ravel()[body_at])
    lobe = _nearest(chest.lobes, index)
    lung = np.flatnonzero(lobe)
    depth_mm = _nearest(chest.depth_mm, index[:, lung]).astype(np.float32)
    tissue[lung], lesion = _sicken(
        tissue[lung], LungPoints(where[lung], lobe[lung], depth_mm, spacing_mm), subject
    )
    hu.ravel()[body_at] = tissue
    lobes.ravel()[body_at] = lobe
    lesions.ravel()[body_at[lung]] = lesion
    return hu, lobes, lesions


def _index(points_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """(3, P) float32 array positions z, y, x of canonical points (P, 3) in the chest's arrays."""
    low, step = np.array(grid.origin_mm, np.float32), np.float32(grid.spacing_mm)
    return np.ascontiguousarray(((points_mm - low) / step)[:, ::-1].T)


def _nearest(labels: np.ndarray, index: np.ndarray) -> np.ndarray:
    rows = [np.clip(np.rint(i), 0, n - 1).astype(np.int32) for i, n in zip(index, labels.shape, strict=True)]
    return labels[rows[0], rows[1], rows[2]]


def _cover(hu: np.ndarray, skin_mm: np.ndarray) -> None:
    """Nothing; puts skin and air around the body. The chest's arrays end with its muscles and some fat."""
    hu[skin_mm < _SKIN_MM] = _SKIN_HU
    outside = np.clip(0.5 - skin_mm, 0, 1)
    edge = np.flatnonzero(outside)
    hu[edge] += outside[edge] * (_AIR_HU - hu[edge])


def _sicken(hu: np.ndarray, where: LungPoints, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """(P,) HU of the lungs with this subject's density and disease, and (P,) lesions."""
    share = np.clip((BLOOD_HU - hu) / (BLOOD_HU - PARENCHYMA_HU), 0, 1)  # parenchyma, not vessel
    hu = hu + share * (subject.gradient.hu(where.points_mm) - np.float32(PARENCHYMA_HU))
    return add_disease(hu, where, subject.disease, subject.person_seed)
