"""What the numbers in a file mean: Hounsfield units, or what they would have to be.

A chest CT shows itself by its histogram: air near -1000 HU, fat near -105, muscle and blood near 45. Numbers
that show all three a thousand too high or too low are shifted back. Anything else is refused, because a
window, a gain or another kind of image cannot be undone with certainty.
"""

from dataclasses import dataclass

import numpy as np

from ctssl.errors import ScanError

PADDING_HU = -2000
"""What voxels hold that the scanner did not see, whatever the file says."""

_SHIFTS = (1024, 1000, -1024, -1000)  # the intercept forgotten, or applied twice; or 1000 instead of it
_DEEP_HU = -1200  # below, there is padding and rare noise
_AIR_HU, _FAT_HU, _MUSCLE_HU = -1000, -105, 45
_SEARCH_HU = {_AIR_HU: 60, _FAT_HU: 35, _MUSCLE_HU: 35}  # how far from its place a peak is looked for
_MIN_AIR = 0.02  # share of air around the body that places the scale; lungs are too unlike each other
_BIN_HU = 2
_SMOOTH_HU = 10.0
_SAMPLE = 3_000_000  # voxels looked at
_INT16 = np.iinfo(np.int16)
_HEADER = "the value that the header names"


@dataclass(frozen=True)
class Hounsfield:
    """Values in HU.

    Attributes:
        values: (z, y, x) int16 or float32.
        repairs: what was mended, one sentence each.
        padding_hu: voxels at this value were not seen; None when all were.
    """

    values: np.ndarray
    repairs: tuple[str, ...]
    padding_hu: float | None


def rescaled(stored: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """stored * slope + intercept, (z, y, x): int16 where that loses nothing, else float32.

    Raises:
        ScanError: values that are not finite.
    """
    whole = np.issubdtype(stored.dtype, np.integer) and float(slope).is_integer()
    if whole and float(intercept).is_integer():
        ends = np.array([stored.min(), stored.max()], float) * slope + intercept
        if ends.min() >= _INT16.min and ends.max() <= _INT16.max:
            return _computed(stored, int(slope), int(intercept), np.int16)
    values = _computed(stored, slope, intercept, np.float32)
    if not all(np.isfinite(plane).all() for plane in values):
        if any(np.isnan(plane).any() for plane in values):
            raise ScanError(
                "the image holds values that are not finite: NaN, no number",
                "replace what is not measured by -1024 and export the scan again",
            )
        raise ScanError("the image holds values that are not finite: infinite", "export the scan again")
    return values


def to_hu(values: np.ndarray, *, padding: bool = False) -> Hounsfield:
    """Values (z, y, x) as Hounsfield units; changed in place where that is allowed.

    Args:
        values: int16 or float32, rescaled as their file says.
        padding: voxels at PADDING_HU are known to be padding.

    Raises:
        ScanError: no Hounsfield units of a body in air; says what they may be.
    """
    sample = _sample(values)
    sample = sample[sample != PADDING_HU] if padding else sample
    if not len(sample) or sample.min() == sample.max():
        raise ScanError("all voxels hold the same value", "export the scan again")
    shift = 0 if _is_hu(_tissue(sample)) else _shift(sample)
    fills = _fills(sample - np.float32(shift))
    repairs = []
    if shift:
        way, mended = ("too high", "taken off") if shift > 0 else ("too low", "added")
        repairs.append(f"air, fat and muscle lay {abs(shift)} {way}: {abs(shift)} {mended}")
    if not (shift or fills or padding):
        return Hounsfield(values, (), None)
    values, counts = _cleaned(values, shift, fills, padding)
    repairs += [
        f"{100 * count / values.size:.2g} % of the voxels hold {what}, padding: taken for not seen"
        for what, count in counts.items()
        if count
    ]
    return Hounsfield(values, tuple(repairs), PADDING_HU if any(counts.values()) else None)


def _computed(stored: np.ndarray, slope: float, intercept: float, dtype: type) -> np.ndarray:
    """stored * slope + intercept, plane by plane: no copy of the whole at a higher precision."""
    if slope == 1 and intercept == 0:
        return stored.astype(dtype, copy=False)
    out: np.ndarray = np.empty(stored.shape, dtype)
    for here, plane in zip(out, stored, strict=True):
        here[...] = plane.astype(np.int64 if dtype is np.int16 else np.float64) * slope + intercept
    return out


def _sample(values: np.ndarray) -> np.ndarray:
    """(V,) float32: evenly spread voxels of all of the volume."""
    every = max(1, int(np.ceil((values.size / _SAMPLE) ** (1 / 3))))
    return values[::every, ::every, ::every].astype(np.float32).ravel()


def _fills(hu: np.ndarray) -> list[float]:
    """Values far below air that come so often that somebody wrote them: padding."""
    deep = hu[hu < _DEEP_HU]
    if len(deep) < 1e-4 * len(hu):
        return []
    found, counts = np.unique(deep, return_counts=True)
    often = counts > 0.2 * len(deep)
    return found[often].tolist() if counts[often].sum() > 0.5 * len(deep) else []


def _tissue(hu: np.ndarray) -> np.ndarray:
    """The values without padding."""
    return hu[~np.isin(hu, fills)] if (fills := _fills(hu)) else hu


def _is_hu(hu: np.ndarray) -> bool:
    """Whether values without padding are those of a body and of the air around or in it."""
    if not len(hu):
        return False

    def share(low: float, high: float) -> float:
        return np.count_nonzero((hu >= low) & (hu < high)) / len(hu)

    lung_or_air = _peak(hu, -1500, -600)
    soft = share(-160, 110)
    return (
        share(-np.inf, -1150) < 0.1  # noise
        and share(-np.inf, -880) > 0.002  # the trachea at least
        and share(300, np.inf) < 0.2  # bone, metal
        and soft > 0.05
        and soft > share(-430, -160)  # a peak; lungs full of fluid stay below it
        and (lung_or_air is None or lung_or_air > -1060)
    )


def _peak(hu: np.ndarray, low: float, high: float) -> float | None:
    """Where values between low and high are densest; None where that is at an end, so no peak."""
    from scipy import ndimage

    edges = np.arange(low - 40, high + 41, _BIN_HU)
    counts, _ = np.histogram(hu, edges)
    smooth = ndimage.gaussian_filter1d(counts.astype(float), _SMOOTH_HU / _BIN_HU)
    inside = slice(40 // _BIN_HU, -(40 // _BIN_HU))
    at = int(smooth[inside].argmax())
    if at in (0, len(smooth[inside]) - 1) or not smooth[inside][at]:
        return None
    return float(edges[inside][at] + _BIN_HU / 2)


def _shift(sample: np.ndarray) -> int:
    """By how much values are too high: one of _SHIFTS.

    Raises:
        ScanError: no shift makes them Hounsfield units.
    """
    lowest = sample.min()
    errors = {}
    for shift in _SHIFTS:
        hu = _tissue(sample - np.float32(shift))
        if not _is_hu(hu):
            continue
        # a lower end at which values were cut off, or a circle filled with it, is no peak of air
        free = hu[hu > lowest - shift]
        places = [_peak(free, hu_of - _SEARCH_HU[hu_of], hu_of + _SEARCH_HU[hu_of]) for hu_of in _SEARCH_HU]
        found = [at - hu_of for at, hu_of in zip(places, _SEARCH_HU, strict=True) if at is not None]
        air = np.count_nonzero(np.abs(hu - _AIR_HU) < _SEARCH_HU[_AIR_HU])
        if len(found) == len(_SEARCH_HU) and air > _MIN_AIR * len(hu):
            errors[shift] = abs(float(np.median(found)))
    if not errors:
        raise _not_hu(sample)
    return min(errors, key=lambda shift: errors[shift])


def _not_hu(sample: np.ndarray) -> ScanError:
    """What these values may be, said as well as their range allows."""
    low, middle, high = (float(v) for v in np.percentile(sample, (1, 50, 99.5)))
    least, most = float(sample.min()), float(sample.max())
    kinds = len(np.unique(sample))
    whole = bool((sample == np.rint(sample)).all())
    found = f"1 % lie below {low:.4g}, half below {middle:.4g}, 0.5 % above {high:.4g}"
    if whole and kinds <= 32:
        return ScanError(
            f"the image holds only {kinds} different values: a mask of labels?",
            "give the CT itself as the image; a lung mask goes into the manifest's column mask",
        )
    if least >= -1.01 and most <= 1.01:
        return ScanError(
            f"the values lie between {least:.3g} and {most:.3g}: normalised, and by what is not known",
            "give the scan in Hounsfield units, as it was before",
        )
    if whole and least >= 0 and most <= 255:
        return ScanError(
            f"the values lie between {least:.0f} and {most:.0f}: an 8-bit picture whose window is not known",
            "give the scan in Hounsfield units: export 16 bits, not the picture on the screen",
        )
    if _peak(sample, -160, 110) is not None and low > -880:
        return ScanError(
            f"the values show no air: {found}, where a chest CT has air near -1000",
            "apply the rescale slope and intercept once when exporting, and give a chest CT, not an MR",
        )
    if np.count_nonzero(sample > -500) < 0.05 * len(sample):
        return ScanError(
            f"the values show no soft tissue: {found}, where a chest CT has tissue between -150 and 100",
            "give the whole chest, not a cut-out or an emptied image",
        )
    return ScanError(
        f"the values do not look like Hounsfield units: {found}, where a chest CT has air near -1000, "
        "fat near -105 and muscle near 45",
        "apply the rescale slope and intercept once when exporting, and give CT, not an MR",
    )


def _cleaned(
    values: np.ndarray, shift: int, fills: list[float], padding: bool
) -> tuple[np.ndarray, dict[str, int]]:
    """Values less the shift, padding at PADDING_HU, and how many voxels were padding, by what they held."""
    out = values if values.flags.writeable else values.copy()
    counts = {_HEADER: 0, **{f"{fill + shift:g}": 0 for fill in fills}}
    for plane in out:
        known = plane == PADDING_HU if padding else np.zeros(plane.shape, bool)
        counts[_HEADER] += int(np.count_nonzero(known))
        hu = plane.astype(np.float32) - np.float32(shift)
        for fill in fills:
            here = (hu == fill) & ~known
            counts[f"{fill + shift:g}"] += int(np.count_nonzero(here))
            known |= here
        hu[known] = PADDING_HU
        plane[...] = hu.clip(_INT16.min, _INT16.max) if plane.dtype == np.int16 else hu
    return out, counts
