"""A volume that shapes are painted into, with the partial volume of their edges."""

from collections.abc import Callable, Sequence

import numpy as np

from ctssl.prepare.grid import Grid

Margin = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""x, y, z in LPS mm (arrays that broadcast) to the distance from a surface: positive inside."""

Box = tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]
"""Lowest and highest x, y, z in mm."""

_SLAB = 24


class Canvas:
    """HU on a grid with LPS axes.

    Attributes:
        grid: the voxels.
        hu: (z, y, x) float32.
        x, y, z: coordinates in mm, shaped to broadcast with `hu`.
    """

    def __init__(self, grid: Grid, hu: float) -> None:
        self.grid = grid
        self.hu = np.full(grid.shape, hu, np.float32)
        axes = [
            (grid.origin_mm[d] + grid.spacing_mm * np.arange(grid.size[d])).astype(np.float32)
            for d in range(3)
        ]
        self.x, self.y, self.z = axes[0][None, None], axes[1][None, :, None], axes[2][:, None, None]

    def blend(self, margin: Margin, hu: float, box: Box | None = None) -> None:
        """Nothing; sets the inside of a shape to `hu`, its edge to a mixture.

        Args:
            margin: of the shape.
            hu: its value.
            box: that holds the shape; None: all of the canvas.
        """
        for part in self._slabs(box):
            coverage = self._coverage(margin, part)
            self.hu[part] += coverage * (np.float32(hu) - self.hu[part])

    def coverage(self, margin: Margin) -> np.ndarray:
        """(z, y, x) float32: the share of each voxel that lies inside."""
        out = np.empty(self.grid.shape, np.float32)
        for part in self._slabs(None):
            out[part] = self._coverage(margin, part)
        return out

    def _coverage(self, margin: Margin, part: tuple[slice, slice, slice]) -> np.ndarray:
        z, y, x = self.z[part[0]], self.y[:, part[1]], self.x[:, :, part[2]]
        return np.clip(margin(x, y, z) / self.grid.spacing_mm + 0.5, 0, 1).astype(np.float32)

    def _slabs(self, box: Box | None) -> list[tuple[slice, slice, slice]]:
        low, high = np.zeros(3, int), np.array(self.grid.shape)
        if box is not None:
            pad = self.grid.spacing_mm
            ends = self.grid.to_array(np.array([np.array(box[0]) - pad, np.array(box[1]) + pad], float))
            low = np.clip(np.floor(ends[0]).astype(int), 0, high)
            high = np.clip(np.ceil(ends[1]).astype(int) + 1, low, high)
        rows, columns = slice(low[1], high[1]), slice(low[2], high[2])
        starts = range(low[0], high[0], _SLAB)
        return [(slice(z, min(z + _SLAB, high[0])), rows, columns) for z in starts]
