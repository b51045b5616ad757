"""Each hard case does what its name says, on a chest of ellipsoids."""

import numpy as np
import pytest

from ctssl.cohorts.phantom import hard
from ctssl.cohorts.phantom.scanner import Scanner, acquire, subslices
from ctssl.errors import ConfigError

X, Y, Z = np.arange(-180.0, 181, 5), np.arange(-130.0, 141, 5), np.arange(-160.0, 151, 5)
LUNG, VESSEL = -870, 40


@pytest.fixture(scope="module")
def scene():
    z, y, x = np.meshgrid(Z, Y, X, indexing="ij")
    points = np.stack([x, y, z], -1).astype(np.float32)
    body = (x / 175) ** 2 + (y / 128) ** 2 < 1
    sides = [((x - c) / 60) ** 2 + (y / 88) ** 2 + (z / 130) ** 2 < 1 for c in (-72, 72)]
    lungs = (sides[0] * 1 + sides[1] * 2).astype(np.uint8)
    hu = np.where(lungs > 0, LUNG, np.where(body, 40, -1000)).astype(np.float32)
    hu[(lungs > 0) & (x % 30 == 0) & (y % 20 == 0)] = VESSEL  # thin, along z
    bronchus = np.hypot(y - 10, z - 18) < 6
    lungs[bronchus & (np.abs(x) < 70)] = 0
    hu[bronchus & (np.abs(x) < 70)] = -1000
    return hu, lungs, points


def alter(scene, *names):
    hu, lungs, points = scene
    before = hu.copy(), lungs.copy()
    after = hard.alter_anatomy(hu, lungs, points, names)
    np.testing.assert_array_equal(hu, before[0])  # the caller's arrays are not touched
    np.testing.assert_array_equal(lungs, before[1])
    return after


def test_an_unknown_name_is_refused_with_those_there_are(scene):
    hu, _, _ = scene
    axes, rng, corner = (X, Y, Z), np.random.default_rng(0), np.zeros(3)
    for call in (
        lambda: alter(scene, "gremlins"),
        lambda: hard.move(hu, axes, ("gremlins",), rng),
        lambda: hard.streak(hu, axes, ("gremlins",), rng),
        lambda: hard.cut_box(corner, corner, corner, corner, ("gremlins",)),
        lambda: hard.extra_rotation_deg(("gremlins",)),
    ):
        with pytest.raises(ConfigError, match=r"pneumothorax.*gremlins"):
            call()


@pytest.mark.parametrize("other", ["one-lung-left", "pneumothorax"])
def test_cases_that_leave_no_lung_are_refused(scene, other):
    with pytest.raises(ConfigError, match=f"one-lung-right and {other}|{other} and one-lung-right"):
        alter(scene, "one-lung-right", other)
    with pytest.raises(ConfigError, match=other):
        Scanner(hard=(other, "metal", "one-lung-right"))
    Scanner(hard=("one-lung-left", "pneumothorax"))


@pytest.mark.parametrize("steps_mm", [(1.5, 1.5, 1.5), (1.5, 3.0, 3.0), (3.0, 3.0, 3.0)])
def test_a_lung_closes_around_a_wide_bronchus_whatever_the_voxels(steps_mm):
    z, y, x = np.meshgrid(*(np.arange(-36.0, 36.1, step) for step in steps_mm), indexing="ij")
    bronchus = np.hypot(y, z) < 6
    lungs = np.where((np.abs([z, y, x]).max(0) < 30) & ~bronchus, 2, 0).astype(np.uint8)
    hu = np.where(np.abs([z, y, x]).max(0) < 30, LUNG, 40).astype(np.float32)
    hu[bronchus & (lungs == 0) & (np.abs(x) < 30)] = -1000
    after, left = hard.alter_anatomy(hu, lungs, np.stack([x, y, z], -1), ("one-lung-left",))
    assert not left.any()
    assert after[np.abs(x) < 20].min() > 0


def test_without_hard_cases_nothing_changes(scene):
    hu, lungs = alter(scene)
    np.testing.assert_array_equal(hu, scene[0])
    np.testing.assert_array_equal(lungs, scene[1])
    assert hard.move(hu, (X, Y, Z), (), np.random.default_rng(0)) is hu
    assert hard.streak(hu, (X, Y, Z), (), np.random.default_rng(0)) is hu
    assert not hard.extra_rotation_deg(()).any()


@pytest.mark.parametrize(("name", "gone", "stays"), [("one-lung-right", 1, 2), ("one-lung-left", 2, 1)])
def test_one_lung_leaves_fluid(scene, name, gone, stays):
    hu, lungs = alter(scene, name)
    assert not (lungs == gone).any()
    np.testing.assert_array_equal(lungs == stays, scene[1] == stays)
    np.testing.assert_array_equal(hu[scene[1] == stays], scene[0][scene[1] == stays])
    assert (hu[scene[1] == gone] == 20).all()
    side = (X < 0) if gone == 1 else (X > 0)
    inner = hu[:, np.abs(Y) < 60][..., side & (np.abs(X) > 30) & (np.abs(X) < 120)]
    assert inner.min() > -200  # no bronchus is left hanging in the fluid


def test_a_pneumothorax_is_air_in_front_and_above_without_vessels(scene):
    hu, lungs = alter(scene, "pneumothorax")
    old = scene[1] == 1
    air = old & (lungs == 0)
    assert 0.1 < air.sum() / old.sum() < 0.6
    assert (hu[air] == -1000).all()
    points = scene[2]
    assert points[air][:, 1].mean() < points[lungs == 1][:, 1].mean() - 15
    assert points[air][:, 2].mean() > points[lungs == 1][:, 2].mean() + 15
    np.testing.assert_array_equal(lungs == 2, scene[1] == 2)
    np.testing.assert_array_equal(hu[lungs == 2], scene[0][scene[1] == 2])


def test_a_collapsed_lung_keeps_its_tissue(scene):
    hu, lungs = alter(scene, "pneumothorax")
    before = scene[0][(scene[1] == 1) & (scene[0] == LUNG)]
    after = hu[(lungs == 1) & (hu < -300)]
    assert after.mean() > LUNG + 20
    assert (after + 1000).sum() == pytest.approx((before + 1000).sum(), rel=0.05)  # mass goes with HU + 1000


def test_metal_sits_in_tissue(scene):
    hu, lungs = alter(scene, "metal")
    metal = hu != scene[0]
    assert metal.sum() * 5**3 > 5e3  # mm3
    assert (hu[metal] > 3071).all()
    assert not metal[lungs > 0].any()
    assert (scene[0][metal] > -500).all()
    np.testing.assert_array_equal(lungs, scene[1])
    spine = metal & (scene[2][..., 1] > 50)
    assert spine[..., X < 0].sum() == spine[..., X > 0].sum() > 0


def test_streaks_run_through_metal_and_fade():
    x = y = np.arange(-100.0, 101, 2)
    image = np.zeros((3, 101, 101), np.float32)
    image[1, 50, 50] = 8000
    seen = hard.streak(image, (x, y, np.arange(3.0)), ("metal",), np.random.default_rng(0))
    assert not seen[[0, 2]].any()  # only the slice that holds metal
    assert seen[1, 50, 50] == 8000
    radius = np.hypot(x, y[:, None])
    near, far = (seen[1][(radius > a) & (radius < b)] for a, b in ((5, 20), (80, 95)))
    assert near.std() > 2 * far.std() > 10
    assert near.min() < -100
    assert near.max() > 100
    diagonal = seen[1].diagonal()
    np.testing.assert_allclose(diagonal[:45], diagonal[:55:-1], rtol=1e-4)  # the same on both sides


def test_motion_doubles_contours_in_some_slices():
    z, y, x = np.arange(0.0, 91, 3), np.arange(0.0, 61, 2), np.arange(8.0)
    image = np.zeros((len(z), len(y), len(x)), np.float32)
    image[:, y >= 30] = 900
    seen = hard.move(image, (x, y, z), ("motion",), np.random.default_rng(0))
    row = np.flatnonzero(y < 30)[-1]  # 28 mm: 3 mm further back lies the edge
    assert seen[:, row].max() > 300
    assert seen[:, row].min() < 30
    np.testing.assert_array_equal(seen[:, y < 26], 0)
    np.testing.assert_allclose(seen[:, y >= 30], 900)
    still = np.full_like(image, -870)
    np.testing.assert_allclose(hard.move(still, (x, y, z), ("motion",), np.random.default_rng(0)), -870)


def test_motion_moves_the_diaphragm():
    z, y, x = np.arange(-120.0, 0, 3), np.arange(6.0), np.arange(6.0)
    image = np.full((len(z), 6, 6), -870, np.float32)
    image[z < -60] = 50
    blurred = 0
    for seed in range(10):
        seen = hard.move(image, (x, y, z), ("motion",), np.random.default_rng(seed))[:, 3, 3]
        assert (seen[np.abs(z + 60) > 12] == image[:, 3, 3][np.abs(z + 60) > 12]).all()
        blurred += ((seen > -700) & (seen < -100)).any()
    assert blurred >= 4  # by the phase of the breath


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("cut-bottom", [-200, -150, -60], [200, 160, 170]),
        ("cut-top", [-200, -150, -170], [200, 160, 80]),
        ("cut-side", [-100, -150, -170], [200, 160, 170]),
    ],
)
def test_cuts_end_inside_the_lungs(name, low, high):
    lungs = np.array([-130.0, -95, -144]), np.array([120.0, 95, 136])
    box = np.array([-200.0, -150, -170]), np.array([200.0, 160, 170])
    cut = hard.cut_box(*box, *lungs, (name,))
    np.testing.assert_allclose(cut, [low, high], atol=1e-6)
    np.testing.assert_array_equal(box, [[-200, -150, -170], [200, 160, 170]])
    np.testing.assert_array_equal(hard.cut_box(*box, *lungs, ()), box)


def test_a_tilted_subject_lies_turned():
    assert 20 <= np.abs(hard.extra_rotation_deg(("tilt",))).max() <= 25
    assert np.count_nonzero(hard.extra_rotation_deg(("tilt", "motion"))) == 1


@pytest.mark.parametrize("name", hard.HARD_CASES)
def test_every_case_makes_a_scan(scene, name):
    scanner = Scanner(5.0, 5.0, hard=(name,))
    hu, _ = alter(scene, name)
    planes = np.repeat(hu, subslices(scanner), 0)
    seen = acquire(planes, (X, Y, Z), scanner, 128.0, np.random.default_rng(0))
    plain = acquire(
        np.repeat(scene[0], subslices(scanner), 0),
        (X, Y, Z),
        Scanner(5.0, 5.0),
        128.0,
        np.random.default_rng(0),
    )
    assert seen.shape == plain.shape
    by_place = {"cut-bottom", "cut-top", "cut-side", "tilt"}  # these act on grid and pose
    assert (np.abs(seen.astype(int) - plain).max() > 200) == (name not in by_place)
