"""Which patches of a scan are looked at, and read a few at a time."""

from collections.abc import Iterator

import numpy as np

from ctssl.config.baselines import LungPatches
from ctssl.store.reader import Store

_TOGETHER = 64  # patches in memory: with their gradients, 64 of 32 voxels take 50 MB


def chosen_patches(valid: np.ndarray, lung_fraction: np.ndarray, options: LungPatches) -> np.ndarray:
    """(n,) numbers of the valid landmarks whose patch holds enough lung, rising.

    Where fewer than `least_patches` do, these are that many with the most lung, or all there are.

    Args:
        valid: (N,) bool.
        lung_fraction: (N,) share of lung in the patch.
        options: say what is enough.
    """
    there = np.flatnonzero(valid)
    enough = there[lung_fraction[there] >= options.least_lung]
    if len(enough) >= options.least_patches:
        return enough
    most = there[np.argsort(-lung_fraction[there], kind="stable")]
    return np.sort(most[: options.least_patches])


def read_windowed(store: Store, options: LungPatches) -> Iterator[np.ndarray]:
    """(n, E, E, E) float32 HU of the chosen patches, axes landmark, z, y, x, in the window, some at once."""
    chosen = chosen_patches(store.valid, store.lung_fraction, options)
    for part in np.split(chosen, range(_TOGETHER, len(chosen), _TOGETHER)):
        if len(part):
            yield store.patches(part).clip(options.hu_min, options.hu_max).astype(np.float32)
