"""Numbers are taken for Hounsfield units when they are, mended when that is certain, and else refused."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from prepare.chest import canonical, scan, subject

from ctssl.cohorts.phantom.disease import Disease
from ctssl.cohorts.phantom.scan import make_scan
from ctssl.cohorts.phantom.scanner import Scanner
from ctssl.errors import ScanError
from ctssl.prepare.hounsfield import PADDING_HU, rescaled, to_hu

REAL = Path(__file__).parents[2] / "data" / "real"
SHIFTS = (1000, 1024, -1000, -1024)
HU = scan().hu
WHOLE = np.iinfo(np.int16)

SCANNERS = {
    "soft": Scanner(4.0, 5.0),
    "sharp": Scanner(4.0, 5.0, kernel="sharp", noise_hu=30.0),
    "circle of air": Scanner(4.0, 5.0, circle=True, padding_hu=-1024),
    "cut": Scanner(4.0, 5.0, fov_mm=300.0, table=False),
    "metal": Scanner(4.0, 5.0, hard=("metal",)),
    "one lung": Scanner(4.0, 5.0, hard=("one-lung-left",)),
}
DISEASES = {
    "ground glass": Disease(ground_glass=4, reticulation=2),
    "emphysema": Disease(centrilobular=5, paraseptal=2, panlobular=2),
}


@cache
def made(name: str) -> np.ndarray:
    if name in DISEASES:
        return make_scan(replace(subject(2), disease=DISEASES[name]), Scanner(4.0, 5.0), canonical()).hu
    return make_scan(subject(1), SCANNERS[name], canonical()).hu


@cache
def real(name: str) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(REAL / name)))


@pytest.mark.parametrize("name", [*SCANNERS, *DISEASES])
def test_a_ct_passes_unchanged_and_a_shifted_one_comes_back(name):
    hu = made(name)
    same = to_hu(hu.copy())
    assert (same.repairs, same.padding_hu) == ((), None)
    np.testing.assert_array_equal(same.values, hu)
    for shift in SHIFTS:
        got = to_hu((hu + shift).astype(np.int16))
        assert len(got.repairs) == 1
        assert f"lay {abs(shift)} too {'high' if shift > 0 else 'low'}" in got.repairs[0]
        np.testing.assert_array_equal(got.values, hu)
        assert got.values.dtype == np.int16


def test_a_very_noisy_ct_passes():
    hu = make_scan(subject(1), Scanner(4.0, 5.0, hard=("low-dose",)), canonical()).hu
    assert to_hu(hu).repairs == ()
    unclipped = hu + np.random.default_rng(0).normal(0, 50, hu.shape).astype(np.float32)
    assert to_hu(unclipped).repairs == ()


@pytest.mark.skipif(not REAL.exists(), reason="`ctssl samples data/real` fetches the scans")
@pytest.mark.parametrize("name", ["lung1_image.nrrd", "lung2_image.nrrd"])
def test_real_scans_pass_unchanged_and_come_back(name):
    hu = real(name)
    assert to_hu(hu.copy()).repairs == ()
    for shift in SHIFTS:
        np.testing.assert_array_equal(to_hu((hu + shift).astype(np.int16)).values, hu)


@pytest.mark.parametrize("padding", [-3024, -8192, -32768])
@pytest.mark.parametrize("shift", [0, 1024, -1024])
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_padding_is_found_and_the_rest_left_alone(padding, shift, dtype):
    """Padding was written after the shift: it is where the file's writer put it."""
    unseen = np.zeros(HU.shape, bool)
    unseen[:, :4] = unseen[:, :, :3] = True
    stored = (HU + shift).astype(dtype)
    stored[unseen] = padding
    got = to_hu(stored)
    assert got.padding_hu == PADDING_HU
    np.testing.assert_array_equal(got.values == PADDING_HU, unseen)
    np.testing.assert_array_equal(got.values[~unseen], HU[~unseen])
    assert f"{100 * unseen.mean():.2g} % of the voxels hold {padding}, padding" in got.repairs[-1]


def test_padding_that_a_shift_takes_to_the_place_of_air_is_air():
    stored = (HU - 1000).astype(np.int16)
    stored[:, :4] = -2000
    got = to_hu(stored)
    assert got.padding_hu is None
    assert (got.values[:, :4] == -1000).all()


def test_padding_that_the_header_names_needs_no_great_share():
    stored = HU.copy()
    stored[3, 5, 7] = PADDING_HU
    assert to_hu(stored.copy()).padding_hu is None
    got = to_hu(stored.copy(), padding=True)
    assert got.padding_hu == PADDING_HU
    np.testing.assert_array_equal(got.values, stored)
    shifted = (HU + 1024).astype(np.int16)
    shifted[3, 5, 7] = PADDING_HU
    np.testing.assert_array_equal(to_hu(shifted, padding=True).values, stored)


def test_rare_low_values_are_no_padding():
    stored = HU.copy()
    some = stored.ravel()[:: HU.size // 40]
    some[:] = -3000 + 30 * np.arange(len(some))
    got = to_hu(stored.copy())
    assert got.padding_hu is None
    np.testing.assert_array_equal(got.values, stored)


def window(low, high):
    return np.clip((HU.astype(np.float32) - low) / (high - low), 0, 1)


REFUSED = {
    "eight bits": ((255 * window(-1000, 400)).astype(np.uint8).astype(np.int16), "8-bit picture"),
    "0 to 1": (window(-1000, 400), "normalised"),
    "-1 to 1": (2 * window(-1000, 400) - 1, "normalised"),
    "standardised": ((HU - HU.mean()) / HU.std().astype(np.float32), "no air"),
    "tenth": (HU // 10, "no air"),
    "half": (HU // 2, "no air"),
    "0.8": (HU * np.float32(0.8), "no air"),
    "1.2": (HU * np.float32(1.2), "do not look like Hounsfield units"),
    "double": (HU * 2, "do not look like Hounsfield units"),
    "0-based and double": ((HU + 1024) * 2, "do not look|no air"),
    "inverted": (-HU, "no air|do not look"),
    "shifted by an odd 500": (HU + 500, "no air|do not look"),
    "mask": ((scan().lungs > 0).astype(np.int16), "2 different values: a mask"),
    "lobes": (scan().lobes.astype(np.int16) * 50, "a mask"),
    "constant": (np.full_like(HU, -1000), "the same value"),
    "air": (HU.clip(-1024, -900), "no soft tissue"),
    "no air": (HU.clip(-300, None), "no air"),
    "mr": (
        np.abs(np.random.default_rng(0).normal(window(-1200, 800) * 900, 40)).astype(np.int16),
        "no air|do not look",
    ),
    "all padding": (np.where(HU > 0, -2000, -2001).astype(np.int16), "a mask"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_numbers_are_refused_with_advice(name):
    values, word = REFUSED[name]
    with pytest.raises(ScanError, match=word) as fault:
        to_hu(values.copy())
    assert fault.value.advice


def test_a_shift_without_air_around_the_body_is_not_certain():
    """Lungs are too unlike each other to say whether 1000 or 1024 was added."""
    hu = make_scan(subject(1), Scanner(4.0, 5.0, fov_mm=200.0, table=False), canonical()).hu
    hu = hu[:, 12:-12, 12:-12]
    assert np.mean(np.abs(hu + 1000) < 60) < 0.02
    assert to_hu(hu.copy()).repairs == ()
    with pytest.raises(ScanError, match=r"Hounsfield|air"):
        to_hu((hu + 1024).astype(np.int16))


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "dtype"),
    [
        (np.array([0, 4095], np.uint16), 1, -1024, np.int16),
        (np.array([-3, 4000], np.int64), 2, 0, np.int16),
        (np.array([0, 65535], np.uint16), 1, -1024, np.float32),  # no room in 16 bits
        (np.array([-32768, 5], np.int16), 1, -1024, np.float32),
        (np.array([0, 100], np.int16), 0.5, 0, np.float32),
        (np.array([0, 100], np.int16), 1, 0.25, np.float32),
        (np.array([0.0, 100], np.float64), 1, 0, np.float32),
    ],
)
def test_rescaling_loses_nothing(stored, slope, intercept, dtype):
    got = rescaled(stored[:, None, None], slope, intercept)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got.ravel(), stored.astype(float) * slope + intercept)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ScanError, match=r"not finite: NaN[^-]*-1024"):
        rescaled(np.array([[[np.nan]], [[1.0]]]), 1, 0)
    with pytest.raises(ScanError, match="not finite: infinite"):
        rescaled(np.array([[[np.inf]], [[1.0]]]), 1, 0)
