"""How dense the lungs of a scan are: the numbers of quantitative CT, of whole lungs in HU."""

import numpy as np

from ctssl.errors import ScanError

LOW_HU = (950, 910, 856)
"""Lung at or below minus these counts as low attenuation: emphysema, milder emphysema, trapped air."""

HIGH_HU = (-600, -250)
"""Lung from the first to the second, both counted, is high attenuation: interstitial change, ground glass."""

PERCENTILES = (10, 15)

MEASURES = (
    *(f"laa_{hu}_percent" for hu in LOW_HU),
    "haa_percent",
    *(f"perc{share}_hu" for share in PERCENTILES),
    *("mean_hu", "skewness", "kurtosis", "volume_l", "mass_g"),
)
"""The names of what is measured, in the order of the features."""

_DIGITS = 4
_PART = 1 << 20


def densitometry(hu: np.ndarray, mask: np.ndarray, spacing_mm: float) -> dict[str, float]:
    """Name -> value of MEASURES, of all lung voxels together.

    Shares are in percent of the lung's voxels. Percentiles are interpolated linearly between voxels. Skewness
    and kurtosis are not corrected for n, and kurtosis is less the normal distribution's 3; both are 0 where
    all voxels have one value. A millilitre of x HU weighs (x + 1000) / 1000 g, below -1000 HU nothing.

    Args:
        hu: (z, y, x) HU before any window; that of the volume (-1024 to 3071) does no harm.
        mask: (z, y, x), not 0 in the lungs, without the windpipe.
        spacing_mm: edge of a voxel.

    Raises:
        ValueError: the shapes differ.
        ScanError: the mask holds no lung.

    Source: the usual definitions on full-inspiration CT (-856 HU is meant for expiration; the mass takes
    water as 0 and air as -1000 HU). All depend on slice thickness, kernel, noise and breath.
    """
    if hu.shape != mask.shape:
        raise ValueError(f"volume and mask have one shape, but these are {hu.shape}, {mask.shape}")
    lung = hu[mask != 0]
    if lung.size == 0:
        raise ScanError("the mask should show lungs, but has no voxel", "look at the scan and its mask")
    low, high = HIGH_HU
    mean, skewness, kurtosis = _moments(lung)
    voxel_ml = spacing_mm**3 / 1000
    grams = sum(float(np.maximum(part + 1000.0, 0).sum()) for part in _parts(lung)) / 1000 * voxel_ml
    values = (
        *(_percent(lung <= -limit) for limit in LOW_HU),
        _percent((low <= lung) & (lung <= high)),
        *np.percentile(lung, PERCENTILES),
        *(mean, skewness, kurtosis, lung.size * voxel_ml / 1000, grams),
    )
    return {name: round(float(v), _DIGITS) for name, v in zip(MEASURES, values, strict=True)}


def _percent(chosen: np.ndarray) -> float:
    return 100.0 * float(np.count_nonzero(chosen)) / chosen.size


def _moments(lung: np.ndarray) -> tuple[float, float, float]:
    """Mean, skewness, kurtosis."""
    mean = float(lung.mean(dtype=np.float64))
    sums = np.zeros(3)
    for part in _parts(lung):
        away = part - mean
        sums += [(away**2).sum(), (away**3).sum(), (away**4).sum()]
    second, third, fourth = sums / lung.size
    if np.ptp(lung) == 0:
        return mean, 0.0, 0.0
    return mean, third / second**1.5, fourth / second**2 - 3


def _parts(lung: np.ndarray) -> list[np.ndarray]:
    """The voxels, a million at a time: what is computed from all at once would take gigabytes."""
    return np.array_split(lung, -(-lung.size // _PART))
