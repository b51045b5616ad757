"""What every lung mask goes through, however it was made: right 1, left 2, as an array z, y, x."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ctssl.errors import ScanError
from ctssl.prepare.grid import LEFT, RIGHT, Grid
from ctssl.prepare.reading import read_labels
from ctssl.prepare.threshold import NO_LUNGS, NO_LUNGS_ADVICE


def given_labels(path: Path, max_voxels: int) -> Any:
    """The manifest's mask as a SimpleITK image: 0 outside, 1 right, 2 left.

    Raises:
        ScanError: unreadable, or other labels than 0, 1, 2.
    """
    import SimpleITK as sitk

    try:
        image = read_labels(path, max_voxels)
    except ScanError as error:
        raise type(error)(f"the given mask cannot be used: {error.message}", error.advice) from error
    labels = np.unique(sitk.GetArrayViewFromImage(image))
    if not labels.any():
        raise ScanError("the given mask is empty", _recoding(labels))
    if not np.isin(labels, (0, RIGHT, LEFT)).all():
        held = ", ".join(f"{v:g}" for v in labels[:8])
        raise ScanError(f"the given mask holds the values {held}", _recoding(labels))
    return image


ELSEWHERE = (
    "the given mask does not lie on the scan",
    "give a mask that was drawn on this scan, in the same space",
)
_LEAST_INSIDE = 0.95  # of a given mask's volume
_LUNG_HU = -300.0


def check_given(labels: Any, mask: np.ndarray, hu: np.ndarray, grid: Grid) -> None:
    """Nothing, when a given mask can be that of this scan's lungs.

    Args:
        labels: the mask as it was given, a SimpleITK image.
        mask: (z, y, x) the same on `grid`.
        hu: (z, y, x) the scan on `grid`.
        grid: of both, no larger than the scan.

    Raises:
        ScanError: part of it lies beyond the scan, it holds no lung, or its sides are swapped.
    """
    import SimpleITK as sitk

    given_mm3 = np.count_nonzero(sitk.GetArrayViewFromImage(labels)) * float(np.prod(labels.GetSpacing()))
    share = np.count_nonzero(mask) * grid.spacing_mm**3 / given_mm3
    if share < _LEAST_INSIDE:
        raise ScanError(f"{ELSEWHERE[0]}: {100 * (1 - share):.0f} % of it lie outside", ELSEWHERE[1])
    typical = float(np.median(hu[mask > 0]))
    if typical > _LUNG_HU:
        raise ScanError(
            f"{ELSEWHERE[0]}: half of what it holds is above {typical:.0f} HU, and lung is near -850",
            ELSEWHERE[1],
        )
    check_sides(mask, grid, "the given mask")


_LOOK_MM = 4.0
_BOTH_MM = 200.0  # no single lung is so wide
_LARGE = 0.2  # of the largest part


def check_sides(mask: np.ndarray, grid: Grid, what: str) -> None:
    """Nothing, when each label (z, y, x; 1 right, 2 left) can be that lung.

    Args:
        mask: on `grid`.
        grid: along L or R, P or A, S or I in any order.
        what: the mask's name in messages.

    Raises:
        ScanError: the right lung lies to the left of the left one, or one label holds both.
    """
    step = max(1, round(_LOOK_MM / grid.spacing_mm))
    thin, wide = mask[::step, ::step, ::step], grid.every(step)
    across_mm = [wide.to_points(np.argwhere(thin == side).astype(float))[:, 0] for side in (RIGHT, LEFT)]
    right, left = (float(places.mean()) if len(places) else None for places in across_mm)
    if right is not None and left is not None:
        if right > left:
            raise ScanError(
                f"in {what} label 1 lies to the left of label 2",
                "1 is the subject's right lung, 2 the left: exchange them, or mend the mask's orientation",
            )
        return
    parts, _ = ndimage.label(thin)
    size = np.bincount(parts.ravel())[1:]
    if len(size) == 0:
        raise ScanError(f"{what} is empty", "a lung mask has 1 in the right lung and 2 in the left")
    both = np.count_nonzero(size > _LARGE * size.max()) > 1
    if both or np.ptp(np.concatenate(across_mm)) > _BOTH_MM:
        raise ScanError(
            f"in {what} both lungs have one label", "part them: 1 in the right lung and 2 in the left"
        )


def _recoding(labels: np.ndarray) -> str:
    """How to mend a mask with other labels."""
    rule = "a mask has 0 outside, 1 in the right lung and 2 in the left"
    others = labels[labels != 0]
    if len(others) == 0:
        return rule
    if len(others) == 2:
        low, high = others
        return f"{rule}: set {low:g} and {high:g} to 1 and 2, whichever is right and left"
    if len(others) == 1:
        return f"{rule}: part the two lungs, which here have one value"
    return f"{rule}: set the lobes of a lung to its value, and all else to 0"


_MOST_LUNG_L = 15.0  # nobody's total capacity comes near


def check_mask(mask: np.ndarray, spacing_mm: float, min_lung_l: float) -> dict[str, float]:
    """Litres of each lung, by name.

    Raises:
        ScanError: less lung than `min_lung_l` altogether, or more than anybody has.
    """
    litres = [np.count_nonzero(mask == label) * spacing_mm**3 / 1e6 for label in (RIGHT, LEFT)]
    if sum(litres) < min_lung_l:
        raise ScanError(f"{NO_LUNGS}: {sum(litres):.2f} l where {min_lung_l} l are needed", NO_LUNGS_ADVICE)
    if sum(litres) > _MOST_LUNG_L:
        raise ScanError(
            f"the lungs hold {sum(litres):.1f} l, more than anybody's",
            "correct the spacing in the image's header; is it in mm?",
        )
    return {"right_l": round(litres[0], 3), "left_l": round(litres[1], 3)}


_GAS_HU = -980.0  # half of a lung is denser, by 30 HU and more even where emphysema is severe


def check_tissue(mask: np.ndarray, hu: np.ndarray) -> None:
    """Nothing, when a mask (z, y, x) can hold lung, by its HU (z, y, x).

    Raises:
        ScanError: it holds gas, as in a bowel, in a bottle or beside a body.
    """
    typical = float(np.median(hu[mask > 0]))
    if typical < _GAS_HU:
        raise ScanError(f"{NO_LUNGS}: what looked like lungs is gas ({typical:.0f} HU)", NO_LUNGS_ADVICE)


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
