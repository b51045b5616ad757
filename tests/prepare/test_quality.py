import numpy as np
import pytest

from ctssl.config.prepare import Quality
from ctssl.errors import ScanError
from ctssl.prepare.quality import laa950_percent, verdict


def test_laa950_by_hand_the_limit_counts_and_what_is_no_lung_does_not():
    volume = np.array([[[-951, -950, -949, -1024, 40, -1000]]], np.int16)
    mask = np.array([[[1, 2, 1, 1, 2, 0]]], np.uint8)
    assert laa950_percent(volume, mask) == 60.0
    assert laa950_percent(volume, mask == 2) == 50.0


def test_laa950_of_normal_lung_is_the_normal_distribution():
    rng = np.random.default_rng(0)
    volume = rng.normal(-870, 40, (60, 60, 60))
    assert laa950_percent(volume, np.ones((60, 60, 60))) == pytest.approx(2.275, abs=0.15)  # below -2 sd


def test_clipping_at_the_window_of_volumes_is_harmless():
    rng = np.random.default_rng(1)
    volume, mask = rng.normal(-900, 90, (20, 20, 20)), np.ones((20, 20, 20), bool)
    assert laa950_percent(volume.clip(-1024, 3071), mask) == laa950_percent(volume, mask)


def test_no_lung_and_other_shapes_are_errors():
    with pytest.raises(ScanError, match="no voxel"):
        laa950_percent(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match=r"\(2, 2, 2\), \(2, 2, 3\)"):
        laa950_percent(np.zeros((2, 2, 2)), np.zeros((2, 2, 3)))


LIMITS = Quality(warn_dice=0.95, warn_min_jacobian=0.05, warn_valid_fraction=0.9)
GOOD = {"cut_bottom": False, "cut_top": False, "dice_right": 0.98, "dice_left": 0.97}
GOOD |= {"min_jacobian": 0.3, "landmarks": 10, "valid": 9, "edges": 14}


def test_a_good_scan_passes_without_reasons():
    assert verdict(GOOD, LIMITS) == ("pass", [])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"cut_bottom": True}, "bottom"),
        ({"cut_top": True}, "top"),
        ({"dice_left": 0.94}, "left lung"),
        ({"min_jacobian": 0.04}, "Jacobian"),
        ({"valid": 8}, "8 of 10 landmarks"),
        ({"edges": 4}, "4 edges join 9 landmarks"),
    ],
)
def test_each_fault_warns_and_says_which(change, word):
    judged, reasons = verdict(GOOD | change, LIMITS)
    assert judged == "warn"
    assert len(reasons) == 1
    assert word in reasons[0]
