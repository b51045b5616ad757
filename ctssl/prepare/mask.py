"""Right (1) and left (2) lung of a scan, as an array z, y, x on the volume's grid."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ctssl.errors import ScanError, WeightsError
from ctssl.prepare.grid import LEFT, RIGHT, Grid
from ctssl.prepare.volume import image_on_grid, read_image

_WORK_MM = 2.0  # masks by threshold are made on a grid about this fine
_AIR_HU = -400
_SHELL_MM = 3.0  # what is thinner than about twice this is no body
_TRACHEA_HU = -900
_TRACHEA_CM2 = 8.0  # largest cross-section of a trachea that still counts as one


def threshold_mask(hu: np.ndarray, grid: Grid) -> np.ndarray:
    """(z, y, x) uint8 lungs by thresholds and shape, without weights.

    Air inside the body that is not joined to the outside, less trachea, split into right and left, closed.

    Args:
        hu: (z, y, x) on `grid`, whose axes must run along L or R, P or A, S or I in this order.

    Raises:
        ScanError: no lungs were found.
    """
    step = max(1, int(_WORK_MM / grid.spacing_mm))
    coarse = hu[::step, ::step, ::step].astype(np.float32)
    voxel_mm = grid.spacing_mm * step
    air = _inner_air(coarse < _AIR_HU) & _within_body(coarse >= _AIR_HU, voxel_mm)
    air &= ~_trachea(coarse, air, voxel_mm, from_top=grid.axes[2] == "S")
    lungs = _split(_large_parts(air, voxel_mm), voxel_mm)
    if grid.axes[0] == "R":
        lungs = np.where(lungs > 0, 3 - lungs, 0)
    out = np.zeros(coarse.shape, np.uint8)
    for label in (RIGHT, LEFT):
        out[_close(lungs == label, voxel_mm) & (out == 0)] = label
    if not out.any():
        raise ScanError(_NO_LUNGS, _NO_LUNGS_ADVICE)
    return _to_shape(out, hu.shape, step)


def lungmask_mask(image: Any, grid: Grid, model: str, weights: Path | None, device: str) -> np.ndarray:
    """(z, y, x) uint8 lungs by the lungmask package, run on the native SimpleITK image.

    Raises:
        WeightsError: the network's weights cannot be had; names both ways out.

    Source: Hofmanninger et al. 2020, JoHof/lungmask.
    """
    import pickle
    import warnings

    import SimpleITK as sitk

    with warnings.catch_warnings():  # the package silences UserWarning for everybody
        from lungmask import LMInferer
    try:
        inferer = LMInferer(
            modelname=model,
            modelpath=None if weights is None else str(weights),
            force_cpu=device == "cpu",
            tqdm_disable=True,
        )
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, *_NO_STATE_DICT) as error:
        reason = str(error) or type(error).__name__
        where = f"the file mask.weights ({weights})" if weights else "their download"
        raise WeightsError(
            f"the lungmask weights {model} could not be had from {where}: {reason}",
            "either download the .pth file named at https://github.com/JoHof/lungmask/releases and set "
            "mask.weights to its path, or set mask.method: threshold, which needs no weights",
        ) from error
    native = sitk.GetImageFromArray(inferer.apply(image))
    native.CopyInformation(image)
    return image_on_grid(native, grid, outside=0, labels=True).astype(np.uint8)


def given_mask(path: Path, grid: Grid, max_voxels: int) -> np.ndarray:
    """(z, y, x) uint8 lungs from the manifest's mask column: 1 right, 2 left.

    Raises:
        ScanError: unreadable, or other labels than 0, 1, 2.
    """
    mask = image_on_grid(read_image(path, max_voxels), grid, outside=0, labels=True)
    labels = np.unique(mask)
    if not np.isin(labels, (0, RIGHT, LEFT)).all():
        raise ScanError(
            f"the given mask holds the values {', '.join(f'{v:g}' for v in labels[:8])}",
            "a mask has 0 outside, 1 in the right lung and 2 in the left",
        )
    return mask.astype(np.uint8)


def check_mask(mask: np.ndarray, spacing_mm: float, min_lung_l: float) -> dict[str, float]:
    """Litres of each lung, by name.

    Raises:
        ScanError: less lung than `min_lung_l` altogether.
    """
    litres = [np.count_nonzero(mask == label) * spacing_mm**3 / 1e6 for label in (RIGHT, LEFT)]
    if sum(litres) < min_lung_l:
        raise ScanError(f"{_NO_LUNGS}: {sum(litres):.2f} l where {min_lung_l} l are needed", _NO_LUNGS_ADVICE)
    return {"right_l": round(litres[0], 3), "left_l": round(litres[1], 3)}


_NO_STATE_DICT = (IndexError, AttributeError, TypeError)  # what the package trips over in a strange file

_NO_LUNGS = "no lungs were found in the scan"
_NO_LUNGS_ADVICE = "is it a chest CT in Hounsfield units? If so, give a mask in the manifest's mask column"


def _inner_air(air: np.ndarray) -> np.ndarray:
    """Air without what is joined to the four sides of the scan (front, back, right, left).

    Joined slice by slice: lungs that the lowest or highest slice cuts stay.
    """
    inner = np.zeros_like(air)
    for number, plane in enumerate(air):
        labels, _ = ndimage.label(plane)
        border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        inner[number] = plane & ~np.isin(labels, border)
    return inner


def _within_body(tissue: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) bool: seen along rows and columns, the body lies on at least three of the four sides.

    So the foam in a table is left out, which a thin shell parts from the air around it.
    """
    thick = ndimage.binary_opening(tissue, iterations=max(1, round(_SHELL_MM / voxel_mm)))
    labels, _ = ndimage.label(thick)
    size = np.bincount(labels.ravel())
    size[0] = 0
    body = (labels == size.argmax()) & thick
    sides = np.zeros(tissue.shape, np.uint8)
    for axis in (1, 2):
        for view in (body, np.flip(body, axis)):
            beyond = np.logical_or.accumulate(view, axis)
            sides += beyond if view is body else np.flip(beyond, axis)
    return sides >= 3


def _trachea(hu: np.ndarray, air: np.ndarray, voxel_mm: float, *, from_top: bool) -> np.ndarray:
    """Windpipe and main bronchi: dark air grown downward from the top while it stays narrow."""
    dark = air & (ndimage.gaussian_filter(hu, 0.5) < _TRACHEA_HU)
    order = range(len(air) - 1, -1, -1) if from_top else range(len(air))
    limit = _TRACHEA_CM2 * 100 / voxel_mm**2
    found = np.zeros_like(air)
    before: np.ndarray | None = None
    for number in order:
        labels, count = ndimage.label(dark[number])
        if count == 0:
            before = None if before is None or not before.any() else before & False
            continue
        area = np.bincount(labels.ravel(), minlength=count + 1)
        keep = (area >= 40 / voxel_mm**2) & (area <= limit)
        keep[0] = False
        if before is None or not before.any():
            keep &= _central(labels, count)
        else:
            keep &= np.isin(np.arange(count + 1), np.unique(labels[before]))
        before = keep[labels]
        found[number] = before
    wide = round(4 / voxel_mm)
    return air & ndimage.binary_dilation(found, iterations=max(1, wide)) if found.any() else found


def _central(labels: np.ndarray, count: int) -> np.ndarray:
    """(count + 1,) bool: parts whose centre lies in the middle fifth from right to left."""
    centres = ndimage.center_of_mass(labels > 0, labels, range(1, count + 1))
    width = labels.shape[1]
    return np.array([False] + [abs(x - width / 2) < width / 10 for _, x in centres])


def _large_parts(air: np.ndarray, voxel_mm: float) -> np.ndarray:
    """The parts that may be lung: at least a tenth of the largest one."""
    labels, count = ndimage.label(air)
    if count == 0:
        return air
    size = np.bincount(labels.ravel())
    size[0] = 0
    return (size >= max(size.max() / 10, 5e4 / voxel_mm**3))[labels]


def _split(air: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) uint8: 1 toward lower x, 2 toward higher x, parted where the lungs touch.

    Eroded until two large parts stand apart; every voxel then joins the nearer part.
    """
    if not air.any():
        return air.astype(np.uint8)
    depth = ndimage.distance_transform_edt(air, sampling=voxel_mm)
    middle = air.shape[2] / 2
    for erosion_mm in (0.0, 2.0, 4.0, 6.0, 9.0, 12.0, 16.0):
        labels, count = ndimage.label(depth > erosion_mm)
        size = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        large = [k + 1 for k in np.argsort(size)[::-1] if size[k] > 0.15 * size.sum()]
        if len(large) >= 2:
            break
    centres = {k: float(ndimage.center_of_mass(labels == k)[2]) for k in large}
    if len(large) >= 2:
        middle = (min(centres.values()) + max(centres.values())) / 2
    seeds = np.zeros(air.shape, np.uint8)
    for k in large:
        seeds[labels == k] = RIGHT if centres[k] < middle else LEFT
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    return np.where(air, seeds[tuple(nearest)], 0).astype(np.uint8)


def _close(lung: np.ndarray, voxel_mm: float) -> np.ndarray:
    """The lung with vessels and holes closed."""
    if not lung.any():
        return lung
    pad = round(10 / voxel_mm)
    padded = np.pad(lung, pad, mode="edge")
    grown = ndimage.distance_transform_edt(~padded, sampling=voxel_mm) <= 8
    closed = ndimage.distance_transform_edt(grown, sampling=voxel_mm) > 8
    closed = closed[tuple(slice(pad, -pad) for _ in range(3))] | lung
    return np.stack([ndimage.binary_fill_holes(plane) for plane in closed])


def _to_shape(mask: np.ndarray, shape: tuple[int, ...], step: int) -> np.ndarray:
    """The mask of every step-th voxel on the full grid, nearest."""
    if step == 1:
        return mask
    index = [
        np.minimum((np.arange(n) + step // 2) // step, m - 1) for n, m in zip(shape, mask.shape, strict=True)
    ]
    return mask[np.ix_(*index)]


def lung_box(mask: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """First and past-the-last voxel (3,) z, y, x of the lungs' box with a margin, within the array."""
    box = ndimage.find_objects((mask > 0).astype(np.uint8))[0]
    low = np.array([max(b.start - margin, 0) for b in box])
    high = np.array([min(b.stop + margin, n) for b, n in zip(box, mask.shape, strict=True)])
    return low, high
