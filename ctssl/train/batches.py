"""Where batches come from: pure functions of (seed, round), and the reading of what they name."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from ctssl.store.reader import Store, read_patches

AHEAD = 2
"""Batches that are read while one is in use."""

Asked = TypeVar("Asked")
Got = TypeVar("Got")


@dataclass(frozen=True)
class Cohort:
    """What samplers know of the scans.

    Attributes:
        valid: (S, N) bool, which landmarks each scan shows.
        subjects: (S,) number of each scan's subject.
    """

    valid: np.ndarray
    subjects: np.ndarray

    @classmethod
    def of(cls, stores: Sequence[Store], subjects: Sequence[str]) -> "Cohort":
        """The cohort of these stores; subjects are numbered by their sorted names."""
        numbers = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)[1]
        return cls(np.stack([s.valid for s in stores]), numbers.astype(np.int64))


@dataclass(frozen=True)
class Sample:
    """What a batch holds, by name: the pairs (scan, landmark), a scan's pairs together.

    The landmark travels with the patch; nobody keeps a current landmark elsewhere.

    Attributes:
        scans: (M,) rows of the cohort.
        landmarks: (M,).
        members: (B,) the scans of the batch in their order.
    """

    scans: np.ndarray
    landmarks: np.ndarray
    members: np.ndarray


@dataclass(frozen=True)
class Batch:
    """The values of a sample, patches of one scan together.

    Attributes:
        patches: (M, E, E, E) int16 HU, axes patch, z, y, x.
        landmarks: (M,) long.
        subjects: (B,) long, the subject of each scan.
        counts: (B,) long, patches of each scan; they sum to M.
        edges: (E, 2) long, neighbours as numbers 0 to M - 1; none for a batch of one landmark.
    """

    patches: Tensor
    landmarks: Tensor
    subjects: Tensor
    counts: Tensor
    edges: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


def rounds_per_epoch(cohort: Cohort, batch: int) -> int:
    """ceil(S / batch): in how many rounds the S scans fit."""
    return -(-len(cohort.subjects) // batch)


def scans_of_round(cohort: Cohort, batch: int, seed: int, number: int) -> np.ndarray:
    """The scans of one round: at most `batch`, each subject at most once.

    An epoch deals its scans, subject by subject in random order, round robin to its rounds; so sizes
    differ by one at most and the scans of a subject go to different rounds. Of a subject with more scans
    than rounds, as many as rounds are dealt; they take turns, so that n scans are all met within
    ceil(n / rounds) epochs.
    """
    rounds = rounds_per_epoch(cohort, batch)
    epoch, turn = divmod(number, rounds)
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(cohort.subjects))
    rank = rng.permutation(int(cohort.subjects.max()) + 1)
    order = order[_has_turn(cohort, rounds, seed, epoch)[order]]
    dealt = order[np.argsort(rank[cohort.subjects[order]], kind="stable")]
    return dealt[turn::rounds]


def _has_turn(cohort: Cohort, rounds: int, seed: int, epoch: int) -> np.ndarray:
    """(S,) bool: the next `rounds` scans of each subject, round its scans in an order that stays."""
    order = np.random.default_rng([seed, 0, 3]).permutation(len(cohort.subjects))
    order = order[np.argsort(cohort.subjects[order], kind="stable")]
    counts = np.bincount(cohort.subjects)
    place = np.empty(len(order), np.int64)  # of each scan among its subject's
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (place - epoch * rounds) % counts[cohort.subjects] < rounds


def samples_of_round(
    cohort: Cohort, unit: Literal["landmark", "scan"], batch: int, seed: int, number: int
) -> list[Sample]:
    """The batches of one round: for unit landmark one per landmark, in random order; else a single one.

    Only valid pairs are named. A landmark that fewer than two of the round's scans show is skipped.
    """
    scans = scans_of_round(cohort, batch, seed, number)
    if unit == "scan":
        return [scan_sample(cohort, scans)]
    walk = np.random.default_rng([seed, number, 1]).permutation(cohort.valid.shape[1])
    showing = ((j, scans[cohort.valid[scans, j]]) for j in walk)
    return [Sample(s, np.full(len(s), j), s) for j, s in showing if len(s) > 1]


def scan_sample(cohort: Cohort, scans: np.ndarray) -> Sample:
    """All valid patches of these scans."""
    rows, landmarks = np.nonzero(cohort.valid[scans])
    return Sample(scans[rows], landmarks, scans)


def part_of(sample: Sample, rank: int, world_size: int) -> Sample:
    """The share of one of several devices: consecutive scans, nearly equally many each."""
    members = np.array_split(sample.members, world_size)[rank]
    keep = np.isin(sample.scans, members)
    return Sample(sample.scans[keep], sample.landmarks[keep], members)


def read_batch(stores: Sequence[Store], cohort: Cohort, sample: Sample, *, graph: bool = True) -> Batch:
    """The values of a sample, read from the stores; edges only when `graph`."""
    counts = np.array([int((sample.scans == s).sum()) for s in sample.members], dtype=np.int64)
    starts = np.cumsum(counts) - counts
    edges = [np.empty((0, 2), np.int64)]
    for scan, start in zip(sample.members, starts, strict=True) if graph else ():
        place = np.cumsum(cohort.valid[scan]) - 1 + start  # (N,) landmark -> patch of the batch
        edges.append(place[stores[scan].edges])
    return Batch(
        patches=torch.from_numpy(read_patches(stores, sample.scans, sample.landmarks)),
        landmarks=torch.from_numpy(np.asarray(sample.landmarks, np.int64)),
        subjects=torch.from_numpy(cohort.subjects[sample.members]),
        counts=torch.from_numpy(counts),
        edges=torch.from_numpy(np.concatenate(edges)),
    )


def prefetched(asked: Iterable[Asked], read: Callable[[Asked], Got]) -> Iterator[tuple[Asked, Got]]:
    """Each thing asked for with what was read for it, in order; a thread reads ahead.

    A thread and never a fork: tensorstore aborts a forked child.
    """
    with ThreadPoolExecutor(1) as reader:
        waiting: deque[tuple[Asked, Future[Got]]] = deque()
        for one in asked:
            waiting.append((one, reader.submit(read, one)))
            if len(waiting) > AHEAD:
                first, got = waiting.popleft()
                yield first, got.result()
        for first, got in waiting:
            yield first, got.result()
