"""One scan on given axes and spacing, with its lung mask, cut to the lungs.

The image is read once. The whole of it is looked at on a grid of about 2 mm; at full resolution only
the box of the lungs is resampled.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ctssl.config.prepare import Volume
from ctssl.errors import ScanError
from ctssl.prepare import mask as masks
from ctssl.prepare.doubts import mask_doubts
from ctssl.prepare.grid import Grid
from ctssl.prepare.images import array_image
from ctssl.prepare.lungmask import lungmask_labels
from ctssl.prepare.machine import Machine
from ctssl.prepare.reading import Reading, read_scan
from ctssl.prepare.sharpen import sharpen
from ctssl.prepare.threshold import threshold_mask
from ctssl.prepare.volume import frame_of, image_on_grid, overview, seen_on_grid


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
        seen: (z, y, x) bool, False where the scanner saw nothing; None when it saw all of the grid.
        numbers: right_l, left_l, native_spacing_mm (x, y, z), repairs, mask_doubts, about.
    """

    hu: np.ndarray
    mask: np.ndarray
    grid: Grid
    seen: np.ndarray | None
    numbers: dict[str, Any]


def read_chest(settings: dict[str, Any], frame: Frame, machine: Machine) -> ScannedChest:
    """The scan that these settings name.

    Args:
        settings: image, series_uid (or None), mask_image (or None), and the sections volume and mask, as the
            stage's settings.
        frame: axes, spacing, margin.
        machine: limits and devices.

    Raises:
        ScanError: unreadable, not HU, no lungs.
        WeightsError: lungmask's weights cannot be had.
    """
    reading = read_scan(Path(settings["image"]), machine.max_voxels, settings["series_uid"])
    hu, mask, grid, doubts = _masked(reading, settings, frame, machine)
    litres = masks.check_mask(mask, grid.spacing_mm, settings["mask"]["min_lung_l"])
    masks.check_tissue(mask, hu)
    low, high = masks.lung_box(mask, margin=frame.margin_voxels)
    part = tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))
    grid = grid.crop(low, high)
    numbers = {
        **litres,
        "native_spacing_mm": [round(step, 4) for step in reading.image.GetSpacing()],
        "repairs": list(reading.repairs),
        "mask_doubts": doubts,
        "about": reading.about,
    }
    seen = seen_on_grid(reading.image, reading.padding_hu, grid)
    return ScannedChest(hu[part], mask[part], grid, seen, numbers)


def native_mask(path: Path, section: dict[str, Any], machine: Machine) -> tuple[Any, dict[str, Any]]:
    """A SimpleITK label image of the lungs (0, 1 right, 2 left) on the scan's own voxels; litres and notes.

    Args:
        path: of the scan.
        section: `mask`, as the stage's settings.
        machine: limits and devices.

    Raises:
        ScanError: unreadable, not HU, no lungs.
        WeightsError: lungmask's weights cannot be had.
    """
    import SimpleITK as sitk

    reading = read_scan(path, machine.max_voxels)
    notes = list(reading.repairs)
    if reading.resampled:
        notes.append("the mask lies on the straightened scan's voxels, which are not those of the file")
    if section["method"] == "lungmask":
        image = _without_padding(reading, _PLAIN["hu_min"])
        labels = lungmask_labels(image, section["model"], machine.weights, machine.device, machine.memory_gb)
    else:
        settings = {"volume": _PLAIN, "mask": section, "mask_image": None}
        _, mask, grid, doubts = _masked(reading, settings, Frame("LPS", 1.0, margin_voxels=4), machine)
        notes += doubts
        on_grid = array_image(mask, grid)
        labels = sitk.Resample(on_grid, reading.image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    voxel_mm = float(np.prod(labels.GetSpacing())) ** (1 / 3)
    litres = masks.check_mask(sitk.GetArrayViewFromImage(labels), voxel_mm, section["min_lung_l"])
    return labels, {**litres, "notes": notes}


_PLAIN = {"hu_min": -1024, "hu_max": 3071}


def _masked(
    reading: Reading, settings: dict[str, Any], frame: Frame, machine: Machine
) -> tuple[np.ndarray, np.ndarray, Grid, list[str]]:
    """HU (z, y, x) int16, mask (z, y, x) uint8, the grid of both, doubts about the mask.

    The grid holds the lungs' box and a margin of `frame.margin_voxels` or more, as far as the image reaches.
    """
    limits, method = Volume(**settings["volume"]), settings["mask"]
    image = _without_padding(reading, limits.hu_min)
    whole = frame_of(image, frame.spacing_mm, frame.axes)

    def hu_on(grid: Grid) -> np.ndarray:
        values = image_on_grid(image, grid, outside=limits.hu_min)
        return np.clip(np.rint(values, out=values), limits.hu_min, limits.hu_max, out=values).astype(np.int16)

    if settings["mask_image"] or method["method"] == "lungmask":
        if settings["mask_image"]:
            labels = masks.given_labels(Path(settings["mask_image"]), machine.max_voxels)
        else:
            labels = lungmask_labels(
                image, method["model"], machine.weights, machine.device, machine.memory_gb
            )
        try:
            grid = whole.part_around(box_of_labels(labels), frame.margin_voxels)
        except ValueError as error:
            raise ScanError(*masks.ELSEWHERE) from error
        hu, mask = hu_on(grid), image_on_grid(labels, grid, outside=0, labels=True).astype(np.uint8)
        if settings["mask_image"]:
            masks.check_given(labels, mask, hu, grid)
            return hu, mask, grid, mask_doubts(mask, hu, grid)
        return hu, mask, grid, []
    coarse_hu, coarse = overview(image, frame.axes, limits.hu_min)
    rough = threshold_mask(coarse_hu, coarse)
    box = np.stack(masks.lung_box(rough, margin=1)).astype(float)
    grid = whole.part_around(coarse.to_points(box), frame.margin_voxels)
    hu = hu_on(grid)
    return hu, sharpen(rough, coarse, hu, grid), grid, mask_doubts(rough, coarse_hu, coarse)


def box_of_labels(labels: Any) -> np.ndarray:
    """(8, 3) corners x, y, z in LPS mm of the box, along a SimpleITK image's own axes, of what is not 0.

    Raises:
        ScanError: everything is 0.
    """
    import SimpleITK as sitk

    low, high = masks.lung_box(sitk.GetArrayViewFromImage(labels), margin=0)
    corners = np.array(list(product(*zip(low[::-1] - 0.5, high[::-1] - 0.5, strict=True))))  # i, j, k
    steps = np.array(labels.GetDirection()).reshape(3, 3) * labels.GetSpacing()
    return corners @ steps.T + labels.GetOrigin()


def _without_padding(reading: Reading, hu_min: int) -> Any:
    """The image; padding holds the lowest value, so that it does not bleed into what lies beside it."""
    import SimpleITK as sitk

    return reading.image if reading.padding_hu is None else sitk.Clamp(reading.image, lowerBound=hu_min)
