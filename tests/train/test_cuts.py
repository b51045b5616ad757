import numpy as np
import pytest
import torch
from train import lungs, synthetic

from ctssl.train import cuts
from ctssl.train.batches import Cohort
from ctssl.train.cuts import Crops, Whole, Windows
from ctssl.train.random import sample_keys

ATLAS = synthetic.atlas()


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    return lungs.write(tmp_path_factory.mktemp("cuts"), "anna", 2, ATLAS)


def keys(count):
    return torch.arange(count) * 7919


def test_crops_lie_inside_the_lungs_own_box_and_reach_its_ends(box):
    draws = np.random.default_rng(0).random((2000, 3))
    lows = cuts.corners(box, draws, (8, 16, 16))
    first, end = box.lungs
    assert (lows.min(0) == first).all()
    assert (lows.max(0) == end - [8, 16, 16]).all()


def test_lungs_shorter_than_a_crop_are_in_its_middle(box):
    (low,) = cuts.corners(box, np.array([[0.9, 0.9, 0.9]]), (64, 16, 16))
    before, after = box.lungs[0, 0] - low[0], low[0] + 64 - box.lungs[1, 0]
    assert abs(after - before) <= 1


def test_a_crop_follows_from_its_key_alone(box):
    cut = Crops((8, 16, 16), tries=3, most_tissue=0.2)
    found = cuts.crops([box] * 6, keys(6), cut)
    again = cuts.crops([box] * 2, keys(6)[[4, 1]], cut)
    assert (found[[4, 1]] == again).all()
    assert len({crop.tobytes() for crop in found}) == 6


def test_tissue_is_counted_as_released(box):
    """Slice by slice, voxel by voxel: 1 for tissue, a half where only the slice above is tissue."""
    hu = box.read("volume", (4, 4, 4), (13, 20, 20))
    expected = 0.0
    for z, y, x in np.ndindex(8, 16, 16):
        depth = next((k for k in range(2) if hu[z + k, y, x] >= -150), 2)
        expected += 1 - depth / 2
    assert cuts.tissue_share(hu, -150) == pytest.approx(expected / 8 / 16 / 16)
    assert 0.01 < expected / 8 / 16 / 16 < 0.99


def test_crops_with_much_tissue_are_drawn_again(box):
    def shares(most, tries):
        cut = Crops((8, 16, 16), most_tissue=most, tries=tries)
        found = cuts.crops([box] * 60, keys(60), cut)
        return np.array([(crop >= -150).mean() for crop in found])

    anywhere, chosen, best = shares(1.0, 50), shares(0.3, 50), shares(0.0, 50)
    assert (anywhere > 0.3).mean() > 0.2
    assert chosen.max() < 0.31  # the slice above may count for more
    kept = anywhere < 0.29
    assert (chosen[kept] == anywhere[kept]).all()  # one that passes is not drawn again
    assert (best <= chosen + 0.05).all()  # the least of all fifty, where none passes
    assert best.mean() < chosen.mean()


@pytest.mark.parametrize("step", [1.0, 0.5])
def test_windows_cover_the_lungs(box, step):
    found = cuts.windows(box, Windows((16, 16, 16), step))
    mask, hu = box.whole("mask"), box.whole("volume")
    marked = np.where(mask > 0, np.arange(hu.size).reshape(hu.shape) % 20000, -1).astype(np.int16)
    numbered = cuts.windows(cuts_box(marked, mask), Windows((16, 16, 16), step))
    assert set(np.unique(marked[mask > 0])) <= set(np.unique(numbered))
    assert found.shape[1:] == (16, 16, 16)
    assert len(found) == len(numbered)


def cuts_box(hu, mask):
    from ctssl.store.boxes import box_of

    return box_of(hu, mask, {"scan": "marked", "atlas": ATLAS.id, "spacing_mm": 1.0})


def test_windows_with_little_lung_are_left_out_unless_all_have_little(box):
    every = cuts.windows(box, Windows((16, 16, 16)))
    some = cuts.windows(box, Windows((16, 16, 16), least_lung=0.6))
    assert 0 < len(some) < len(every)
    assert len(cuts.windows(box, Windows((16, 16, 16), least_lung=1.0))) >= 1


def test_crops_of_a_batch_have_keys_of_their_scan_and_number(box):
    cut, cohort = Crops((8, 16, 16), number=3), Cohort(np.ones((3, 6), bool), np.arange(3))
    batch = cuts.read_cuts([box] * 3, cohort, cuts.cut_sample(np.array([2, 0]), cut), cut, (5, 1, 4), None)
    scans, numbers = torch.tensor([2, 2, 2, 0, 0, 0]), torch.tensor([0, 1, 2, 0, 1, 2])
    expected = cuts.crops([box] * 6, sample_keys(5, 1, 4, scans, numbers), cut)
    np.testing.assert_array_equal(batch.patches.numpy(), expected)
    assert len({crop.tobytes() for crop in expected}) == 6


def test_one_window_holds_lungs_that_are_smaller(box):
    assert cuts.windows(box, Windows((64, 64, 64))).shape == (1, 64, 64, 64)


def test_a_whole_volume_keeps_the_scale_where_it_is_asked_to(box):
    stretched = cuts.whole(box, Whole((20, 22, 26)), None)
    assert stretched.shape == (20, 22, 26)
    kept = cuts.whole(box, Whole((32, 32, 32), (64.0, 64.0, 64.0)), None)
    inside = (
        (kept > -1000).any((1, 2)).sum(),
        (kept > -1000).any((0, 2)).sum(),
        (kept > -1000).any((0, 1)).sum(),
    )
    assert np.abs(np.array(inside) - np.array(box.shape) / 2).max() <= 1


def test_a_field_lies_around_the_middle_of_the_lungs_and_not_of_the_box():
    """Lungs with 4 voxels of margin on one side and 12 on the other; the field's voxels are the box's."""
    hu = np.random.default_rng(0).integers(-1000, 500, (36, 36, 40)).astype(np.int16)
    mask = np.zeros(hu.shape, np.uint8)
    mask[4:24, 12:32, 4:28] = 1  # their middles: 14, 22, 16
    found = cuts.whole(cuts_box(hu, mask), Whole((16, 12, 20), (16.0, 12.0, 20.0)), None)
    np.testing.assert_array_equal(found, hu[6:22, 16:28, 6:26])


def test_volumes_are_kept_and_a_damaged_one_is_made_again(box, tmp_path, monkeypatch):
    cut, made = Whole((16, 16, 16), (60.0, 60.0, 60.0)), []
    real = cuts._on_voxels
    monkeypatch.setattr(cuts, "_on_voxels", lambda *a: made.append(1) or real(*a))
    first, second = cuts.whole(box, cut, tmp_path), cuts.whole(box, cut, tmp_path)
    assert (first == second).all()
    assert len(made) == 1
    (file,) = (p for p in tmp_path.rglob("*") if p.is_file())
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert (cuts.whole(box, cut, tmp_path) == first).all()
    assert len(made) == 2
    assert (cuts.whole(box, cut, tmp_path) == first).all()
    assert len(made) == 2
