"""One scan on given axes and spacing, with its lung mask, cut to the lungs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.config.prepare import Volume
from ctssl.prepare import mask as masks
from ctssl.prepare.grid import Grid
from ctssl.prepare.machine import Machine
from ctssl.prepare.volume import check_hu, frame_of, image_on_grid, read_image


@dataclass(frozen=True)
class Frame:
    """Axes and spacing to put a scan on, and how much to leave around the lungs."""

    axes: str
    spacing_mm: float
    margin_voxels: int


@dataclass(frozen=True)
class ScannedChest:
    """A scan, cut to the box of its lungs.

    Attributes:
        hu: (z, y, x) int16.
        mask: (z, y, x) uint8, 1 right lung, 2 left.
        grid: of both; it ends where the margin or the field of view ends.
        numbers: right_l, left_l, native_spacing_mm (x, y, z).
    """

    hu: np.ndarray
    mask: np.ndarray
    grid: Grid
    numbers: dict[str, Any]


def read_chest(settings: dict[str, Any], frame: Frame, machine: Machine) -> ScannedChest:
    """The scan that these settings name.

    Args:
        settings: image, mask_image (or None), and the sections volume and mask, as the stage's settings.
        frame: axes, spacing, margin.
        machine: limits and devices.

    Raises:
        ScanError: unreadable, not HU, no lungs.
        WeightsError: lungmask's weights cannot be had.
    """
    chosen, method = Volume(**settings["volume"]), settings["mask"]
    image = read_image(Path(settings["image"]), machine.max_voxels)
    grid = frame_of(image, frame.spacing_mm, frame.axes)
    hu = image_on_grid(image, grid, outside=chosen.hu_min)
    check_hu(hu)
    hu = np.clip(np.rint(hu), chosen.hu_min, chosen.hu_max).astype(np.int16)
    if settings["mask_image"]:
        mask = masks.given_mask(Path(settings["mask_image"]), grid, machine.max_voxels)
    elif method["method"] == "threshold":
        mask = masks.threshold_mask(hu, grid)
    else:
        mask = masks.lungmask_mask(image, grid, method["model"], machine.weights, machine.device)
    litres = masks.check_mask(mask, grid.spacing_mm, method["min_lung_l"])
    low, high = masks.lung_box(mask, margin=frame.margin_voxels)
    part = tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))
    numbers = {**litres, "native_spacing_mm": [round(s, 4) for s in image.GetSpacing()]}
    return ScannedChest(hu[part], mask[part], grid.crop(low, high), numbers)
