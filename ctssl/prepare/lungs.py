"""The lungs of a scan or an atlas: mask, what was seen, and their coarse smooth image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ctssl.prepare.grid import LEFT, RIGHT, Grid, covering_grid
from ctssl.prepare.mask import lung_box

SIDES = {"right": RIGHT, "left": LEFT}
FACES = ("right", "left", "front", "back", "bottom", "top")
_LETTERS = dict(zip("RLAPIS", FACES, strict=True))
_OPPOSITE = dict(zip("RLAPIS", "LRPASI", strict=True))
_CUT_CM2 = 3.0  # lung that borders on what was not seen shows that it goes on there
_MISSING = 0.05  # a lung this small beside the other is none


@dataclass(frozen=True)
class Lungs:
    """A lung mask and its grid, which ends where a margin around the lungs or the scan's view ends.

    Attributes:
        mask: (z, y, x), 0, 1 right, 2 left.
        grid: of all arrays.
        seen: (z, y, x) bool, False where the scanner saw nothing; None: all of the grid is seen.
        hu: (z, y, x), needed only where the CT takes part in the registration.
    """

    mask: np.ndarray
    grid: Grid
    seen: np.ndarray | None = None
    hu: np.ndarray | None = None

    def low_mm(self) -> np.ndarray:
        """(3,) lowest x, y, z that the grid's voxels cover."""
        return self.grid.corners_mm().min(0) - self.grid.spacing_mm / 2

    def high_mm(self) -> np.ndarray:
        """(3,) highest x, y, z that the grid's voxels cover."""
        return self.grid.corners_mm().max(0) + self.grid.spacing_mm / 2

    def cut_faces(self) -> tuple[str, ...]:
        """The faces of the field of view beyond which lung goes on: right, left, front, back, bottom, top.

        There lung lies next to voxels that were not seen, or in the outermost plane of the array.
        """
        inside = self.mask > 0
        unseen = None if self.seen is None else ~self.seen
        cut = set()
        for axis, letter in enumerate(reversed(self.grid.axes)):  # of the array: z, y, x
            for plane, face, step in ((0, _OPPOSITE[letter], -1), (-1, letter, 1)):
                voxels = np.count_nonzero(inside.take(plane, axis))
                if unseen is not None:
                    here, there = (slice(1, None), slice(-1)) if step < 0 else (slice(-1), slice(1, None))
                    at = (slice(None),) * axis
                    voxels += np.count_nonzero(inside[(*at, here)] & unseen[(*at, there)])
                if voxels * self.grid.spacing_mm**2 / 100 > _CUT_CM2:
                    cut.add(face)
        return tuple(name for letter, name in _LETTERS.items() if letter in cut)

    def sees(self, points_mm: np.ndarray, cut: Sequence[str]) -> np.ndarray:
        """(P,) bool: whether points (P, 3) x, y, z lie where the scanner saw what is there.

        Beyond a face that cuts the lungs nothing is known. Beyond the others the array ends a margin away
        from the lungs: no lung is there.
        """
        low, high = self.low_mm(), self.high_mm()
        for axis, (below, above) in enumerate(zip(FACES[::2], FACES[1::2], strict=True)):
            low[axis] = low[axis] if below in cut else -np.inf
            high[axis] = high[axis] if above in cut else np.inf
        known = np.asarray(((points_mm >= low) & (points_mm <= high)).all(1))
        if self.seen is not None:
            index = np.rint(self.grid.to_array(points_mm)).astype(int)
            inside = ((index >= 0) & (index < self.seen.shape)).all(1)
            known[inside] &= self.seen[tuple(index[inside].T)]
        return known

    def missing(self) -> str:
        """Which lung is not there: right, left, or nothing when both are. A few voxels are no lung."""
        voxels = {label: np.count_nonzero(self.mask == label) for label in SIDES.values()}
        return next((name for name, k in SIDES.items() if voxels[k] < _MISSING * voxels[3 - k]), "")

    def trimmed(self, margin_mm: float) -> "Lungs":
        """Cut to the lungs' box with a margin: less to compute on. Faces of an atlas tell nothing."""
        low, high = lung_box(self.mask, margin=round(margin_mm / self.grid.spacing_mm))
        part = tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))
        seen, hu = (None if array is None else array[part] for array in (self.seen, self.hu))
        return Lungs(self.mask[part], self.grid.crop(low, high), seen, hu)

    def only(self, labels: Sequence[int]) -> "Lungs":
        """Without the lungs that have other labels."""
        return Lungs(np.where(np.isin(self.mask, labels), self.mask, 0), self.grid, self.seen, self.hu)


def coarse(
    array: np.ndarray, grid: Grid, spacing_mm: float, *, pad_mm: float, sigma_mm: float
) -> tuple[np.ndarray, Grid]:
    """(z, y, x) float32 and its grid: an array, smoothed, on a coarse padded grid around what is not 0.

    Args:
        array: (z, y, x) on `grid`.
        grid: where the array lies.
        spacing_mm: of the coarse grid, along the same axes.
        pad_mm: what to leave around what is not 0.
        sigma_mm: of the Gaussian that smooths.
    """
    low, high = lung_box(array != 0, margin=0)
    pad = pad_mm / grid.spacing_mm
    corners = grid.to_points(np.stack([low - pad, high - 1 + pad]))
    target = covering_grid(corners, spacing_mm, grid.axes)
    step = max(1, int(spacing_mm / 2 / grid.spacing_mm))
    part = array[tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))]
    fill = [(step, step + -n % step) for n in part.shape]  # an empty block on each side, whole blocks
    part = np.pad(part, fill).astype(np.float32)
    k, j, i = (n // step for n in part.shape)
    blocks = part.reshape(k, step, j, step, i, step).mean((1, 3, 5)) if step > 1 else part
    sigma = sigma_mm / grid.spacing_mm / step
    room = int(np.ceil(4 * sigma))
    blocks = ndimage.gaussian_filter(np.pad(blocks, room), sigma)
    first = low - step + (step - 1) / 2  # of the array: the middle of the first block
    index = [np.arange(n) for n in target.shape]
    corner = grid.to_array(target.to_points(np.zeros((1, 3))))[0]
    where = [(corner[d] + index[d] * spacing_mm / grid.spacing_mm - first[d]) / step + room for d in range(3)]
    for axis, positions in enumerate(where):
        blocks = _linear(blocks, positions, axis)
    return blocks, target


def _linear(values: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Values at positions along one axis, linear, 0 outside."""
    padded = np.pad(values, [(1, 1) if d == axis else (0, 0) for d in range(values.ndim)])
    positions = np.clip(positions + 1, 0, padded.shape[axis] - 1)
    first = np.minimum(positions.astype(int), padded.shape[axis] - 2)
    shape = [-1 if d == axis else 1 for d in range(values.ndim)]
    weight = (positions - first).astype(np.float32).reshape(shape)
    return padded.take(first, axis) * (1 - weight) + padded.take(first + 1, axis) * weight


def signed(mask: np.ndarray) -> np.ndarray:
    """(z, y, x) int8: +1 in the right lung, -1 in the left. So both weigh the same and cannot swap."""
    return np.array([0, 1, -1], np.int8)[mask]
