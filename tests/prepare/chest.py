"""Phantoms and axes that several tests share."""

from dataclasses import replace
from functools import cache
from itertools import permutations, product

import numpy as np

from ctssl.cohorts.phantom.chest import Chest, build_chest
from ctssl.cohorts.phantom.deform import Deformation
from ctssl.cohorts.phantom.disease import Disease
from ctssl.cohorts.phantom.scan import SyntheticScan, make_scan
from ctssl.cohorts.phantom.scanner import Scanner
from ctssl.cohorts.phantom.subject import Subject, draw_subject
from ctssl.prepare.grid import Grid

AXES = ["".join(c) for order in permutations(("LR", "PA", "SI")) for c in product(*order)]
"""All 48 axis codes."""

LETTERS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


@cache
def scan(
    person: int = 1, grade: int = 0, spacing_mm: float = 5.0, hard: tuple[str, ...] = ()
) -> SyntheticScan:
    """One person's scan with centrilobular emphysema of this grade; person 0 is the canonical chest."""
    return make_scan(subject(person, grade), Scanner(spacing_mm, spacing_mm, hard=hard), canonical())


@cache
def canonical() -> Chest:
    return build_chest(3.0)


def subject(person: int, grade: int = 0) -> Subject:
    who = replace(draw_subject(5, person), disease=Disease(centrilobular=grade))
    return who if person else replace(who, deformation=Deformation.identity())


def deformation(person: int) -> Deformation:
    return subject(person).deformation


def grid_of(made: SyntheticScan) -> Grid:
    return made.grid()


def turned(array: np.ndarray, grid: Grid, axes: str) -> tuple[np.ndarray, Grid]:
    """The same values at the same points, stored along other axes. `grid` is LPS."""
    index_of = [next(d for d in range(3) if LETTERS[letter][d]) for letter in axes]  # i, j, k -> x, y, z
    signs = [sum(LETTERS[letter]) for letter in axes]
    out = array.transpose([2 - d for d in index_of[::-1]])
    out = np.flip(out, [2 - i for i, sign in enumerate(signs) if sign < 0])
    origin = list(grid.origin_mm)
    for axis, sign in zip(index_of, signs, strict=True):
        if sign < 0:
            origin[axis] += (grid.size[axis] - 1) * grid.spacing_mm
    size = tuple(grid.size[d] for d in index_of)
    return np.ascontiguousarray(out), Grid(tuple(origin), grid.spacing_mm, size, axes)


def dice(ours: np.ndarray, truth: np.ndarray) -> list[float]:
    """Dice of label 1 and of label 2."""
    return [
        2 * np.count_nonzero((ours == k) & (truth == k)) / (np.count_nonzero(ours == k) + (truth == k).sum())
        for k in (1, 2)
    ]
