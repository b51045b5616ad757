"""How often people have which disease, how it goes on, and how many die of it."""

from dataclasses import replace

import numpy as np

from ctssl.cohorts.phantom.disease import CENTRILOBULAR, MAX_NODULES, SHARES, Disease
from ctssl.cohorts.phantom.texture import TEXTURES

_GRADES = len(SHARES[CENTRILOBULAR])


def draw_disease(rng: np.random.Generator, cohort_seed: int, number: int) -> Disease:
    """What person `number` of a cohort has.

    Of six people in a row, each has another grade of centrilobular emphysema, and two have ground glass; of
    twelve, each has another pair of grade and texture. The rest is by chance, from `rng`.
    """
    pair, place = divmod(number, 2 * _GRADES)
    turn, place = divmod(place, _GRADES)
    order = np.random.default_rng([cohort_seed, 2**32 - 1, pair])
    grades, hazy = (order.permuted(np.tile(np.arange(_GRADES), (2, 1)), axis=1) for _ in range(2))
    grade = int(grades[turn, place])
    texture = (order.permutation(_GRADES)[grade] + turn) % 2  # of a grade: one in one turn, then the other
    glass = int(rng.choice([1, 2, 3, 4], p=[0.35, 0.30, 0.20, 0.15]))
    return _with_room(
        Disease(
            centrilobular=grade,
            paraseptal=int(rng.choice(3, p=[0.45, 0.33, 0.22] if grade else [0.6, 0.25, 0.15])),
            panlobular=int(rng.choice(3, p=[0.80, 0.12, 0.08])),
            ground_glass=glass if hazy[turn, place] < 2 else 0,
            nodules=min(int(rng.poisson(1.0)), MAX_NODULES),
            reticulation=int(rng.choice(3, p=[0.72, 0.16, 0.12])),
            texture=TEXTURES[texture],
        )
    )


def worse(rng: np.random.Generator, disease: Disease) -> Disease:
    """A grade more of centrilobular emphysema, and by chance of what else is there; perhaps a new nodule."""
    paraseptal, panlobular, reticulation = (
        min(grade + int(grade > 0 and rng.random() < 0.4), 2)
        for grade in (disease.paraseptal, disease.panlobular, disease.reticulation)
    )
    return _with_room(
        replace(
            disease,
            centrilobular=min(disease.centrilobular + int(disease.centrilobular > 0), _GRADES - 1),
            paraseptal=paraseptal,
            panlobular=panlobular,
            reticulation=reticulation,
            nodules=min(disease.nodules + int(rng.random() < 0.3), MAX_NODULES),
        )
    )


def yearly_risk(age: float, disease: Disease) -> float:
    """Deaths a year, once they can come, by age and by emphysema and ground glass at the first visit."""
    sick = 0.075 * disease.centrilobular**2 + 0.3 * disease.panlobular + 0.5 * disease.ground_glass
    return float(0.015 * np.exp(0.05 * (age - 60) + sick))


def _with_room(disease: Disease) -> Disease:
    """Less of the widespread findings where one pair of lungs has no room for all."""
    if disease.centrilobular >= 4:
        disease = replace(disease, ground_glass=min(disease.ground_glass, 2))
    if disease.ground_glass >= 3:
        disease = replace(disease, panlobular=0, reticulation=0)
    return disease
