"""What makes one doubt a lung mask: sentences for the quality page."""

import numpy as np
from scipy import ndimage

from ctssl.prepare.grid import LEFT, RIGHT, Grid
from ctssl.prepare.ribs import bites
from ctssl.prepare.upright import to_upright

_LOOK_MM = 3.0  # voxels of about this size tell enough
_SMOOTH_MM = 4.0
_DENSE_HU, _DENSE_PERCENT = -300.0, 4.0  # healthy lungs hold less than 2 % of vessels this dense
_PLAIN_HU, _PLAIN_ML = -980.0, 100.0  # emphysema keeps its walls; smoothed, it is denser
_MISSING_PERCENT = 2.0
_CUT_MM2 = 400.0  # of a lung on a side of the image, from which the image surely cuts it
_CHILD_L = 1.0  # both lungs of an adult hold more, also breathed out
_NAMES = {RIGHT: "right", LEFT: "left"}


def mask_doubts(mask: np.ndarray, hu: np.ndarray, grid: Grid) -> list[str]:
    """Sentences about a lung mask that a person should look at; none for healthy lungs or emphysema.

    A mask by thresholds follows dense disease instead of the pleura: then volumes and outlines depend on the
    disease, and so does whatever is learnt from them.

    Args:
        mask: (z, y, x) on `grid`, 1 right lung, 2 left.
        hu: (z, y, x) on `grid`.
        grid: the whole field of view; what touches its sides is cut off.
    """
    step = max(1, round(_LOOK_MM / grid.spacing_mm))
    voxel_mm = grid.spacing_mm * step
    coarse = (slice(None, None, step),) * 3
    lungs = np.ascontiguousarray(to_upright(mask, grid.axes)[coarse])
    values = to_upright(hu, grid.axes)[coarse].astype(np.float32)
    smooth = ndimage.gaussian_filter(values, _SMOOTH_MM / 2 / voxel_mm)
    missing = bites(lungs, smooth, voxel_mm)
    doubts = []
    for label, name in _NAMES.items():
        lung = lungs == label
        count = np.count_nonzero(lung)
        if count == 0:
            continue
        dense = 100 * np.count_nonzero(smooth[lung] > _DENSE_HU) / count
        if dense > _DENSE_PERCENT:
            doubts.append(
                f"{dense:.0f} % of the {name} lung is as dense as tissue: does the outline follow the "
                "pleura, or the disease?"
            )
        between = 100 * np.count_nonzero(missing == label) / count
        if between > _MISSING_PERCENT:
            doubts.append(
                f"tissue as large as {between:.0f} % of the {name} lung lies between it and the ribs: dense "
                "lung that was left out, or fluid?"
            )
        plain = _plain_ml(lung, values, voxel_mm)
        if plain > _PLAIN_ML:
            doubts.append(
                f"{plain:.0f} ml in the {name} lung are air and nothing else: a bulla, or air beside the "
                "lung (pneumothorax)?"
            )
        if _on_sides(lung) * voxel_mm**2 > _CUT_MM2:
            doubts.append(f"the {name} lung reaches the side of the image: is part of it cut off?")
    litres = [np.count_nonzero(mask == label) * grid.spacing_mm**3 / 1e6 for label in _NAMES]
    if min(litres) > 0 and sum(litres) < _CHILD_L:
        doubts.append(f"{sum(litres):.2f} l for both lungs: a child? the threshold method is made for adults")
    return doubts


def _on_sides(lung: np.ndarray) -> int:
    """Voxels on the most touched of the image's right, left, front and back."""
    return max(int(np.count_nonzero(lung.take(end, axis))) for axis in (1, 2) for end in (0, -1))


def _plain_ml(lung: np.ndarray, hu: np.ndarray, voxel_mm: float) -> float:
    """Size of the largest piece of a lung without any texture."""
    sigma = _SMOOTH_MM / voxel_mm
    weight = ndimage.gaussian_filter(lung.astype(np.float32), sigma)
    mean = ndimage.gaussian_filter(np.where(lung, hu, 0), sigma)
    plain = lung & (mean < _PLAIN_HU * weight)
    labels, _ = ndimage.label(ndimage.binary_opening(plain, iterations=2))
    size = np.bincount(labels.ravel())[1:]
    return float(size.max() * voxel_mm**3 / 1e3) if len(size) else 0.0
