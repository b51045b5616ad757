"""What every lung mask goes through, however it was made: right 1, left 2, as an array z, y, x."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ctssl.errors import ScanError
from ctssl.prepare.grid import LEFT, RIGHT
from ctssl.prepare.reading import read_labels
from ctssl.prepare.threshold import NO_LUNGS, NO_LUNGS_ADVICE


def given_labels(path: Path, max_voxels: int) -> Any:
    """The manifest's mask as a SimpleITK image: 0 outside, 1 right, 2 left.

    Raises:
        ScanError: unreadable, or other labels than 0, 1, 2.
    """
    import SimpleITK as sitk

    image = read_labels(path, max_voxels)
    labels = np.unique(sitk.GetArrayViewFromImage(image))
    if not np.isin(labels, (0, RIGHT, LEFT)).all():
        held = ", ".join(f"{v:g}" for v in labels[:8])
        raise ScanError(f"the given mask {path.name} holds the values {held}", _recoding(labels))
    return image


def _recoding(labels: np.ndarray) -> str:
    """How to mend a mask with other labels."""
    rule = "a mask has 0 outside, 1 in the right lung and 2 in the left"
    others = labels[labels != 0]
    if len(others) == 2:
        low, high = others
        return f"{rule}: set {low:g} and {high:g} to 1 and 2, whichever is right and left"
    if len(others) == 1:
        return f"{rule}: part the two lungs, which here have one value"
    return f"{rule}: set the lobes of a lung to its value, and all else to 0"


def check_mask(mask: np.ndarray, spacing_mm: float, min_lung_l: float) -> dict[str, float]:
    """Litres of each lung, by name.

    Raises:
        ScanError: less lung than `min_lung_l` altogether.
    """
    litres = [np.count_nonzero(mask == label) * spacing_mm**3 / 1e6 for label in (RIGHT, LEFT)]
    if sum(litres) < min_lung_l:
        raise ScanError(f"{NO_LUNGS}: {sum(litres):.2f} l where {min_lung_l} l are needed", NO_LUNGS_ADVICE)
    return {"right_l": round(litres[0], 3), "left_l": round(litres[1], 3)}


def lung_box(mask: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """First and past-the-last voxel (3,) z, y, x of the lungs' box with a margin, within the array.

    Raises:
        ScanError: the mask is empty.
    """
    boxes = ndimage.find_objects((mask > 0).view(np.uint8))
    if not boxes:
        raise ScanError(NO_LUNGS, NO_LUNGS_ADVICE)
    low = np.array([max(b.start - margin, 0) for b in boxes[0]])
    high = np.array([min(b.stop + margin, n) for b, n in zip(boxes[0], mask.shape, strict=True)])
    return low, high
