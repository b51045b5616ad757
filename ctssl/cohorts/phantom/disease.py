"""Lesions and texture of the lungs. Patterns live in canonical space; the share of lung they take is exact.

Findings claim voxels, the most local first, then are painted in the opposite order: what was claimed shows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from ctssl.cohorts.phantom import lungs
from ctssl.cohorts.phantom.texture import TEXTURES, LungPoints, add_texture, smooth_noise

CENTRILOBULAR, PARASEPTAL, PANLOBULAR, GROUND_GLASS, CONSOLIDATION, NODULE, RETICULATION = range(1, 8)
LESIONS = {
    CENTRILOBULAR: "centrilobular",
    PARASEPTAL: "paraseptal",
    PANLOBULAR: "panlobular",
    GROUND_GLASS: "ground glass",
    CONSOLIDATION: "consolidation",
    NODULE: "nodule",
    RETICULATION: "reticulation",
}
"""Names of the labels of lesions; 0 is none."""

SHARES = {
    CENTRILOBULAR: (0, 0.02, 0.06, 0.14, 0.26, 0.42),  # of the upper zones; fewer holes below
    PARASEPTAL: (0, 0.15, 0.35),  # of the outer 10 mm of the upper zones
    PANLOBULAR: (0, 0.20, 0.45),  # of the lower zones
    GROUND_GLASS: (0, 0.10, 0.35, 0.60, 0.80),  # of the lungs, consolidation included
    CONSOLIDATION: (0, 0, 0.03, 0.08, 0.15),  # of the lungs, by the grade of ground glass
    RETICULATION: (0, 0.12, 0.25),  # of the outer 25 mm of the lower zones
}
"""Share of its zone that a finding takes, by grade."""

UPPER_MM, LOWER_MM = 20.0, 0.0
"""Upper zones lie above the first z (the hila), lower zones below the second."""

MAX_NODULES = 8
_TRIES = 500  # points of the canonical box, of which a sixth lies in the lungs
_TOPS = {LESIONS[n].replace(" ", "_"): len(shares) - 1 for n, shares in SHARES.items() if n != CONSOLIDATION}
_VESSEL_HU, _SOLID_HU, _LINE_HU = -700.0, 35.0, -400.0  # above the first is no healthy parenchyma


@dataclass(frozen=True)
class Disease:
    """What is wrong with a pair of lungs: grades, as in SHARES, and a count. The default is healthy.

    Attributes:
        centrilobular: 0 to 5. Holes of 4 to 10 mm, mostly in the upper zones, confluent at high grades.
        paraseptal: 0 to 2. Holes under the pleura of the upper zones, most beside the mediastinum.
        panlobular: 0 to 2. Thinned lung in the lower zones.
        ground_glass: 0 to 4, as CT severity; peripheral and lower, with consolidation from 2 on.
        nodules: 0 to MAX_NODULES balls of 4 to 20 mm, solid or not.
        reticulation: 0 to 2. A net of lines under the pleura of the lower zones.
        texture: usual or misplaced; see `ctssl.cohorts.phantom.texture`.
    """

    centrilobular: int = 0
    paraseptal: int = 0
    panlobular: int = 0
    ground_glass: int = 0
    nodules: int = 0
    reticulation: int = 0
    texture: str = "usual"

    def __post_init__(self) -> None:
        for name, top in (_TOPS | {"nodules": MAX_NODULES}).items():
            if not 0 <= getattr(self, name) <= top:
                msg = f"{name} is 0 to {top}, but this is {getattr(self, name)}"
                raise ValueError(msg)
        if self.texture not in TEXTURES:
            msg = f"texture is usual or misplaced, but this is {self.texture!r}"
            raise ValueError(msg)


_Paint = Callable[[np.ndarray], None]  # changes HU (P,) in place


def add_disease(
    hu: np.ndarray, where: LungPoints, disease: Disease, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(P,) float32 HU of the sick lungs and (P,) uint8 lesions, labels of LESIONS; `hu` is not changed.

    Shares are exact as long as a zone has room: a voxel has one label, and what is claimed later takes
    the best of what is free. All lungs carry the texture of `add_texture`, which is no lesion.

    Args:
        hu: (P,) float32, parenchyma about -870, vessels brighter.
        where: the P voxels.
        disease: grades.
        seed: of all patterns.

    Raises:
        ValueError: no place was found for a nodule between the others.
    """
    hu = add_texture(hu, where, disease.texture, seed)
    lesions = np.zeros(len(hu), np.uint8)
    paints: list[_Paint] = []
    for find, grade in (
        (_nodules, disease.nodules),
        (_centrilobular, disease.centrilobular),
        (_paraseptal, disease.paraseptal),
        (_reticulation, disease.reticulation),
        (_ground_glass, disease.ground_glass),
        (_panlobular, disease.panlobular),
    ):
        if grade:
            paints += find(where, grade, lesions, seed)
    for paint in reversed(paints):
        paint(hu)
    return hu, lesions


@dataclass(frozen=True)
class _Region:
    """Q voxels of one finding: indices, score above the threshold, weight 0 to 1 (a soft edge)."""

    at: np.ndarray
    excess: np.ndarray
    weight: np.ndarray

    def thin(self, hu: np.ndarray, level_hu: np.ndarray, vessels: float) -> None:
        """Nothing; lung falls to a level, and a share of each vessel stays."""
        old = hu[self.at]
        thinned = level_hu + vessels * np.maximum(old - _VESSEL_HU, 0)
        hu[self.at] = old + self.weight * (np.minimum(thinned, old) - old)

    def empty(self, hu: np.ndarray) -> None:
        """Nothing; lung turns into holes."""
        self.thin(hu, -960 - 25 * np.clip(self.excess, 0, 1), vessels=0.3)

    def fill(self, hu: np.ndarray, goal_hu: float, share: float | np.ndarray = 1.0) -> None:
        """Nothing; lung rises to a goal, or a share of the way. Bronchi keep their air, dense things stay."""
        old = hu[self.at]
        share = self.weight * share * np.clip((old + 1000) / 50, 0, 1)
        hu[self.at] = old + share * np.maximum(goal_hu - old, 0)


def _claim(
    lesions: np.ndarray,
    label: int,
    at: np.ndarray,
    score: np.ndarray,
    share: float,
    edge: float,
    zone: np.ndarray | None = None,
) -> _Region:
    """The free voxels of highest score, now labelled, with a soft edge.

    Args:
        lesions: (P,) labels, changed.
        label: of the finding.
        at: (Q,) indices into P where the finding may be.
        score: (Q,).
        share: of the zone that the finding takes.
        edge: its width, as a difference of scores.
        zone: (Q,) bool; None: all of `at`.
    """
    free = lesions[at] == 0
    inside = free if zone is None else free & zone
    pool = score[inside]
    count = min(round(share * (len(at) if zone is None else np.count_nonzero(zone))), len(pool))
    threshold = np.partition(pool, -count)[-count] if count else np.inf
    lesions[at[free & (score >= threshold)]] = label
    near = score > threshold - edge / 2
    excess = score[near] - threshold
    return _Region(at[near], excess, np.clip(0.5 + excess / edge, 0, 1))


def _inward(distance_mm: np.ndarray) -> np.ndarray:
    """0 to 1 over the first 40 mm from the border of a zone, so that findings thin out toward it."""
    return np.clip(distance_mm / 40, 0, 1).astype(np.float32)


def _nodules(where: LungPoints, count: int, lesions: np.ndarray, seed: int) -> list[_Paint]:
    paints: list[_Paint] = []
    centres, radii = np.empty((0, 3)), np.empty(0)
    for number in range(count):
        rng = np.random.default_rng([seed, NODULE, number])  # one more leaves the others as they are
        radius, solid = rng.uniform(2, 10), rng.random() < 0.7
        tries = rng.uniform(lungs.LOW_MM, lungs.HIGH_MM, (_TRIES, 3))  # the same whatever the voxels
        gaps = np.linalg.norm(tries[:, None] - centres, axis=-1) - radii - radius
        fits = (gaps > 3).all(1) & (lungs.lung_margin(*tries.T) > radius / 2)
        if not fits.any():
            raise ValueError(f"nodule {number} needs free lung, but none fits: change the seed")
        centre = tries[fits.argmax()]
        centres, radii = np.vstack([centres, centre]), np.append(radii, radius)
        at = np.flatnonzero(np.abs(where.points_mm[:, 2] - centre[2]) < radius + where.spacing_mm)
        excess = radius - np.linalg.norm(where.points_mm[at] - centre, axis=1)
        lesions[at[excess >= 0]] = NODULE
        ball = _Region(at, excess, np.clip(0.5 + excess / where.spacing_mm, 0, 1).astype(np.float32))
        paints.append(partial(ball.fill, goal_hu=_SOLID_HU if solid else -500.0))
    return paints


def _centrilobular(where: LungPoints, grade: int, lesions: np.ndarray, seed: int) -> list[_Paint]:
    z = where.points_mm[:, 2]
    score = smooth_noise(where.points_mm, 2.5, seed, CENTRILOBULAR)
    score -= (np.maximum(UPPER_MM - z, 0) / 70).astype(np.float32)
    at, share = np.arange(len(z)), SHARES[CENTRILOBULAR][grade]
    holes = _claim(lesions, CENTRILOBULAR, at, score, share, where.edge(2.5), z > UPPER_MM)
    return [holes.empty]


def _paraseptal(where: LungPoints, grade: int, lesions: np.ndarray, seed: int) -> list[_Paint]:
    at = np.flatnonzero((where.depth_mm < 10) & (where.points_mm[:, 2] > UPPER_MM))
    points = where.points_mm[at]
    score = smooth_noise(points, 2.5, seed, PARASEPTAL) - 0.1 * where.depth_mm[at]
    score += _inward(points[:, 2] - UPPER_MM)
    score += np.exp(-np.maximum(np.abs(points[:, 0]) - 25, 0) / 25).astype(np.float32)
    holes = _claim(lesions, PARASEPTAL, at, score, SHARES[PARASEPTAL][grade], where.edge(2.5))
    return [holes.empty]


def _panlobular(where: LungPoints, grade: int, lesions: np.ndarray, seed: int) -> list[_Paint]:
    at = np.flatnonzero(where.points_mm[:, 2] < LOWER_MM)
    score = smooth_noise(where.points_mm[at], 12.0, seed, PANLOBULAR)
    score += 2 * _inward(LOWER_MM - where.points_mm[at, 2])
    region = _claim(lesions, PANLOBULAR, at, score, SHARES[PANLOBULAR][grade], where.edge(12.0, least_mm=12))

    def paint(hu: np.ndarray) -> None:
        region.thin(hu, np.minimum(hu[region.at], _VESSEL_HU) - (30 + 30 * grade), vessels=0.5)

    return [paint]


def _ground_glass(where: LungPoints, grade: int, lesions: np.ndarray, seed: int) -> list[_Paint]:
    """Patches, and consolidation where their score is highest; some lobes have more than others."""
    x, y, z = where.points_mm.T
    lobes = np.random.default_rng([seed, CONSOLIDATION]).normal(0, 0.4, 256).astype(np.float32)
    score = smooth_noise(where.points_mm, 9.0, seed, GROUND_GLASS) + lobes[where.lobe]
    score += (y / 120 - z / 100).astype(np.float32) - where.depth_mm / 25
    at, solid = np.arange(len(x)), SHARES[CONSOLIDATION][grade]
    core = _claim(lesions, CONSOLIDATION, at, score, solid, where.edge(9.0, least_mm=4))
    rest = SHARES[GROUND_GLASS][grade] - solid
    patches = _claim(lesions, GROUND_GLASS, at, score, rest, where.edge(9.0, least_mm=8))
    share = 0.24 + 0.14 * np.clip(patches.excess, 0, 1)  # of the way from lung to tissue: 220 to 340 HU
    return [partial(core.fill, goal_hu=_SOLID_HU), partial(patches.fill, goal_hu=_SOLID_HU, share=share)]


def _reticulation(where: LungPoints, grade: int, lesions: np.ndarray, seed: int) -> list[_Paint]:
    """Sheets where a field crosses zero, every 6 to 8 mm; thicker toward the pleura."""
    at = np.flatnonzero((where.depth_mm < 25) & (where.points_mm[:, 2] < LOWER_MM))
    score = -np.abs(smooth_noise(where.points_mm[at], 1.6, seed, RETICULATION)) - where.depth_mm[at] / 60
    score += 0.3 * _inward(LOWER_MM - where.points_mm[at, 2])
    lines = _claim(lesions, RETICULATION, at, score, SHARES[RETICULATION][grade], 0.3)
    return [partial(lines.fill, goal_hu=_LINE_HU)]
