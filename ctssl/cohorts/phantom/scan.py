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
_FARTHEST_MM = 400.0  # no canonical skin lies farther from the middle
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
    """A scan of one subject, the same for the same arguments.

    Lesions take their shares of the lung that the scan shows: where the field of view cuts the lungs, the
    patterns are those of the whole scan, but what they claim is drawn anew.
    """
    deformation = deformation_of(subject, scanner)
    low, high = _field_of_view(deformation, subject, scanner)
    x, y, z = scan_axes(low, high, scanner)
    points, skin_mm = _canonical(deformation, subject, (x, y, planes_mm(z, scanner)))
    hu, lobes, lesions = _scene(subject, chest, points, skin_mm, scanner.spacing_mm)
    if scanner.hard:
        hu, kept = hard.alter_anatomy(hu, sides(lobes), points, scanner.hard)
        lobes[kept == 0] = lesions[kept == 0] = 0
    parts = subslices(scanner)
    middle = slice(parts // 2, None, parts)  # the plane at the centre of a slice stands for all of it
    back_mm = float(y[np.flatnonzero((skin_mm > 0).any((0, 2)))[-1]])
    image = acquire(hu, (x, y, z), scanner, back_mm, np.random.default_rng([subject.seed, 1]))
    spacing = np.array([scanner.spacing_mm, scanner.spacing_mm, scanner.slice_mm])
    return SyntheticScan(image, lobes[middle], lesions[middle], np.array([x[0], y[0], z[0]]), spacing)


def deformation_of(subject: Subject, scanner: Scanner) -> Deformation:
    """From canonical points to this scan: the subject's own, turned as the subject lies."""
    return subject.deformation.turned(hard.extra_rotation_deg(scanner.hard))


def true_points(subject: Subject, scanner: Scanner, canonical_mm: np.ndarray) -> np.ndarray:
    """(P, 3) where canonical points (P, 3) lie in this scan, x, y, z in LPS mm: exactly."""
    return deformation_of(subject, scanner)(canonical_mm)


def _field_of_view(
    deformation: Deformation, subject: Subject, scanner: Scanner
) -> tuple[np.ndarray, np.ndarray]:
    """(3,) lowest and (3,) highest x, y, z: the whole body across, the lungs and a little more along it."""
    axes = [np.arange(lungs.LOW_MM[d], lungs.HIGH_MM[d], _COARSE_MM) for d in range(3)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    lung_mm = deformation(points[np.abs(lungs.lung_margin(*points.T)) < _COARSE_MM])
    skin_mm = deformation(_skin_points(subject))
    low, high = lung_mm.min(0) - _BEYOND_MM, lung_mm.max(0) + _BEYOND_MM
    shown = skin_mm[(skin_mm[:, 2] > low[2] - _COARSE_MM) & (skin_mm[:, 2] < high[2] + _COARSE_MM)]
    low[:2], high[:2] = shown[:, :2].min(0), shown[:, :2].max(0)
    low, high = field_of_view(low, high, scanner)
    return hard.cut_box(low, high, lung_mm.min(0), lung_mm.max(0), scanner.hard)


def _skin_points(subject: Subject) -> np.ndarray:
    """(P, 3) canonical points all over the skin, found by halving along rays from the middle outward."""
    heights = np.arange(lungs.LOW_MM[2] - 3 * _COARSE_MM, lungs.HIGH_MM[2] + 3 * _COARSE_MM, _COARSE_MM)
    turns = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    z, turn = (a.ravel() for a in np.meshgrid(heights, turns, indexing="ij"))
    inner, outer = np.zeros(len(z)), np.full(len(z), _FARTHEST_MM)
    for _ in range(10):  # to 0.4 mm
        reach = (inner + outer) / 2
        inside = _under_skin_mm(subject, reach * np.cos(turn), reach * np.sin(turn), z) > 0
        inner, outer = np.where(inside, reach, inner), np.where(inside, outer, reach)
    return np.stack([outer * np.cos(turn), outer * np.sin(turn), z], 1)


def _under_skin_mm(subject: Subject, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(P,) how deep canonical points lie under the skin; negative in the air."""
    breasts = _BREAST_MM * body.breasts(x, y, z) if subject.sex == "F" else 0
    return body.outline(x, y, z) + subject.fat_mm + breasts


def _canonical(deformation: Deformation, subject: Subject, axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """(z, y, x, 3) canonical position of every voxel, and (z, y, x) depth under the skin in mm.

    Both are computed on a coarse grid and interpolated.
    """
    coarse_axes = [np.arange(a[0] - _COARSE_MM, a[-1] + 3 * _COARSE_MM, _COARSE_MM) for a in axes]
    z, y, x = np.meshgrid(*coarse_axes[::-1], indexing="ij")
    coarse = deformation.inverse(np.stack([x, y, z], -1).reshape(-1, 3), tolerance_mm=1e-3)
    skin = _under_skin_mm(subject, *coarse.T)
    field = np.concatenate([coarse, skin[:, None]], 1).reshape(*x.shape, 4).astype(np.float32)
    for axis, fine in zip((2, 1, 0), axes, strict=True):  # x first: the last array then lies as it is read
        field = _interpolate(field, 1 + (fine - fine[0]) / _COARSE_MM, axis)
    return field[..., :3], field[..., 3]


def _interpolate(values: np.ndarray, position: np.ndarray, axis: int) -> np.ndarray:
    """Values at positions along one axis, by the cubic through the four neighbours (Catmull and Rom).

    A plain sum, plane by plane: a product of matrices would depend on the number of threads.
    """
    first = position.astype(int)
    t = position - first
    weights = np.stack(
        [
            (-t + 2 * t**2 - t**3) / 2,
            (2 - 5 * t**2 + 3 * t**3) / 2,
            (t + 4 * t**2 - 3 * t**3) / 2,
            (-(t**2) + t**3) / 2,
        ]
    ).astype(np.float32)
    values = np.moveaxis(values, axis, 0)
    out = np.zeros((len(position), *values.shape[1:]), np.float32)
    part = np.empty(values.shape[1:], np.float32)
    for k, start in enumerate(first - 1):
        for value, weight in zip(values[start : start + 4], weights[:, k], strict=True):
            out[k] += np.multiply(value, weight, out=part)
    return np.moveaxis(out, 0, axis)


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
    at = np.zeros(index.shape[1], np.int32)
    for position, count in zip(index, labels.shape, strict=True):
        at = at * count + np.clip(np.rint(position), 0, count - 1).astype(np.int32)
    return labels.ravel()[at]


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
