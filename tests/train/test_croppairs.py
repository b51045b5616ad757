from dataclasses import replace

import numpy as np
import pytest
import torch
from train import lungs, synthetic

from ctssl.store.boxes import box_of
from ctssl.train import croppairs
from ctssl.train.batches import Cohort
from ctssl.train.croppairs import CropPairs
from ctssl.train.cuts import cut_sample, read_cuts

ATLAS = synthetic.atlas()
SHAPE = (30, 36, 44)
CUT = CropPairs((8, 8, 8), ((8, 8, 8), (6, 12, 10), (12, 12, 12)), least_overlap=0.2)
APART = replace(CUT, alike=False)


def box(hu=None, mask=None):
    """A box whose values are numbers of voxels."""
    hu = (np.arange(np.prod(SHAPE)) - 30_000).reshape(SHAPE) if hu is None else hu
    card = {"scan": "a", "atlas": ATLAS.id, "spacing_mm": 1.0}
    return box_of(hu.astype(np.int16), lungs.lungs(SHAPE) if mask is None else mask, card)


def keys(count):
    return (torch.arange(count) * 7919).split(1)


@pytest.fixture
def placed(monkeypatch):
    """Of each crop that `volumes` makes its first voxel and its size, and the crop as it was read."""
    seen = []

    def noted(crop, extent):
        seen.append((np.array(np.unravel_index(int(crop[0, 0, 0]) + 30_000, SHAPE)), crop.shape, crop))
        return np.zeros(extent, np.int16)

    monkeypatch.setattr(croppairs, "resized", noted)
    return seen


def counted(low, size, place, other):
    """Intersection over union, voxel by voxel."""
    inside = np.zeros((2, 60, 60, 60), bool)
    for one, corner, sides in ((inside[0], low, size), (inside[1], place, other)):
        one[tuple(slice(a, a + n) for a, n in zip(corner, sides, strict=True))] = True
    return inside.all(0).sum() / inside.any(0).sum()


def test_overlap_is_intersection_over_union():
    rng = np.random.default_rng(0)
    low = np.array([10, 12, 9])
    for size, other in (((8, 8, 8), (8, 8, 8)), ((8, 9, 10), (12, 5, 11))):
        places = low + rng.integers(-9, 9, (60, 3))
        found = croppairs.overlap(low, size, places, other)
        np.testing.assert_allclose(found, [counted(low, size, place, other) for place in places])
        assert 0.1 < (found == 0).mean() < 0.9


@pytest.mark.parametrize("cut", [CUT, APART])
def test_pairs_lie_in_the_lungs_own_box_and_overlap_enough(placed, cut):
    lung = box()
    first, end = lung.lungs
    overlaps = []
    for key in keys(300):
        assert cut.volumes(lung, torch.empty(2), key).shape == (2, 8, 8, 8)
    values = lung.whole("volume")
    for low, size, crop in placed:
        assert (low >= first).all()
        assert (low + size <= end).all()
        part = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
        np.testing.assert_array_equal(crop, values[part])
    for (low, size, _), (place, other, _) in zip(placed[::2], placed[1::2], strict=True):
        overlaps.append(counted(low, size, place, other))
        assert size == other or cut is APART
    assert min(overlaps) > 0.2
    assert min(overlaps) < 0.25
    assert max(overlaps) > 0.6
    sizes = [size for _, size, _ in placed[::2]]
    assert all(70 < sizes.count(size) < 130 for size in cut.sizes)
    differ = np.mean([a[1] != b[1] for a, b in zip(placed[::2], placed[1::2], strict=True)])
    assert differ == pytest.approx(0 if cut is CUT else 2 / 3, abs=0.08)


def test_a_second_size_that_could_not_overlap_enough_is_never_drawn(placed):
    cut = CropPairs((8, 8, 8), ((4, 4, 4), (12, 12, 12)), alike=False)
    for key in keys(100):
        cut.volumes(box(), torch.empty(2), key)
    assert all(a[1] == b[1] for a, b in zip(placed[::2], placed[1::2], strict=True))


def test_the_second_crop_is_at_any_place_that_overlaps_enough_equally_often():
    lung, low, size, other = box(), np.array([6, 14, 12]), (4, 5, 4), (5, 4, 4)
    rng = np.random.default_rng(1)
    drawn = [croppairs.second_place(lung, low, size, other, 0.25, rng.random((16, 3))) for _ in range(6000)]
    ranges = [range(a, b - n + 1) for a, b, n in zip(*lung.lungs, other, strict=True)]
    every = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, 3)
    allowed = every[croppairs.overlap(low, size, every, other) > 0.25]
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert {tuple(p) for p in found} == {tuple(p) for p in allowed}
    expected = 6000 / len(allowed)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < len(allowed) + 4 * np.sqrt(2 * len(allowed))


def test_any_lungs_and_sizes_have_a_pair_that_overlaps_enough():
    """Lungs shorter than a crop, draws that all fail: one is put where it overlaps most."""
    rng = np.random.default_rng(2)
    for _ in range(400):
        sides, size, other = rng.integers(2, 29, (3, 3))
        mask = np.zeros(SHAPE, np.uint8)
        mask[tuple(slice(1, 1 + n) for n in sides)] = 1
        lung, nowhere = box(mask=mask), np.zeros(3, int)
        most = croppairs.overlap(nowhere, size, nowhere, other)
        (low,) = croppairs.corners(lung, rng.random((1, 3)), size)
        for least in (0.9 * most, 0.999 * most):
            place = croppairs.second_place(lung, low, size, other, least, rng.random((16, 3)))
            assert croppairs.overlap(low, size, place, other) > least


def test_a_pair_with_much_tissue_is_placed_again_at_the_same_size(placed):
    rng = np.random.default_rng(3)
    hu = np.where(rng.random(SHAPE) < np.linspace(0, 1, SHAPE[2]), 40, -900)

    def shares(most, tries):
        placed.clear()
        cut = replace(CUT, most_tissue=most, tries=tries)
        for key in keys(60):
            cut.volumes(box(hu), torch.empty(2), key)
        each = np.array([(crop >= -150).mean() for *_, crop in placed]).reshape(-1, 2).max(1)
        return each, [crop.shape for *_, crop in placed]

    anywhere, sizes = shares(1.0, 30)
    chosen, same = shares(0.5, 30)
    best, _ = shares(0.0, 30)
    assert sizes == same
    assert (anywhere > 0.5).mean() > 0.4
    assert chosen.max() < 0.5
    kept = anywhere < 0.35  # half of a voxel counts where only the one above is tissue
    assert (chosen[kept] == anywhere[kept]).all()
    assert best.mean() < chosen.mean() < anywhere.mean()


def test_tissue_of_either_crop_counts(placed):
    """A crop of the lungs' whole box has a third of it anywhere; only its smaller companion can lack it."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:16, 6:18, 8:20] = 1
    hu = np.full(SHAPE, -900)
    hu[:, :, 16:] = 40
    whole, small = (12, 12, 12), (6, 6, 6)
    cut = CropPairs((8, 8, 8), (whole, small), alike=False, least_overlap=0.1, most_tissue=0.34, tries=60)
    found = {}
    for key in keys(120):
        placed.clear()
        cut.volumes(box(hu, mask), torch.empty(2), key)
        shares = [(crop >= -150).mean() for *_, crop in placed]
        found.setdefault(tuple(crop.shape for *_, crop in placed), []).append(shares)
    for sizes in ((whole, small), (small, whole)):
        shares = dict(zip(sizes, zip(*found[sizes], strict=True), strict=True))
        assert shares[whole] == pytest.approx([1 / 3] * len(shares[whole]))
        assert max(shares[small]) <= 0.34
        assert min(shares[small]) < max(shares[small])


def test_the_whole_of_a_crop_is_shown():
    """Each new voxel is the mean of those that it covers; the last slices count as much as the first."""
    cut = CropPairs((8, 8, 8), ((16, 24, 16),))
    hu = np.random.default_rng(4).integers(-900, 0, SHAPE)
    mask = np.ones(SHAPE, np.uint8)
    found = cut.volumes(box(hu, mask), torch.empty(2), keys(5)[3])
    for crop in found:
        windows = np.lib.stride_tricks.sliding_window_view(hu.astype(float), (2, 3, 2)).mean((3, 4, 5))
        z, y, x = np.argwhere(np.abs(windows - crop[0, 0, 0]) <= 0.5).T
        near = [
            (a, b, c)
            for a, b, c in zip(z, y, x, strict=True)
            if a <= SHAPE[0] - 16
            and b <= SHAPE[1] - 24
            and c <= SHAPE[2] - 16
            and np.abs(windows[a : a + 16 : 2, b : b + 24 : 3, c : c + 16 : 2] - crop).max() <= 0.51
        ]
        assert len(near) == 1


def test_pairs_follow_from_seed_epoch_and_scan_alone(tmp_path):
    boxes = [lungs.write(tmp_path, f"scan{i}", i, ATLAS) for i in range(4)]
    cohort = Cohort(np.ones((4, 6), bool), np.array([0, 0, 1, 2]))

    def read(scans, *draw):
        batch = read_cuts(boxes, cohort, cut_sample(np.array(scans), CUT), CUT, draw, None)
        assert batch.counts == (2,) * len(scans)
        return batch.patches.view(len(scans), 2, 8, 8, 8)

    found = read([0, 1, 2, 3], 5, 0, 1)
    assert torch.equal(found[[3, 1]], read([3, 1], 5, 0, 1))
    for other in ((6, 0, 1), (5, 0, 2), (5, 1, 1)):
        assert not torch.equal(found, read([0, 1, 2, 3], *other))
    assert not torch.equal(found[:, 0], found[:, 1])
