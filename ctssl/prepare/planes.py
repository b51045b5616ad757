"""Planes of a volume as a person expects them: head up, front left, the subject's right on the left."""

import numpy as np
from scipy import ndimage

from ctssl.prepare.grid import Grid

AXES = {"axial": 0, "coronal": 1, "sagittal": 2}
"""Of an upright array: the axis that a plane stands on."""

_WINDOW_HU = (-1150, 250)
_THIN = 64  # voxels along the shortest edge are enough to find a centre


class Upright:
    """A grid turned for display: from head to feet, from front to back, from the subject's right to left.

    Args:
        grid: along any axes.
    """

    def __init__(self, grid: Grid) -> None:
        letters = grid.axes[::-1]  # of the array's axes
        self._grid = grid
        self._order = [next(d for d in range(3) if letters[d] in pair) for pair in ("SI", "PA", "LR")]
        self._turned = np.array([letters[d] in "SAR" for d in self._order])

    def array(self, values: np.ndarray) -> np.ndarray:
        """A view of an array of the grid, (z, y, x) along its axes, in the order of the class."""
        turns = tuple(slice(None, None, -1 if turned else 1) for turned in self._turned)
        return values.transpose(self._order)[turns]

    def positions(self, points_mm: np.ndarray) -> np.ndarray:
        """(P, 3) positions in that view of points (P, 3) x, y, z in LPS mm."""
        found = self._grid.to_array(points_mm)[:, self._order]
        last = np.array(self._grid.shape)[self._order] - 1
        return np.where(self._turned, last - found, found)


def plane(values: np.ndarray, name: str, number: int) -> np.ndarray:
    """(rows, columns) of an upright array; a view, since copying all of it is what takes time."""
    return values[(slice(None),) * AXES[name] + (number,)]


def centre(mask: np.ndarray, labels: tuple[int, ...]) -> list[int] | None:
    """The centre of mass of these labels in voxels, to a few voxels; None where there are none."""
    step = max(1, min(mask.shape) // _THIN)
    part = np.isin(mask[::step, ::step, ::step], labels)
    return [round(c * step) for c in ndimage.center_of_mass(part)] if part.any() else None


def box(mask: np.ndarray, margin: int) -> list[slice]:
    """Where a mask is not 0, with a margin in voxels; all of it where it is 0 everywhere."""
    found = []
    for axis, length in enumerate(mask.shape):
        there = np.flatnonzero(mask.any(axis=tuple(d for d in range(3) if d != axis)))
        low, high = (int(there[0]), int(there[-1]) + 1) if there.size else (0, length)
        found.append(slice(max(0, low - margin), min(length, high + margin)))
    return found


def grey(hu: np.ndarray) -> np.ndarray:
    """(rows, columns) uint8 of a plane in HU, at a lung window."""
    low, high = _WINDOW_HU
    return np.clip((hu.astype(float) - low) / (high - low) * 255, 0, 255).astype(np.uint8)


def resized(picture: np.ndarray, size: tuple[int, int], *, sharp: bool = False) -> np.ndarray:
    """(height, width) uint8 of a plane; `size` is width, height in pixels; `sharp` for labels."""
    from PIL import Image

    how = Image.Resampling.NEAREST if sharp else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture, np.uint8)).resize(size, how))
