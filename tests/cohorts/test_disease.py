"""Lesions and texture against the written tables, on lungs that are two ellipsoids."""

import itertools

import numpy as np
import pytest
from scipy import ndimage, stats

from ctssl.cohorts.phantom import disease as d
from ctssl.cohorts.phantom import lungs
from ctssl.cohorts.phantom.disease import Disease, add_disease
from ctssl.cohorts.phantom.texture import LungPoints, add_texture, smooth_noise, texture_strength

SPACING_MM = 3.0
RADII_MM = np.array([56.0, 82.0, 132.0])
CENTRES_X_MM = (-72.0, 72.0)
PARENCHYMA_HU, VESSEL_HU, AIR_HU = -870.0, 40.0, -1000.0


def two_ellipsoids() -> tuple[np.ndarray, LungPoints]:
    """(z, y, x) mask and its points; the depth is close to the true distance."""
    axes = [np.arange(-c, c + 1, SPACING_MM) for c in (135.0, 90.0, 140.0)]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    norm = np.minimum(
        *(
            np.sqrt(((x - c) / RADII_MM[0]) ** 2 + (y / RADII_MM[1]) ** 2 + (z / RADII_MM[2]) ** 2)
            for c in CENTRES_X_MM
        )
    )
    mask = norm < 1
    points = np.stack([x, y, z], -1)[mask]
    lobe = np.where(points[:, 0] < 0, np.where(points[:, 2] > 0, 1, 3), np.where(points[:, 2] > 0, 4, 5))
    depth = ndimage.distance_transform_edt(mask, sampling=SPACING_MM)[mask]
    return mask, LungPoints(
        points.astype(np.float32), lobe.astype(np.uint8), depth.astype(np.float32), SPACING_MM
    )


MASK, WHERE = two_ellipsoids()
X, Y, Z = WHERE.points_mm.T
TUBE_MM = np.abs(np.abs(X) - 70) + np.abs(Y - 10)  # a vessel along z in each lung, a bronchus beside it
VESSEL, BRONCHUS = TUBE_MM < 6, np.abs(np.abs(X) - 50) + np.abs(Y + 30) < 6
HEALTHY = np.where(VESSEL, VESSEL_HU, np.where(BRONCHUS, AIR_HU, PARENCHYMA_HU)).astype(np.float32)
UPPER, LOWER = d.UPPER_MM < Z, d.LOWER_MM > Z
ZONES = {  # what the table of shares refers to
    "centrilobular": UPPER,
    "paraseptal": UPPER & (WHERE.depth_mm < 10),
    "panlobular": LOWER,
    "reticulation": LOWER & (WHERE.depth_mm < 25),
}
TABLE = {
    "centrilobular": (d.CENTRILOBULAR, (0.02, 0.06, 0.14, 0.26, 0.42)),
    "paraseptal": (d.PARASEPTAL, (0.15, 0.35)),
    "panlobular": (d.PANLOBULAR, (0.20, 0.45)),
    "reticulation": (d.RETICULATION, (0.12, 0.25)),
}


def sick(seed: int = 4, **grades: int) -> tuple[np.ndarray, np.ndarray]:
    return add_disease(HEALTHY, WHERE, Disease(**grades), seed)


def share(found: np.ndarray, zone: np.ndarray) -> float:
    return np.count_nonzero(found & zone) / np.count_nonzero(zone)


@pytest.mark.parametrize("name", TABLE)
def test_the_share_of_the_zone_is_that_of_the_table(name):
    label, shares = TABLE[name]
    for grade, expected in enumerate(shares, 1):
        _, lesions = sick(**{name: grade})
        assert share(lesions == label, ZONES[name]) == pytest.approx(expected, abs=2e-4)
        assert set(np.unique(lesions)) == {0, label}


@pytest.mark.parametrize(("grade", "percent", "solid"), [(1, 10, 0), (2, 35, 3), (3, 60, 8), (4, 80, 15)])
def test_ground_glass_takes_a_ct_severity_share_of_the_lungs(grade, percent, solid):
    _, lesions = sick(ground_glass=grade)
    affected = np.isin(lesions, [d.GROUND_GLASS, d.CONSOLIDATION])
    assert 100 * affected.mean() == pytest.approx(percent, abs=0.02)
    assert 100 * (lesions == d.CONSOLIDATION).mean() == pytest.approx(solid, abs=0.02)
    limits = {1: (0, 25), 2: (25, 50), 3: (50, 75), 4: (75, 100)}[grade]  # CT-1 to CT-4
    assert limits[0] < 100 * affected.mean() < limits[1]


@pytest.mark.parametrize(
    "name", ["centrilobular", "paraseptal", "panlobular", "ground_glass", "reticulation"]
)
def test_a_higher_grade_covers_the_lower_one(name):
    """Grades are thresholds of one pattern: what is ill stays ill, and more is."""
    top = {"centrilobular": 5, "ground_glass": 4}.get(name, 2)
    found = [sick(**{name: grade})[1] > 0 for grade in range(top + 1)]
    for less, more in itertools.pairwise(found):
        assert (more | ~less).all()
        assert more.sum() > less.sum()


def test_together_the_shares_still_hold():
    grades = {"centrilobular": 3, "paraseptal": 1, "panlobular": 1, "reticulation": 1}
    _, lesions = sick(**grades, ground_glass=2, nodules=3)
    for name, grade in grades.items():
        label, shares = TABLE[name]
        assert share(lesions == label, ZONES[name]) == pytest.approx(shares[grade - 1], abs=1e-3)
    assert np.isin(lesions, [d.GROUND_GLASS, d.CONSOLIDATION]).mean() == pytest.approx(0.35, abs=1e-3)


def test_each_kind_keeps_to_its_zone():
    holes = sick(centrilobular=3)[1] > 0
    assert share(holes, UPPER) > 3 * share(holes, Z < -40)
    assert WHERE.depth_mm[sick(paraseptal=2)[1] > 0].max() < 10
    assert Z[sick(paraseptal=2)[1] > 0].min() > d.UPPER_MM
    medial = np.abs(X) < 50
    assert share(sick(paraseptal=1)[1] > 0, ZONES["paraseptal"] & medial) > 1.3 * share(
        sick(paraseptal=1)[1] > 0, ZONES["paraseptal"] & ~medial
    )
    assert Z[sick(panlobular=2)[1] > 0].max() < d.LOWER_MM
    patches = np.stack([sick(seed, ground_glass=2)[1] > 0 for seed in range(5)]).mean(0)
    assert patches[WHERE.depth_mm < 12].mean() > 2 * patches[WHERE.depth_mm > 30].mean()
    assert patches[LOWER].mean() > 1.5 * patches[UPPER].mean()
    assert patches[Y > 20].mean() > 1.3 * patches[Y < -20].mean()


def test_densities_are_those_of_the_findings():
    tissue = ~VESSEL & ~BRONCHUS

    def middle(hu: np.ndarray, lesions: np.ndarray, label: int) -> float:
        return float(np.median(hu[(lesions == label) & tissue]))

    assert -990 < middle(*sick(centrilobular=3), d.CENTRILOBULAR) < -945
    assert -990 < middle(*sick(paraseptal=2), d.PARASEPTAL) < -945
    assert -940 < middle(*sick(panlobular=1), d.PANLOBULAR) < -910
    assert -970 < middle(*sick(panlobular=2), d.PANLOBULAR) < -935
    assert -680 < middle(*sick(ground_glass=3), d.GROUND_GLASS) < -500
    assert 20 <= middle(*sick(ground_glass=3), d.CONSOLIDATION) <= 50
    assert -500 < middle(*sick(reticulation=2), d.RETICULATION) < -380


def test_vessels_fade_in_holes_and_show_in_ground_glass_and_bronchi_keep_their_air():
    hu, lesions = sick(centrilobular=5)
    faded = hu[(lesions > 0) & VESSEL]
    assert np.median(faded) < -600
    assert faded.min() > -960  # not cut
    hu, lesions = sick(ground_glass=4)
    glass = lesions == d.GROUND_GLASS
    assert hu[glass & VESSEL].min() > 0
    assert np.median(hu[glass & ~VESSEL & ~BRONCHUS]) < -500
    assert (hu[BRONCHUS] == AIR_HU).all()


def balls(count: int, spacing_mm: float) -> list[np.ndarray]:
    """Voxels (P, 3), x, y, z in mm, of each nodule in canonical lungs of this spacing."""
    axes = [np.arange(low, high, spacing_mm) for low, high in zip(lungs.LOW_MM, lungs.HIGH_MM, strict=True)]
    z, y, x = np.meshgrid(*axes[::-1], indexing="ij")
    mask = lungs.lung_margin(x, y, z) > 0
    points = np.stack([x, y, z], -1)[mask]
    where = LungPoints(points, lungs.lobes(*points.T), np.full(len(points), 9, np.float32), spacing_mm)
    hu = np.full(len(points), PARENCHYMA_HU, np.float32)
    volume = np.zeros(mask.shape, bool)
    volume[mask] = add_disease(hu, where, Disease(nodules=count), 4)[1] == d.NODULE
    parts, found = ndimage.label(volume)
    return [np.stack([x, y, z], -1)[parts == n] for n in range(1, found + 1)]


@pytest.mark.parametrize("count", [1, 4, 8])
def test_nodules_are_so_many_separate_balls(count):
    found = balls(count, 3.0)
    assert len(found) == count
    assert all(np.ptp(ball, axis=0).max() <= 20 + SPACING_MM for ball in found)


def test_nodules_lie_in_the_same_places_whatever_the_voxels():
    coarse, fine = (np.array(sorted(b.mean(0).tolist() for b in balls(5, mm))) for mm in (3.5, 2.2))
    assert np.linalg.norm(coarse - fine, axis=1).max() < 2.5


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_one_nodule_more_leaves_the_others_where_they_are(count):
    fewer, more = ({tuple(map(tuple, ball)) for ball in balls(n, 3.5)} for n in (count, count + 1))
    assert len(more - fewer) == 1
    assert fewer < more


def test_nodules_that_find_no_place_are_refused(monkeypatch):
    monkeypatch.setattr(lungs, "lung_margin", lambda x, y, z: np.full(len(x), -1.0))
    with pytest.raises(ValueError, match=r"nodule 0 .*none fits"):
        sick(nodules=1)


def test_edges_are_soft():
    """Holes have voxels in between; without soft edges there would be two values only."""
    hu, _ = sick(centrilobular=3)
    between = (hu < -915) & (hu > -945)
    assert np.count_nonzero(between) > 0.15 * np.count_nonzero(hu < -915)


@pytest.mark.parametrize("texture", ["usual", "misplaced"])
def test_healthy_lungs_have_nothing_but_texture(texture):
    hu, lesions = add_disease(HEALTHY, WHERE, Disease(texture=texture), 4)
    assert not lesions.any()
    assert np.array_equal(hu, add_texture(HEALTHY, WHERE, texture, 4))
    assert np.abs(hu - HEALTHY).max() < 50
    assert abs((hu - HEALTHY).mean()) < 1
    assert np.array_equal(hu[VESSEL | BRONCHUS], HEALTHY[VESSEL | BRONCHUS])


def test_texture_lies_elsewhere_when_it_is_misplaced():
    right, apex, base = X < 0, Z > 60, Z < -60
    here, there = (right & base) | (~right & apex), (right & apex) | (~right & base)
    for texture, much, little in (("usual", here, there), ("misplaced", there, here)):
        energy = (add_texture(HEALTHY, WHERE, texture, 4) - HEALTHY) ** 2
        for side in (right, ~right):
            assert energy[much & side].mean() > 5 * energy[little & side].mean()


def test_without_location_textures_cannot_be_told_apart():
    """Same strengths in each lung; same HU and same skewness over both, gravity's gradient included."""
    gravity = np.where(VESSEL | BRONCHUS, 0, 0.32 * Y - 0.15 * Z)
    hu = {
        t: [add_texture(HEALTHY + gravity, WHERE, t, seed) for seed in range(6)]
        for t in ("usual", "misplaced")
    }
    pooled = {t: np.concatenate(values) for t, values in hu.items()}
    assert stats.ks_2samp(pooled["usual"], pooled["misplaced"]).statistic < 0.004
    tissue = ~VESSEL & ~BRONCHUS
    skew = {t: [stats.skew(v[tissue]) for v in values] for t, values in hu.items()}
    assert np.mean(skew["usual"]) == pytest.approx(np.mean(skew["misplaced"]), abs=0.01)
    strength = {t: texture_strength(WHERE, t) for t in ("usual", "misplaced")}
    for lung in (X < 0, X > 0):
        assert stats.ks_2samp(strength["usual"][lung], strength["misplaced"][lung]).statistic < 0.02


def test_one_lung_alone_has_texture_too():
    right = X < 0
    alone = LungPoints(WHERE.points_mm[right], WHERE.lobe[right], WHERE.depth_mm[right], SPACING_MM)
    strength = texture_strength(alone, "usual")
    assert strength[Z[right] < -60].mean() > 5 * strength[Z[right] > 60].mean()


def test_the_same_seed_gives_the_same_lungs_and_another_seed_others():
    grades = {"centrilobular": 2, "ground_glass": 2, "nodules": 3}
    before = HEALTHY.copy()
    first, again, other = sick(1, **grades), sick(1, **grades), sick(2, **grades)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert np.count_nonzero(first[1] != other[1]) > 1000
    assert np.array_equal(HEALTHY, before)
    assert first[0].dtype == np.float32
    assert first[1].dtype == np.uint8


def test_noise_does_not_depend_on_which_points_are_asked_for():
    some = slice(100, 5000, 7)
    whole = smooth_noise(WHERE.points_mm, 3.0, 9, 0)
    assert np.array_equal(smooth_noise(WHERE.points_mm[some], 3.0, 9, 0), whole[some])
    assert whole.mean() == pytest.approx(0, abs=0.05)
    assert 0.7 < whole.std() < 1.1


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"centrilobular": 6}, "centrilobular is 0 to 5"),
        ({"nodules": -1}, "nodules is 0 to 8"),
        ({"texture": "odd"}, "usual"),
    ],
)
def test_a_grade_that_does_not_exist_is_refused(wrong, names):
    with pytest.raises(ValueError, match=names):
        Disease(**wrong)
