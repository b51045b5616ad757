"""Planes of a scan lie where its own landmarks say."""

from types import SimpleNamespace

import numpy as np
import pytest

from ctssl.errors import CohortError, StoreError
from ctssl.store.boxes import box_of
from ctssl.train import planes
from ctssl.train.planes import Plane, Planes, mapped

RNG = np.random.default_rng(4)
SHAPE = (30, 34, 38)
UNIT = np.stack(np.meshgrid(*[np.linspace(0, 1, 5)] * 3, indexing="ij"), -1).reshape(-1, 3)
VIEWS = (Plane("axial", (0.5, 0.5, 0.25)), Plane("coronal", (0.5, 0.75, 0.5)))
VIEWS += (Plane("sagittal", (0.25, 0.5, 0.5)),)
HU = RNG.integers(-1000, 200, SHAPE).astype(np.int16)


def scan(axes="LPS", origin=(100.0, -50.0, 7.0), spacing=2.0, **card):
    mask = np.ones(SHAPE, np.uint8)
    about = {
        "scan": "s",
        "atlas": "a",
        "spacing_mm": spacing,
        "axes": axes,
        "origin_mm": np.array(origin).tolist(),
    }
    return box_of(HU, mask, about | card)


def store(landmarks_mm, valid=None):
    valid = np.ones(len(landmarks_mm), bool) if valid is None else valid
    return SimpleNamespace(scan="s", valid=valid, landmarks_mm=landmarks_mm, card={"digest": "d"})


def cut(**changes):
    return Planes(
        **{"views": VIEWS, "voxels": 8, "field_mm": 16.0, "slab_mm": 2.0, "coordinates": UNIT} | changes
    )


def test_places_follow_an_affine_map_exactly_whatever_landmarks_are_missing():
    turn, shift = RNG.normal(size=(3, 3)), RNG.normal(size=3)
    there = 40 * UNIT @ turn.T + shift
    place = np.array([0.3, 0.5, 0.5])
    for shown in (np.ones(125, bool), UNIT[:, 0] > 0.6, RNG.random(125) < 0.1):
        found = mapped(place, UNIT[shown], there[shown])
        np.testing.assert_allclose(found, 40 * turn @ place + shift, atol=1e-6)


def test_near_landmarks_say_more_than_far_ones():
    """Lungs that are bent: at the bottom, what happens at the top does not count."""
    there = 100 * UNIT
    there[:, 2] += 30 * (UNIT[:, 2] > 0.6)
    found = mapped((0.5, 0.5, 0.1), UNIT, there)
    assert abs(found[2] - 10) < 2
    assert mapped((0.5, 0.5, 0.9), UNIT, there)[2] == pytest.approx(120, abs=2)


def test_few_landmarks_give_what_they_can():
    one = mapped((0.9, 0.9, 0.9), UNIT[:1], np.array([[5.0, 6.0, 7.0]]))
    np.testing.assert_allclose(one, [5, 6, 7])
    far = mapped((1.0, 1.0, 1.0), np.zeros((3, 3)), np.array([[0.0, 0, 0], [3, 0, 0], [0, 3, 0]]))
    np.testing.assert_allclose(far, [1, 1, 0], atol=1e-9)


@pytest.mark.parametrize(("axes", "signs"), [("LPS", (1, 1, 1)), ("LAS", (1, -1, 1)), ("RAI", (-1, -1, -1))])
def test_planes_are_slices_of_the_array(axes, signs):
    """Landmarks such that middles lie on voxels' borders in a plane, and on voxels' centres across."""
    voxel = np.array([[18, 16, 9], [20, 21, 15], [11, 16, 15]])  # x, y, z: middles in the array, edges from 0
    across = np.array([2, 1, 0])
    there = np.zeros((3, 3))
    for row, (middle, normal) in enumerate(zip(voxel, across, strict=True)):
        index = middle - 0.5  # of voxels' centres
        index[normal] = middle[normal]
        there[row] = np.array([100.0, -50, 7]) + 2 * index * signs
    for row, view in enumerate(VIEWS):
        own = store(np.tile(there[row], (125, 1)))
        [found] = planes.planes(scan(axes), own, cut(views=(view,)), None)
        x, y, z = (slice(m - 4, m + 4) for m in voxel[row])
        wanted = (HU[voxel[row][2], y, x], HU[z, voxel[row][1], x], HU[z, y, voxel[row][0]])[row]
        assert (found == wanted).all()


def test_a_slab_is_the_mean_across_and_beyond_the_box_is_air():
    middle = np.array([100.0, -50, 7]) + 2 * (np.array([18, 16, 9]) - np.array([0.5, 0.5, 0]))
    own = store(np.tile(middle, (125, 1)))
    [thick] = planes.planes(scan(), own, cut(views=VIEWS[:1], slab_mm=6.0), None)
    assert (thick == np.rint(HU[8:11, 12:20, 14:22].mean(0))).all()
    [out] = planes.planes(scan(origin=(100.0, -50.0, 500.0)), own, cut(views=VIEWS[:1]), None)
    assert (out == -1024).all()


def test_a_scan_that_moves_takes_its_planes_along():
    there, moved = 40 * UNIT + [110, -45, 12], np.array([7.0, -3, 60])
    here = planes.planes(scan(), store(there), cut(), None)
    gone = planes.planes(scan(origin=np.array([100.0, -50, 7]) + moved), store(there + moved), cut(), None)
    assert (here == gone).all()
    assert (here != -1024).mean() > 0.9


def test_planes_are_kept_for_their_box_landmarks_and_places(tmp_path, monkeypatch):
    made, real = [], planes._planes
    monkeypatch.setattr(planes, "_planes", lambda *a: made.append(1) or real(*a))
    own, box = store(40 * UNIT + [110, -45, 12]), scan()
    first = planes.planes(box, own, cut(), tmp_path)
    assert (planes.planes(box, own, cut(), tmp_path) == first).all()
    assert len(made) == 1
    other = SimpleNamespace(**{**vars(own), "card": {"digest": "e"}})
    for box_, store_, cut_ in (
        (box, other, cut()),
        (box, own, cut(slab_mm=3.0)),
        (scan(atlas="b"), own, cut()),
    ):
        planes.planes(box_, store_, cut_, tmp_path)
    assert len(made) == 4


def test_faults_say_what_to_do():
    own = store(40 * UNIT)
    with pytest.raises(CohortError, match="scan s shows none"):
        planes.planes(scan(), store(40 * UNIT, np.zeros(125, bool)), cut(), None)
    for card in ({"origin_mm": None}, {"origin_mm": [1.0, "x", 2.0]}, {"axes": 3}):
        with pytest.raises(StoreError, match="where the box of scan s lies"):
            planes.planes(scan(**card), own, cut(), None)
