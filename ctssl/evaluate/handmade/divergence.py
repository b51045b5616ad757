"""How far apart two scans are: the divergence of the densities that their descriptors are drawn from."""

import numpy as np

FLOOR = 1e-3
"""Distances below this count as this. One voxel of 32 cubed moves a descriptor by 0.006."""


def neighbour_distances(points: np.ndarray, neighbours: int) -> np.ndarray:
    """(n,) the distance from each of (n, d) points to its k-th nearest other one; n is above k."""
    between = _squares(points, points)
    np.fill_diagonal(between, np.inf)  # a point is not its own neighbour
    return _kth(between, neighbours)


def divergence(
    first: np.ndarray,
    second: np.ndarray,
    within_first: np.ndarray,
    within_second: np.ndarray,
    neighbours: int,
) -> float:
    """The symmetric divergence of two sets of points, in nats: the mean of both ways, at least 0.

    One way it is KL(P || Q) = d / n * sum_i log(nu_i / rho_i) + log(m / (n - 1)), of n points of P and m
    of Q in d dimensions, with nu_i the distance of point i of P to its k-th nearest point of Q, rho_i that to
    its k-th nearest other point of P.

    Args:
        first: (n, d).
        second: (m, d).
        within_first: (n,) its `neighbour_distances`.
        within_second: (m,) likewise.
        neighbours: k, below n and m.

    Source: Wang, Kulkarni, Verdu, IEEE Trans. Inf. Theory 55:2392, 2009, eq. 5, with k neighbours; that scans
    are compared so: Schabdach et al., IPMI 2017.
    """
    between = _squares(first, second)
    there = one_way(_kth(between, neighbours), within_first, len(second), first.shape[1])
    back = one_way(_kth(between.T, neighbours), within_second, len(first), first.shape[1])
    return max(0.0, (there + back) / 2)


def one_way(across: np.ndarray, within: np.ndarray, others: int, dimensions: int) -> float:
    """KL(P || Q) of the distances (n,) of P's points to Q (`across`) and in P (`within`); Q has `others`."""
    ratios = np.log(np.maximum(across, FLOOR) / np.maximum(within, FLOOR))
    return float(dimensions * ratios.mean() + np.log(others / (len(within) - 1)))


def _squares(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, m) squared Euclidean distances of (n, d) and (m, d); those of 0 may be a little off, also below."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    return (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T


def _kth(squares: np.ndarray, k: int) -> np.ndarray:
    """(n,) the k-th smallest of each row, as a distance: so roots are taken of n, not of all pairs."""
    return np.sqrt(np.maximum(np.partition(squares, k - 1, axis=1)[:, k - 1], 0))
