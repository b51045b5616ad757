"""Painting many thin tubes, vessels and airways, into an array."""

import numpy as np

from ctssl.prepare.grid import Grid


def draw_tubes(
    values: np.ndarray,
    grid: Grid,
    starts_mm: np.ndarray,
    ends_mm: np.ndarray,
    radii_mm: np.ndarray,
    value: float,
) -> None:
    """Nothing; moves `values` toward `value` in the tubes, by the share of each voxel that they fill.

    A tube thinner than a voxel keeps its cross-section: it is drawn a voxel wide and fainter. Where tubes
    overlap, the fullest counts.

    Args:
        values: (z, y, x) float32 on the grid, changed in place.
        grid: where the voxels lie.
        starts_mm: (S, 3).
        ends_mm: (S, 3).
        radii_mm: (S,).
        value: what a voxel inside a tube becomes.
    """
    starts, ends = grid.to_array(starts_mm), grid.to_array(ends_mm)  # from here on in voxels
    radii = radii_mm / grid.spacing_mm
    # A ramp one voxel wide adds 1/12 to the mean squared radius; taken off here, the mass is pi r^2.
    drawn = np.sqrt(np.maximum(radii**2 - 1 / 12, 1 / 4))
    share = np.minimum(3 * radii**2, 1)
    reach = (drawn + 0.5)[:, None]
    low = np.clip(np.ceil(np.minimum(starts, ends) - reach), 0, None).astype(int)
    high = np.clip(np.floor(np.maximum(starts, ends) + reach) + 1, None, values.shape).astype(int)
    filled = np.zeros(values.shape, np.float32)
    for i in np.flatnonzero((low < high).all(1)):
        box = tuple(slice(a, b) for a, b in zip(low[i], high[i], strict=True))
        distance = _distance(low[i], high[i], starts[i], ends[i])
        np.maximum(filled[box], share[i] * np.clip(drawn[i] - distance + 0.5, 0, 1), out=filled[box])
    touched = filled > 0
    values[touched] += filled[touched] * (value - values[touched])


def _distance(low: np.ndarray, high: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(z, y, x) distances in voxels of the box low:high to the straight line from start to end."""
    axis = end - start
    z, y, x = (np.arange(a, b, dtype=np.float32) - s for a, b, s in zip(low, high, start, strict=True))
    z, y = z[:, None, None], y[:, None]
    along = np.clip((z * axis[0] + y * axis[1] + x * axis[2]) / max(axis @ axis, 1e-12), 0, 1)
    return np.sqrt((z - along * axis[0]) ** 2 + (y - along * axis[1]) ** 2 + (x - along * axis[2]) ** 2)
