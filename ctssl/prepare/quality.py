"""What is measured on a prepared scan, and what that says about it."""

from typing import Any

import numpy as np

from ctssl.config.prepare import Quality
from ctssl.errors import ScanError

LAA_HU = -950
"""Lung at or below this density counts as a low attenuation area."""


def laa950_percent(hu: np.ndarray, mask: np.ndarray) -> float:
    """100 * (lung voxels at or below -950 HU) / (lung voxels).

    Args:
        hu: (z, y, x) HU before any window; the lower bound of the volume (-1024) does no harm.
        mask: (z, y, x), not 0 in the lungs, without the windpipe.

    Raises:
        ValueError: the shapes differ.
        ScanError: the mask holds no lung.

    Source: the usual definition on full-inspiration CT; depends on slice thickness and kernel.
    """
    if hu.shape != mask.shape:
        raise ValueError(f"volume and mask have one shape, but these are {hu.shape}, {mask.shape}")
    lung = hu[mask != 0]
    if lung.size == 0:
        raise ScanError("the mask should show lungs, but has no voxel", "look at the scan and its mask")
    return 100.0 * float(np.count_nonzero(lung <= LAA_HU)) / lung.size


def verdict(numbers: dict[str, Any], limits: Quality) -> tuple[str, list[str]]:
    """('pass' or 'warn', reasons) for a scan that has a store.

    Args:
        numbers: cut_bottom, cut_top, dice_right, dice_left, min_jacobian, landmarks, valid, edges.
        limits: below them a warning is given.
    """
    reasons = [f"the field of view cuts the lungs at the {end}" for end in _ends(numbers)]
    for side in ("right", "left"):
        if numbers[f"dice_{side}"] < limits.warn_dice:
            reasons.append(f"{side} lung: Dice {numbers[f'dice_{side}']} below {limits.warn_dice}")
    if numbers["min_jacobian"] < limits.warn_min_jacobian:
        reasons.append(f"minimum Jacobian {numbers['min_jacobian']} below {limits.warn_min_jacobian}")
    if numbers["valid"] < limits.warn_valid_fraction * numbers["landmarks"]:
        reasons.append(f"only {numbers['valid']} of {numbers['landmarks']} landmarks are valid")
    if numbers["edges"] < numbers["valid"] / 2:  # less than one neighbour a landmark
        reasons.append(f"only {numbers['edges']} edges join {numbers['valid']} landmarks: see config, graph")
    return ("warn" if reasons else "pass"), reasons


def _ends(numbers: dict[str, Any]) -> list[str]:
    return [end for end in ("bottom", "top") if numbers[f"cut_{end}"]]
