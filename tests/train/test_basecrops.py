import numpy as np
import pytest
import torch
from train import lungs, synthetic

from ctssl.store.boxes import box_of
from ctssl.train import basecrops
from ctssl.train.basecrops import BaseCrops
from ctssl.train.batches import Cohort
from ctssl.train.cuts import cut_sample, read_cuts

ATLAS = synthetic.atlas()
CUT = BaseCrops((8, 6, 10), (3, 2), 4)


def numbered(mask=None):
    """A box whose values are numbers of voxels."""
    mask = lungs.lungs() if mask is None else mask
    hu = (np.arange(mask.size) % 30011).reshape(mask.shape).astype(np.int16)
    return box_of(hu, mask, {"scan": "a", "atlas": ATLAS.id, "spacing_mm": 1.0})


def keys(count, first=0):
    return (torch.arange(count) + first) * 7919


def counted(places, cut):
    """Overlaps, voxel by voxel."""
    _, height, width = cut.extent
    owner = np.arange(cut.bases).reshape(cut.grid).repeat(height, 0).repeat(width, 1)
    found = [
        np.bincount(owner[y : y + height, x : x + width].ravel(), minlength=cut.bases) for y, x in places
    ]
    return np.array(found) / (height * width)


def test_overlaps_are_shares_of_the_area_and_sum_to_one():
    for cut in (CUT, BaseCrops((4, 5, 5), (4, 4), 1), BaseCrops((4, 3, 7), (1, 2), 1)):
        found = basecrops.overlaps(keys(500), cut)
        places = basecrops.random_places(keys(500), cut).numpy()
        np.testing.assert_allclose(found.numpy(), counted(places, cut), atol=1e-6)
        np.testing.assert_allclose(found.sum(1).numpy(), 1, atol=1e-6)


def test_centres_reach_from_the_first_base_to_the_last_and_are_spread_evenly():
    places = basecrops.random_places(keys(20_000), CUT).numpy()
    assert places.min(0).tolist() == [0, 0]
    assert places.max(0).tolist() == [12, 10]
    assert np.bincount(places[:, 0]) / 20_000 == pytest.approx(np.full(13, 1 / 13), abs=0.01)
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.03


def test_crops_are_the_voxels_at_their_places():
    box = numbered()
    hu, found = box.whole("volume"), CUT.volumes(box, keys(10), keys(1, 5))
    low = basecrops.corner(box, CUT, keys(1, 5))
    places = [(y, x) for y in (0, 6, 12) for x in (0, 10)]
    places += basecrops.random_places(keys(10)[6:], CUT).tolist()
    assert found.shape == (10, 8, 6, 10)
    for crop, (y, x) in zip(found, places, strict=True):
        z, y, x = low + np.array([0, y, x])
        np.testing.assert_array_equal(crop, hu[z : z + 8, y : y + 6, x : x + 10])


def corners(box, cut, count):
    """(count, 3) first voxels of grids."""
    return np.array([basecrops.corner(box, cut, key) for key in keys(count).split(1)])


def test_the_grid_is_anywhere_in_larger_lungs_equally_often_so_that_each_column_is_seen():
    box, size = numbered(), np.array([8, 18, 20])
    lows = corners(box, CUT, 3000)
    first, end = box.lungs
    assert (lows.min(0) == first).all()
    assert (lows.max(0) == end - size).all()
    for axis, places in enumerate(end - size - first + 1):
        counts = np.bincount(lows[:, axis] - first[axis], minlength=places)
        assert counts / 3000 == pytest.approx(np.full(places, 1 / places), abs=0.015)
    assert np.abs(np.corrcoef(lows.T) - np.eye(3)).max() < 0.05
    seen = np.zeros(box.shape[1:], bool)
    for _, y, x in lows:
        seen[y : y + 18, x : x + 20] = True
    assert seen[box.whole("mask").any(0)].all()


def test_lungs_smaller_than_the_grid_are_in_its_middle_along_that_axis():
    box = numbered()
    for axis, cut in enumerate(
        [
            BaseCrops((40, 6, 10), (3, 2), 1),
            BaseCrops((8, 20, 10), (2, 2), 1),
            BaseCrops((8, 6, 25), (3, 2), 1),
        ]
    ):
        lows, size = corners(box, cut, 50), cut.extent[axis] * (1, *cut.grid)[axis]
        (found,) = set(lows[:, axis])
        assert abs(found + size / 2 - box.lungs[:, axis].mean()) <= 0.5
        assert (lows.std(0) > 0).tolist() == [other != axis for other in range(3)]


def test_lungs_of_another_size_are_shown_at_the_same_scale():
    """A ball in the middle keeps its voxels in lungs half as wide."""
    middle = np.array([20, 22, 26])
    far = np.linalg.norm(np.indices((40, 44, 52)) - middle[:, None, None, None], axis=0)
    hu, grid, seen = np.where(far < 5, 100, -800).astype(np.int16), BaseCrops((20, 10, 10), (2, 2), 1), []
    for halves in ((20, 22, 26), (10, 11, 13)):
        mask = np.zeros(hu.shape, np.uint8)
        mask[tuple(slice(m - h, m + h) for m, h in zip(middle, halves, strict=True))] = 1
        box = box_of(hu, mask, {"scan": "a", "atlas": ATLAS.id, "spacing_mm": 1.0})
        seen.append(max((grid.volumes(box, keys(5), key)[:4] > 0).sum() for key in keys(200).split(1)))
    assert seen[0] == seen[1] == (far < 5).sum()


def test_what_lies_beyond_the_box_is_air():
    wide = BaseCrops((8, 40, 40), (2, 2), 1)
    found = wide.volumes(numbered(), keys(5), keys(1))
    assert (found[0, :, 0] == -1024).all()


def test_a_batch_has_each_scans_crops_whatever_its_company(tmp_path):
    boxes = [lungs.write(tmp_path, f"scan{i}", i, ATLAS) for i in range(3)]
    cohort = Cohort(np.ones((3, 6), bool), np.arange(3))

    def read(scans, epoch=0):
        sample = cut_sample(np.array(scans), CUT)
        return read_cuts(boxes, cohort, sample, CUT, (0, 0, epoch), None).drawn(sample, 0, 0, epoch)

    every, one, later = read([2, 0, 1]), read([0]), read([0], 1)
    assert every.counts == (10, 10, 10)
    assert torch.equal(every.patches[10:20], one.patches)
    assert not torch.equal(later.patches, one.patches)
    low = basecrops.corner(boxes[0], CUT, one.scan_random)
    low[1:] += basecrops.random_places(one.random[6:7], CUT)[0].numpy()
    crop = boxes[0].read("volume", low, low + CUT.extent)
    np.testing.assert_array_equal(one.patches[6].numpy(), crop)  # what the labels are drawn for
    assert read(np.array([], int)).patches.shape == (0, *CUT.extent)
