"""Patches around landmarks, landmarks on a grid, and which landmarks count."""

import numpy as np

from ctssl.prepare.grid import Grid


def extract_patches(
    array: np.ndarray, grid: Grid, centres_mm: np.ndarray, *, edge: int, outside: float
) -> np.ndarray:
    """(N, E, E, E) patches centred on points, linear interpolation, axes landmark, z, y, x.

    Args:
        array: (z, y, x) on `grid`.
        grid: where the array lies; patches have its spacing and axes.
        centres_mm: (N, 3) x, y, z in LPS mm.
        edge: voxels E along each axis of a patch.
        outside: the value beyond the array.
    """
    offset = np.arange(edge) - (edge - 1) / 2
    patches = np.empty((len(centres_mm),) + (edge,) * 3, array.dtype)
    for patch, centre in zip(patches, grid.to_array(centres_mm), strict=True):
        _cut(array, centre, offset, outside, patch)
    return patches


def lung_fraction(lungs: np.ndarray, grid: Grid, centres_mm: np.ndarray, *, edge: int) -> np.ndarray:
    """(N,) float32: share of each patch where `lungs` (z, y, x) is not 0."""
    inside = (lungs > 0).astype(np.float32)
    share = [extract_patches(inside, grid, c[None], edge=edge, outside=0).mean() for c in centres_mm]
    return np.array(share, np.float32)


def _cut(
    array: np.ndarray, centre: np.ndarray, offset: np.ndarray, outside: float, patch: np.ndarray
) -> None:
    """Fills one patch. Its voxels are a shifted copy of the array's: eight weighted neighbours each."""
    edge = len(offset)
    start = centre + offset[0]
    first = np.floor(start).astype(int)
    box = np.full((edge + 1,) * 3, outside, np.float32)
    low, high = np.maximum(first, 0), np.minimum(first + edge + 1, array.shape)
    if (low < high).all():
        inside = tuple(slice(lo - f, hi - f) for lo, hi, f in zip(low, high, first, strict=True))
        box[inside] = array[tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))]
    for axis, part in enumerate(start - first):
        near = box.take(range(edge), axis)
        far = box.take(range(1, edge + 1), axis)
        box = near if part == 0 else near * np.float32(1 - part) + far * np.float32(part)
    patch[...] = np.rint(box) if np.issubdtype(patch.dtype, np.integer) else box


def valid_landmarks(
    centres_mm: np.ndarray,
    grid: Grid,
    min_inside_fraction: float,
    *,
    edge: int,
    seen: np.ndarray | None = None,
) -> np.ndarray:
    """(N,) bool: the scanner saw the centre and enough of the patch.

    Args:
        centres_mm: (N, 3) x, y, z in LPS mm.
        grid: of the volume, which ends where the scan's field of view ends.
        min_inside_fraction: of the patch's volume.
        edge: voxels along each axis of a patch.
        seen: (z, y, x) bool on the grid, False where the scanner saw nothing; None when it saw all.
    """
    corners = grid.corners_mm()
    low, high = corners.min(0) - grid.spacing_mm / 2, corners.max(0) + grid.spacing_mm / 2
    half = edge * grid.spacing_mm / 2
    inside = np.minimum(centres_mm + half, high) - np.maximum(centres_mm - half, low)
    fraction = np.clip(inside / (2 * half), 0, 1).prod(1)
    centre_seen = ((centres_mm >= low) & (centres_mm <= high)).all(1)
    if seen is not None:
        fraction = lung_fraction(seen, grid, centres_mm, edge=edge)
        nearest = np.rint(grid.to_array(centres_mm[centre_seen])).astype(int)
        centre_seen[centre_seen] = seen[tuple(np.clip(nearest, 0, np.array(seen.shape) - 1).T)]
    return centre_seen & (fraction >= min_inside_fraction)


def grid_landmarks(
    lungs: np.ndarray, grid: Grid, *, edge: int, pitch_mm: float, min_lung_fraction: float
) -> np.ndarray:
    """(N, 3) patch centres x, y, z in LPS mm on a regular grid around the lungs: x slowest, z fastest.

    Args:
        lungs: (z, y, x), not 0 in the lungs, on `grid`.
        grid: the atlas's grid.
        edge: voxels along each axis of a patch.
        pitch_mm: distance of neighbours along each axis.
        min_lung_fraction: a patch with this share of lung or less gives no landmark.
    """
    inside = grid.to_points(np.argwhere(lungs > 0).astype(float))
    low, high = inside.min(0), inside.max(0)
    count = np.ceil((high - low) / pitch_mm - 1e-6).astype(int) + 1  # whole pitches are not one more
    axes = [(low[d] + high[d]) / 2 + pitch_mm * (np.arange(n) - (n - 1) / 2) for d, n in enumerate(count)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return points[lung_fraction(lungs, grid, points, edge=edge) > min_lung_fraction]


def main_labels(labels: np.ndarray, grid: Grid, centres_mm: np.ndarray, *, edge: int) -> np.ndarray:
    """(N,) the label above 0 that fills most of each patch, the smaller of equals; 0 where there is none.

    Labels (z, y, x) are looked up at the voxel nearest to each of the patch's.
    """
    offset = np.arange(edge) - (edge - 1) / 2
    found = np.zeros(len(centres_mm), np.int64)
    for number, centre in enumerate(grid.to_array(centres_mm)):
        index = [np.rint(c + offset).astype(int) for c in centre]
        kept = [i[(i >= 0) & (i < n)] for i, n in zip(index, labels.shape, strict=True)]
        counts = np.bincount(labels[np.ix_(*kept)].ravel(), minlength=2)
        counts[0] = 0
        found[number] = counts.argmax() if counts.any() else 0
    return found
