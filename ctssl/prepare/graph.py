"""Which landmarks are neighbours: in the atlas, and in a scan by one of three rules."""

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from ctssl.prepare.atlas import Atlas

Rule = Literal["topology", "distance", "overlap"]

_NEAR = 1.2  # pitches; on a regular grid between one step (1) and a diagonal (1.41)


def grid_neighbours(points_mm: np.ndarray, pitch_mm: float) -> np.ndarray:
    """(E, 2) pairs of landmarks that are neighbours in the atlas: closer than 1.2 pitches."""
    return pairs_within(points_mm, _NEAR * pitch_mm)


def pairs_within(points_mm: np.ndarray, distance_mm: float) -> np.ndarray:
    """(E, 2) pairs of points closer than a distance, smaller index first, sorted; no self loops."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(points_mm).query_pairs(distance_mm, output_type="ndarray")
    return _sorted(pairs[_length(points_mm, pairs) < distance_mm])


def scan_edges(
    landmarks_mm: np.ndarray,
    valid: np.ndarray,
    atlas: "Atlas",
    *,
    edges: Rule,
    rho_mm: float | None = None,
    min_overlap: float | None = None,
    scale_normalised: bool = False,
) -> np.ndarray:
    """(E, 2) edges between valid landmarks of a scan, smaller number first, sorted, no self loops.

    topology: the neighbours of the atlas. distance: closer in the scan than rho. overlap: patches, laid
    around the landmarks in the scan, that share more than `min_overlap` of their volume.

    The last two shrink with the scan: lungs 8 % larger than the published atlas lose every edge of the
    released overlap rule. `scale_normalised` therefore measures in the scan's own size.

    Args:
        landmarks_mm: (N, 3) mapped landmarks, x, y, z in LPS mm of the scan.
        valid: (N,) bool.
        atlas: gives neighbours, size of a patch and the landmarks that a scan's size is relative to.
        edges: the rule.
        rho_mm: distance only.
        min_overlap: overlap only, as a share of a patch's volume.
        scale_normalised: distance and overlap: divide distances in the scan by `scan_size`.

    Raises:
        ValueError: the rule's own number is missing.

    Source: distance is paper Eq. 3; overlap, above 0.13, is batmanlab/Context_Aware_SSL@6fa7acb.
    """
    if edges == "topology":
        return atlas.neighbours[valid[atlas.neighbours].all(1)]
    size = scan_size(landmarks_mm, valid, atlas) if scale_normalised else 1.0
    index = np.flatnonzero(valid)
    points_mm = landmarks_mm[index] / size
    if len(index) < 2:
        return np.empty((0, 2), np.int64)
    if edges == "distance" and rho_mm is not None:
        return index[pairs_within(points_mm, rho_mm)]
    if edges == "overlap" and min_overlap is not None:
        return index[_overlapping(points_mm, atlas.patch_voxels * atlas.spacing_mm, min_overlap)]
    raise ValueError(f"edges by {edges} need their own number: rho_mm or min_overlap")


def scan_size(landmarks_mm: np.ndarray, valid: np.ndarray, atlas: "Atlas") -> float:
    """Size of the scan relative to the atlas: median over valid neighbours of distance by distance.

    1 when no two neighbours are valid.
    """
    pairs = atlas.neighbours[valid[atlas.neighbours].all(1)]
    if not len(pairs):
        return 1.0
    return float(np.median(_length(landmarks_mm, pairs) / _length(atlas.landmarks_mm, pairs)))


def _overlapping(points_mm: np.ndarray, edge_mm: float, min_overlap: float) -> np.ndarray:
    """(E, 2) pairs whose cubes of this edge share more than `min_overlap` of their volume."""
    from scipy.spatial import cKDTree

    pairs = cKDTree(points_mm).query_pairs(edge_mm, p=np.inf, output_type="ndarray")
    apart = np.abs(points_mm[pairs[:, 0]] - points_mm[pairs[:, 1]])
    shared = (np.maximum(edge_mm - apart, 0) / edge_mm).prod(1)
    return _sorted(pairs[shared > min_overlap])


def _sorted(pairs: np.ndarray) -> np.ndarray:
    pairs = np.sort(pairs, axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].astype(np.int64)


def _length(points_mm: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points_mm[pairs[:, 0]] - points_mm[pairs[:, 1]], axis=1)
