"""Haralick's texture of a scan, from grey level co-occurrences that the library mahotas counts."""

from typing import Any

import numpy as np

from ctssl.config.baselines import Texture
from ctssl.errors import ConfigError
from ctssl.evaluate.handmade.patches import read_windowed
from ctssl.store.reader import Store

NAMES = (
    *("angular_second_moment", "contrast", "correlation", "variance", "inverse_difference_moment"),
    *("sum_average", "sum_variance", "sum_entropy", "entropy", "difference_variance", "difference_entropy"),
    *("information_correlation_1", "information_correlation_2"),
)
"""Haralick's first thirteen features, in the order of mahotas."""


def texture_of_scan(store: Store, options: Texture) -> np.ndarray:
    """(26,) float32: mean, then standard deviation over the chosen patches, of NAMES.

    Empty where the scan has no patch.
    """
    rows = [texture(patches, options) for patches in read_windowed(store, options)]
    if not rows:
        return np.empty(0, np.float32)
    each = np.concatenate(rows)  # (n, 13)
    return np.concatenate([each.mean(0), each.std(0)]).astype(np.float32)


def texture(patches: np.ndarray, options: Texture) -> np.ndarray:
    """(n, 13) of NAMES: each the mean over the 13 directions to the neighbours of a voxel.

    Args:
        patches: (n, E, E, E) HU, axes patch, z, y, x.
        options: the window, which is cut into `grey_levels` equal parts, and the neighbours' distance.

    Raises:
        ConfigError: mahotas is not installed.

    Source: Haralick, Shanmugam, Dinstein, IEEE SMC 3:610, 1973, sections I to XIII of its appendix.
    """
    haralick = _library()
    place = (patches - options.hu_min) / (options.hu_max - options.hu_min)
    grey = np.clip(place * options.grey_levels, 0, options.grey_levels - 1).astype(np.uint8)
    return np.stack([haralick(one, return_mean=True, distance=options.distance_voxels) for one in grey])


def _library() -> Any:
    try:
        from mahotas.features import haralick
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the baseline texture needs the library mahotas, which is not installed",
            "install the extra texture: pip install --constraint constraints.txt --editable '.[texture]'; "
            "or take texture out of `baselines`",
        ) from error
    return haralick
