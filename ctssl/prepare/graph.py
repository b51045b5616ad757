"""Which landmarks are neighbours."""

import numpy as np
from scipy.spatial import cKDTree


def pairs_within(points_mm: np.ndarray, distance_mm: float) -> np.ndarray:
    """(E, 2) pairs of points closer than a distance, smaller index first, sorted; no self loops."""
    pairs = cKDTree(points_mm).query_pairs(distance_mm, output_type="ndarray")
    closer = np.linalg.norm(points_mm[pairs[:, 0]] - points_mm[pairs[:, 1]], axis=1) < distance_mm
    pairs = np.sort(pairs[closer], axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].astype(np.int64)


def scan_edges(
    landmarks_mm: np.ndarray,
    valid: np.ndarray,
    rho_mm: float,
    *,
    atlas_mm: np.ndarray | None = None,
    neighbours: np.ndarray | None = None,
) -> np.ndarray:
    """(E, 2) edges between valid landmarks whose distance in the scan is below rho.

    With `atlas_mm` and `neighbours`, rho is multiplied by the scan's size: the median over the atlas's
    neighbours of distance in the scan by distance in the atlas. Without that, lungs 8 % larger than the
    atlas lose all edges.

    Args:
        landmarks_mm: (N, 3) mapped landmarks, x, y, z in LPS mm of the scan.
        valid: (N,) bool.
        rho_mm: distance threshold.
        atlas_mm: (N, 3) landmarks in the atlas.
        neighbours: (E, 2) neighbours in the atlas.

    Source: paper Eq. 3.
    """
    if atlas_mm is not None and neighbours is not None:
        both = neighbours[valid[neighbours].all(1)]
        if len(both):
            rho_mm *= float(np.median(_length(landmarks_mm, both) / _length(atlas_mm, both)))
    index = np.flatnonzero(valid)
    if len(index) < 2:
        return np.empty((0, 2), np.int64)
    return index[pairs_within(landmarks_mm[index], rho_mm)]


def _length(points_mm: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points_mm[pairs[:, 0]] - points_mm[pairs[:, 1]], axis=1)
