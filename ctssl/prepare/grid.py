"""A grid of voxels in the scanner's space: the border between points and arrays.

Points are x, y, z in LPS mm. Arrays are z, y, x along the grid's axes. Everything that changes from one
to the other does it here.
"""

from dataclasses import dataclass

import numpy as np

RIGHT, LEFT = 1, 2
"""Labels of the lungs in every mask."""

_LETTERS = {"L": (0, 1), "R": (0, -1), "P": (1, 1), "A": (1, -1), "S": (2, 1), "I": (2, -1)}


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an array lie.

    Attributes:
        origin_mm: x, y, z of the first voxel's centre, LPS.
        spacing_mm: distance of voxels, the same along all axes.
        size: number of voxels along i, j, k (the array's shape reversed).
        axes: the letters toward which i, j, k grow, e.g. LPS.
    """

    origin_mm: tuple[float, float, float]
    spacing_mm: float
    size: tuple[int, int, int]
    axes: str

    @property
    def direction(self) -> np.ndarray:
        """(3, 3): column d is the unit vector along which index d grows."""
        return axes_direction(self.axes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the array: z, y, x."""
        i, j, k = self.size
        return k, j, i

    def to_array(self, points_mm: np.ndarray) -> np.ndarray:
        """(P, 3) array positions z, y, x (fractions of voxels) of points (P, 3) x, y, z in LPS mm."""
        index = (points_mm - np.array(self.origin_mm)) @ self.direction / self.spacing_mm
        return index[..., ::-1]

    def to_points(self, positions: np.ndarray) -> np.ndarray:
        """(P, 3) points x, y, z in LPS mm of array positions (P, 3) z, y, x."""
        return positions[..., ::-1] * self.spacing_mm @ self.direction.T + np.array(self.origin_mm)

    def crop(self, low: np.ndarray, high: np.ndarray) -> "Grid":
        """The grid of array[low:high], bounds z, y, x in voxels."""
        origin = self.to_points(np.asarray(low, float))
        size = (np.asarray(high) - np.asarray(low))[::-1]
        i, j, k = (int(n) for n in size)
        return Grid(_triple(origin), self.spacing_mm, (i, j, k), self.axes)

    def every(self, step: int) -> "Grid":
        """The grid of array[::step, ::step, ::step]."""
        i, j, k = (-(-n // step) for n in self.size)
        return Grid(self.origin_mm, self.spacing_mm * step, (i, j, k), self.axes)

    def part_around(self, points_mm: np.ndarray, margin_voxels: int) -> "Grid":
        """The part of this grid that holds points (P, 3) x, y, z and a margin, as far as it reaches.

        Raises:
            ValueError: no point's surroundings touch this grid.
        """
        positions = self.to_array(points_mm)
        low = np.maximum(np.floor(positions.min(0)).astype(int) - margin_voxels, 0)
        high = np.minimum(np.ceil(positions.max(0)).astype(int) + margin_voxels + 1, self.shape)
        if not (low < high).all():
            msg = f"the points lie outside the grid: {positions.min(0)} to {positions.max(0)} of {self.shape}"
            raise ValueError(msg)
        return self.crop(low, high)

    def corners_mm(self) -> np.ndarray:
        """(2, 3): centre of the first and of the last voxel, x, y, z."""
        return np.stack([np.array(self.origin_mm), self.to_points(np.array(self.shape) - 1.0)])


def axes_direction(axes: str) -> np.ndarray:
    """(3, 3) direction whose columns point toward the letters of `axes`.

    Raises:
        ValueError: not three letters of unlike axes.
    """
    rows = [_LETTERS[letter][0] for letter in axes if letter in _LETTERS]
    if len(axes) != 3 or sorted(rows) != [0, 1, 2]:
        msg = f"axes are three letters of L/R, P/A, S/I, but these are {axes!r}"
        raise ValueError(msg)
    direction = np.zeros((3, 3))
    direction[rows, range(3)] = [_LETTERS[letter][1] for letter in axes]
    return direction


_CLOSE = 1e-3  # voxels; headers hold a spacing as float32, which may round down: 0.7 mm does


def covering_grid(corners_mm: np.ndarray, spacing_mm: float, axes: str) -> Grid:
    """The largest grid along `axes` whose voxels' centres lie inside the box of corners (C, 3) x, y, z.

    A last voxel that lies beyond the box by a thousandth of a voxel or less still counts as inside.
    """
    local = corners_mm @ axes_direction(axes)
    low, high = local.min(0), local.max(0)
    count = np.maximum(np.floor((high - low) / spacing_mm + _CLOSE).astype(int), 0) + 1
    spare = np.maximum((high - low) - (count - 1) * spacing_mm, 0)
    origin = axes_direction(axes) @ (low + spare / 2)
    i, j, k = (int(n) for n in count)
    return Grid(_triple(origin), spacing_mm, (i, j, k), axes)


def _triple(point: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in point)
    return x, y, z
