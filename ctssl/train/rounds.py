"""Who meets whom: the rounds of an epoch and the samples of a round, pure functions of (seed, number)."""

from functools import lru_cache
from typing import Literal

import numpy as np

from ctssl.train.batches import Cohort, Sample, scan_sample
from ctssl.train.cuts import Cut, Whole, cut_sample
from ctssl.train.planes import Planes

Unit = Literal["landmark", "patch", "scan"]

KEPT = 4
"""Orders that are kept: the phases of a method are each in one epoch at a time."""


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
    return _dealt(cohort, rounds, seed, epoch)[turn::rounds].copy()


@lru_cache(KEPT)
def _dealt(cohort: Cohort, rounds: int, seed: int, epoch: int) -> np.ndarray:
    """The scans that have a turn in an epoch, in the order in which they are dealt."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(cohort.subjects))
    rank = rng.permutation(int(cohort.subjects.max()) + 1)
    order = order[_has_turn(cohort, rounds, seed, epoch)[order]]
    dealt: np.ndarray = order[np.argsort(rank[cohort.subjects[order]], kind="stable")]
    return dealt


def _has_turn(cohort: Cohort, rounds: int, seed: int, epoch: int) -> np.ndarray:
    """(S,) bool: the next `rounds` scans of each subject, round its scans in an order that stays."""
    order = np.random.default_rng([seed, 0, 3]).permutation(len(cohort.subjects))
    order = order[np.argsort(cohort.subjects[order], kind="stable")]
    counts = np.bincount(cohort.subjects)
    place = np.empty(len(order), np.int64)  # of each scan among its subject's
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return (place - epoch * rounds) % counts[cohort.subjects] < rounds


def samples_of_round(cohort: Cohort, unit: Unit | Cut, batch: int, seed: int, number: int) -> list[Sample]:
    """The batches of one round: of units landmark and patch one per landmark; else a single one.

    Unit landmark: a batch is one landmark of all scans, landmarks in random order. Unit patch: each scan
    begins at another landmark of that order and goes round, so that a batch is many landmarks, and a round
    is the same pairs. Only valid pairs are named. Of patches, whole volumes and planes, a batch of fewer than
    two scans is skipped.
    """
    scans = scans_of_round(cohort, batch, seed, number)
    if unit == "scan":
        return [scan_sample(cohort, scans)]
    if not isinstance(unit, str):
        return [cut_sample(scans, unit)] if _is_batch(scans, unit) else []
    shown, landmarks = _walked(cohort, scans, unit, np.random.default_rng([seed, number, 1]))
    batches = ((scans[there], walk[there]) for there, walk in zip(shown, landmarks, strict=True))
    return [Sample(s, j, s) for s, j in batches if len(s) > 1]


def steps_of_round(cohort: Cohort, unit: Unit | Cut, batch: int, seed: int, number: int) -> int:
    """How many batches `samples_of_round` gives, without making them."""
    if unit == "scan":
        return 1
    scans = scans_of_round(cohort, batch, seed, number)
    if not isinstance(unit, str):
        return int(_is_batch(scans, unit))
    shown, _ = _walked(cohort, scans, unit, np.random.default_rng([seed, number, 1]))
    return int((shown.sum(1) > 1).sum())


def _is_batch(scans: np.ndarray, cut: Cut) -> bool:
    """Whether cuts of these scans are: a whole volume alone is told apart from nothing, planes of one scan
    alone have no variance.
    """
    return len(scans) > 1 or not isinstance(cut, Whole | Planes)


def _walked(
    cohort: Cohort, scans: np.ndarray, unit: Unit | Cut, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """(N, B) bool, whether a scan shows the landmark it is at, and (N, B) that landmark, batch by batch."""
    walk = rng.permutation(cohort.valid.shape[1])
    ahead = np.arange(len(scans)) if unit == "patch" else np.zeros(len(scans), int)
    landmarks = walk[(np.arange(len(walk))[:, None] + ahead) % len(walk)]
    return cohort.valid[scans, landmarks], landmarks
