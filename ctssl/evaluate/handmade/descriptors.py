"""Descriptors of patches: which densities are there, how steep they change, along how many directions.

Each is three sets of shares that sum to 1, as square roots. So the distance of two descriptors is made of
Hellinger distances, which need no scale and no fitting, and nothing in them knows how a patch is turned
by quarter turns or mirrored.
"""

import numpy as np

from ctssl.config.baselines import Descriptors
from ctssl.evaluate.handmade.patches import read_windowed
from ctssl.store.reader import Store

LEAST_STEEP, MOST_STEEP = 1.0, 1000.0
"""HU per mm: gradients below and above go into the first and the last bin."""

DIRECTIONS = 3


def width(options: Descriptors) -> int:
    """How many numbers a descriptor has."""
    return options.bins + options.gradient_bins + DIRECTIONS


def describe_scan(store: Store, options: Descriptors) -> np.ndarray:
    """(n, D) float32, one row per chosen patch; D is `width`. No row where the scan has no patch."""
    spacing = float(store.card["spacing_mm"])
    rows = [describe(patches, spacing, options) for patches in read_windowed(store, options)]
    return np.concatenate(rows) if rows else np.empty((0, width(options)), np.float32)


def describe(patches: np.ndarray, spacing_mm: float, options: Descriptors) -> np.ndarray:
    """(n, D) float32 descriptors of patches.

    1. Shares of voxels in `bins` equal parts of the window; what lies outside goes into the end bins.
    2. Shares of voxels by the length of their gradient (central differences), in `gradient_bins` parts of
       equal ratio from 1 to 1000 HU per mm.
    3. Shares of the gradients' energy along the patch's own three main directions (eigenvalues of the
       mean outer product), largest first; a third each where nothing changes.

    Args:
        patches: (n, E, E, E) HU, axes patch, z, y, x, E at least 2.
        spacing_mm: edge of a voxel.
        options: the window and the numbers of bins.

    Source: ours; Schabdach et al., IPMI 2017, use histograms of intensities and gradients of supervoxels.
    """
    hu = np.clip(patches, options.hu_min, options.hu_max).astype(np.float32)  # (n, E, E, E)
    flat = hu.reshape(len(hu), -1)  # (n, V)
    gradient = np.stack(np.gradient(hu, spacing_mm, axis=(1, 2, 3)), 1).reshape(len(hu), 3, -1)  # (n, 3, V)
    steep = np.sqrt((gradient**2).sum(1))  # (n, V)
    place = (flat - options.hu_min) / (options.hu_max - options.hu_min)
    ratio = np.log(np.maximum(steep, LEAST_STEEP) / LEAST_STEEP) / np.log(MOST_STEEP / LEAST_STEEP)
    energy = np.einsum("niv,njv->nij", gradient, gradient, optimize=True)  # (n, 3, 3)
    parts = [_shares(place, options.bins), _shares(ratio, options.gradient_bins), _main_directions(energy)]
    return np.sqrt(np.concatenate(parts, 1)).astype(np.float32)


def _shares(places: np.ndarray, bins: int) -> np.ndarray:
    """(n, bins) shares of each row's values (n, V) in 0 to 1; what is beyond goes into the end bins."""
    count, voxels = places.shape
    number = np.clip((places * bins).astype(np.int64), 0, bins - 1) + bins * np.arange(count)[:, None]
    return np.bincount(number.ravel(), minlength=count * bins).reshape(count, bins) / voxels


def _main_directions(energy: np.ndarray) -> np.ndarray:
    """(n, 3) shares of the eigenvalues of (n, 3, 3), largest first."""
    values = np.maximum(np.linalg.eigvalsh(energy.astype(np.float64))[:, ::-1], 0)
    total = values.sum(1, keepdims=True)
    return np.where(total > 0, values / np.where(total > 0, total, 1), 1 / DIRECTIONS)
