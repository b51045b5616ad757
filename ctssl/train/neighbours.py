"""Patches of neighbouring landmarks that come with a batch of one landmark."""

from dataclasses import dataclass, replace

import numpy as np

from ctssl.train.batches import Batch, Cohort, Sample

LEAST = 2
"""Scans of a batch norm group that must show a neighbour: the trunk ends in one voxel a patch, and a single
value has no variance. The same holds of a landmark and a batch (ctssl.train.batches.samples_of_round)."""


@dataclass(frozen=True)
class Shown:
    """The patches of one neighbour in a batch.

    Attributes:
        landmark: the neighbour.
        rows: (m,) which patches of the batch.
        scans: (m,) whose they are, 0 to B - 1, rising.
        groups: sizes of the batch norm groups, which are those of the scans; they sum to m.
    """

    landmark: int
    rows: np.ndarray
    scans: np.ndarray
    groups: tuple[int, ...]


def nearest(landmarks_mm: np.ndarray, count: int) -> np.ndarray:
    """(N, k) the nearest other landmarks of each, near ones first, of equally near ones the lower number.

    Distances are compared to a thousandth of a millimetre, so that rounding decides nothing.

    Args:
        landmarks_mm: (N, 3).
        count: k, or N - 1 where there are no more.
    """
    apart = np.linalg.norm(landmarks_mm[:, None] - landmarks_mm[None], axis=2).round(3)  # (N, N)
    np.fill_diagonal(apart, np.inf)
    return np.argsort(apart, axis=1, kind="stable")[:, : min(count, len(apart) - 1)]


def with_neighbours(cohort: Cohort, sample: Sample, neighbours: np.ndarray) -> Sample:
    """The sample of one landmark with the neighbours that each of its scans shows, after its own patch.

    Args:
        cohort: knows which landmarks a scan shows.
        sample: of one landmark.
        neighbours: (k,) of that landmark.
    """
    shown = cohort.valid[np.ix_(sample.members, neighbours)]  # (B, k)
    read = np.column_stack([np.ones(len(shown), bool), shown])
    numbers = np.column_stack([sample.landmarks, np.broadcast_to(neighbours, shown.shape)])
    return replace(sample, scans=np.repeat(sample.members, read.sum(1)), landmarks=numbers[read])


def own_rows(batch: Batch) -> np.ndarray:
    """(B,) which patches of a batch are those of its own landmark: the first of each scan."""
    return np.cumsum(batch.counts) - batch.counts


def shown_neighbours(batch: Batch, neighbours: np.ndarray) -> list[Shown]:
    """The neighbours (k,) that can be compared; a batch norm group with fewer than LEAST of one has none."""
    owner = np.repeat(np.arange(len(batch.counts)), batch.counts)  # (M,)
    group = np.repeat(np.arange(len(batch.groups)), batch.groups)  # (B,)
    found = []
    for landmark in neighbours.tolist():
        rows = np.flatnonzero(batch.host_landmarks == landmark)
        sizes = np.bincount(group[owner[rows]], minlength=len(batch.groups))
        rows = rows[(sizes >= LEAST)[group[owner[rows]]]]
        if len(rows):
            groups = tuple(sizes[sizes >= LEAST].tolist())
            found.append(Shown(landmark, rows, owner[rows], groups))
    return found
