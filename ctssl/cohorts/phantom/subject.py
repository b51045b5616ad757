"""Who is scanned: body, disease, and the labels that a study would hold about this person."""

from dataclasses import dataclass, replace

import numpy as np

from ctssl.cohorts.phantom.deform import Deformation
from ctssl.cohorts.phantom.disease import LESIONS, Disease
from ctssl.cohorts.phantom.prevalence import draw_disease, worse, yearly_risk

CENSORED_YEARS = 10.0
"""Survival is followed up to here."""

VISIT_YEARS = 5.0
"""Time between two visits."""

_SMOKED_PER_YEAR = 0.5  # packs a day of everybody who ever smoked: nobody quits
_SOON_YEARS = 0.1


@dataclass(frozen=True)
class Gradient:
    """Density of healthy lung, which gravity makes denser at the back and at the base.

    Attributes:
        mean_hu: at the canonical origin, -885 to -840.
        front_to_back_hu_per_mm: 0.15 to 0.5.
        apex_to_base_hu_per_mm: 0.05 to 0.25.
    """

    mean_hu: float
    front_to_back_hu_per_mm: float
    apex_to_base_hu_per_mm: float

    def hu(self, points_mm: np.ndarray) -> np.ndarray:
        """(...) float32 HU at canonical points (..., 3), x, y, z."""
        y, z = points_mm[..., 1], points_mm[..., 2]
        change = self.front_to_back_hu_per_mm * y - self.apex_to_base_hu_per_mm * z
        return (self.mean_hu + change).astype(np.float32)


@dataclass(frozen=True)
class Subject:
    """A person at one visit.

    Attributes:
        number: in the cohort.
        visit: 0 for the first.
        sex: M or F.
        age: years.
        height_cm: of the body.
        bmi: kg/m2.
        pack_years: smoked so far.
        lives_years: from the first visit to death.
        fat_mm: thickness under the skin, 8 to 45.
        gradient: density of the lungs.
        disease: grades.
        deformation: from canonical to this body, in this breath.
        person_seed: of what stays from visit to visit, as where lesions lie.
        seed: of what is this visit's own: noise, and the chance in hard cases.
    """

    number: int
    visit: int
    sex: str
    age: float
    height_cm: float
    bmi: float
    pack_years: float
    lives_years: float
    fat_mm: float
    gradient: Gradient
    disease: Disease
    deformation: Deformation
    person_seed: int
    seed: int


@dataclass(frozen=True)
class Burden:
    """Measured share of the lungs that each lesion takes, in percent; ground glass without consolidation."""

    centrilobular: float = 0.0
    paraseptal: float = 0.0
    panlobular: float = 0.0
    ground_glass: float = 0.0
    consolidation: float = 0.0
    nodule: float = 0.0
    reticulation: float = 0.0

    @property
    def emphysema(self) -> float:
        """All three kinds together, in percent."""
        return self.centrilobular + self.paraseptal + self.panlobular


def burden(lesions: np.ndarray, lungs_voxels: int) -> Burden:
    """What labels of `disease.LESIONS` (any shape) amount to in lungs of so many voxels.

    Raises:
        ValueError: there is no lung.
    """
    if lungs_voxels < 1:
        msg = f"a burden is a share of lung voxels, but there are {lungs_voxels}: the scan shows no lung"
        raise ValueError(msg)
    counts = np.bincount(lesions.ravel(), minlength=max(LESIONS) + 1)
    shares = 100 * counts / lungs_voxels
    return Burden(**{name.replace(" ", "_"): float(shares[label]) for label, name in LESIONS.items()})


def draw_subject(cohort_seed: int, number: int) -> Subject:
    """Person `number` of a cohort at the first visit; the same however many others there are."""
    rng = np.random.default_rng([cohort_seed, number])
    person_seed = int(rng.integers(2**53))
    disease = draw_disease(rng, cohort_seed, number)
    sex = str(rng.choice(["F", "M"]))
    age = round(rng.uniform(45, 80), 1)
    mean_cm, deviation_cm = (162, 6.5) if sex == "F" else (176, 7)
    height_cm = round(float(np.clip(rng.normal(mean_cm, deviation_cm), 145, 200)), 1)
    bmi = round(float(np.clip(rng.normal(27.5 - 0.6 * disease.centrilobular, 4.5), 17, 42)), 1)
    fat_mm = np.clip(8 + 1.5 * (bmi - 17) + (4 if sex == "F" else 0) + rng.normal(0, 2), 8, 45)
    pack_years = max(0.0, 6 + 9 * disease.centrilobular + rng.normal(0, 10))
    gradient = Gradient(rng.uniform(-885, -840), rng.uniform(0.15, 0.5), rng.uniform(0.05, 0.25))
    inflation = _inflation(rng, disease, bmi)
    deformation = Deformation.draw(rng, sex=sex, age=age, height_cm=height_cm, bmi=bmi, inflation=inflation)
    lives_years = _SOON_YEARS + rng.exponential(1 / yearly_risk(age, disease))
    return Subject(
        number=number,
        visit=0,
        sex=sex,
        age=age,
        height_cm=height_cm,
        bmi=bmi,
        pack_years=round(pack_years, 1),
        lives_years=float(lives_years),
        fat_mm=float(fat_mm),
        gradient=gradient,
        disease=disease,
        deformation=deformation,
        person_seed=person_seed,
        seed=person_seed,
    )


def returning(subject: Subject) -> Subject:
    """The same person, who lives to be scanned a second time."""
    return replace(subject, lives_years=max(subject.lives_years, VISIT_YEARS + _SOON_YEARS))


def visit(subject: Subject, visit: int) -> Subject:
    """The same person VISIT_YEARS after the last visit: older, a bit sicker, in another breath.

    Who ever smoked has gone on, half a pack a day.

    Args:
        subject: as `draw_subject` gave it.
        visit: 1 for the second visit; 0 gives the subject back.

    Raises:
        ValueError: this is not the first visit, so that years would count twice.
    """
    if subject.visit:
        msg = f"later visits follow from the first, but this is visit {subject.visit}"
        raise ValueError(msg)
    if visit == 0:
        return subject
    disease = subject.disease
    for number in range(1, visit + 1):
        disease = worse(np.random.default_rng([subject.person_seed, 1, number]), disease)
    breath = _inflation(np.random.default_rng([subject.person_seed, 2, visit]), disease, subject.bmi)
    return replace(
        subject,
        visit=visit,
        age=round(subject.age + VISIT_YEARS * visit, 1),
        pack_years=_smoked(subject.pack_years, VISIT_YEARS * visit),
        disease=disease,
        deformation=subject.deformation.inflated(breath),
        seed=subject.person_seed + visit,
    )


def labels(subject: Subject, found: Burden) -> dict[str, str | int | float]:
    """Columns of scans.csv, as docs/phantom.md lists them: the same for the same person, visit and burden.

    Survival counts from this visit, to a date of death that all visits of a person share. As in a study of
    those who came back, it lies after the second visit; who is scanned later still dies 0.1 years after.
    """
    lasting = np.random.default_rng([subject.person_seed, 3])
    rng = np.random.default_rng([subject.person_seed, 4, subject.visit])
    # The first holes cost most, and thinned lung still does much of its work.
    lost = (found.centrilobular + found.paraseptal + 0.3 * found.panlobular) ** 0.8
    filled = found.ground_glass + found.consolidation
    fev1pp = 103 - 5.2 * lost - 0.25 * filled - 0.6 * found.reticulation
    fev1pp = float(np.clip(fev1pp + lasting.normal(0, 8) + rng.normal(0, 2), 12, 135))
    ratio = 0.80 - 0.046 * lost - 0.0012 * (subject.age - 60) + 0.0008 * filled
    ratio = float(np.clip(ratio + lasting.normal(0, 0.02) + rng.normal(0, 0.01), 0.2, 0.92))
    dyspnea = (95 - fev1pp) / 17 + 0.04 * (subject.bmi - 26) + 0.02 * filled + lasting.normal(0, 0.6)
    attacks = 0.25 * np.exp(0.02 * (85 - fev1pp) + lasting.normal(0, 0.4))
    years = round(max(subject.lives_years - VISIT_YEARS * subject.visit, _SOON_YEARS), 2)
    disease = subject.disease
    return {
        "age": subject.age,
        "sex": subject.sex,
        "height_cm": subject.height_cm,
        "bmi": subject.bmi,
        "pack_years": subject.pack_years,
        "fev1pp": round(fev1pp, 1),
        "fev1_fvc": round(ratio, 3),
        "gold": gold(round(fev1pp, 1), round(ratio, 3)),
        "mmrc": int(np.clip(np.floor(dyspnea), 0, 4)),
        "exacerbations": int(rng.poisson(attacks)),
        "exacerbation_followup": _yes(rng.poisson(attacks) > 0),
        "survival_years": min(years, CENSORED_YEARS),
        "died": _yes(years < CENSORED_YEARS),
        "centrilobular": disease.centrilobular,
        "paraseptal": disease.paraseptal,
        "panlobular": disease.panlobular,
        "ground_glass": disease.ground_glass,
        "reticulation": disease.reticulation,
        "nodules": disease.nodules,
        "texture": disease.texture,
        "severe": _yes(disease.centrilobular >= 3),
        "emphysema_percent": round(found.emphysema, 2),
        "ground_glass_percent": round(filled, 2),
        "consolidation_percent": round(found.consolidation, 2),
        "reticulation_percent": round(found.reticulation, 2),
    }


def gold(fev1pp: float, fev1_fvc: float) -> int:
    """GOLD stage 1 to 4 of airflow obstruction, 0 without, -1 for PRISm.

    Source: COPDGene's codes; GOLD report: obstruction is FEV1/FVC < 0.7, stages part at 80, 50 and 30 % of
    the predicted FEV1; PRISm is FEV1 < 80 % without obstruction.
    """
    if fev1_fvc >= 0.7:
        return -1 if fev1pp < 80 else 0
    return 1 + (fev1pp < 80) + (fev1pp < 50) + (fev1pp < 30)


def _inflation(rng: np.random.Generator, disease: Disease, bmi: float) -> float:
    """-1 to 1: emphysema keeps air in, ground glass and a heavy belly keep it out, breaths differ."""
    lasting = 0.12 * disease.centrilobular + 0.1 * disease.panlobular - 0.08 * disease.ground_glass
    return float(np.clip(lasting - 0.15 - 0.02 * (bmi - 26) + rng.normal(0, 0.25), -1, 1))


def _smoked(pack_years: float, years: float) -> float:
    return round(pack_years + _SMOKED_PER_YEAR * years, 1) if pack_years > 0 else pack_years


def _yes(value: bool | np.bool_) -> str:
    return "yes" if value else "no"
