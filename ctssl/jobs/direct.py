"""Single files, without a workflow: mask the lungs of one scan, register one mask to another."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ctssl.config.prepare import Quality, Registration
from ctssl.errors import ConfigError, ScanError
from ctssl.log import tell
from ctssl.prepare.grid import LEFT, RIGHT
from ctssl.prepare.machine import Machine
from ctssl.prepare.mask import check_mask, check_sides, lung_box

if TYPE_CHECKING:
    from ctssl.prepare.lungs import Lungs

_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
WARPED, QUALITY = "warped_mask.nii.gz", "quality.json"
_SIDES = ({RIGHT: RIGHT, LEFT: LEFT}, {50: RIGHT, 100: LEFT})
_GRID_MM = 1.0
_LOOK_MM = 4.0
_LEAST_L = 0.05  # of lung; less is no mask of lungs


def mask(image: Path, out: Path, section: dict[str, Any], machine: Machine) -> None:
    """Write the lung mask of one scan on the scan's own voxels: 1 right, 2 left, 0 elsewhere.

    Args:
        image: any file or DICOM folder that a manifest may name.
        out: file to write; its ending says the format.
        section: `mask`, as in the settings of the stage volume.
        machine: limits and devices.

    Raises:
        ScanError: the scan cannot be read or shows no lungs.
        ConfigError: `out` cannot be written.
    """
    import SimpleITK as sitk

    from ctssl.prepare.chest import native_mask

    endings = [ending for ending in _ENDINGS if out.name.lower().endswith(ending)]
    if not endings:
        raise ConfigError(f"a mask cannot be written as {out.name}", f"end its name in {', '.join(_ENDINGS)}")
    if out.is_dir() or out.resolve() == image.resolve():
        what = "a folder" if out.is_dir() else "the scan itself"
        raise ConfigError(f"the mask cannot be written: {out} is {what}", "name another file")
    with _folder(out.parent) as scratch:
        labels, numbers = native_mask(image, section, machine)
        for note in numbers["notes"]:
            tell(f"note: {note}")
        whole = scratch / f"mask{endings[0]}"
        sitk.WriteImage(labels, str(whole), useCompression=True)
        whole.replace(out)  # at once, so that no half a mask is left
    tell(f"{out}: {numbers['right_l']} l right lung, {numbers['left_l']} l left lung")


def register(
    mask: Path, atlas: Path, out: Path, settings: Registration, limits: Quality, max_voxels: int
) -> dict[str, Any]:
    """What was measured, as written to quality.json in a folder, with transforms and the warped mask.

    seconds (of the registration, its transforms written), total_seconds (with reading, the warped mask and
    its Dice), threads, dice_right and dice_left (null for a lung that
    is missing), min_jacobian and what else the registration says; verdict and reasons. warped_mask.nii.gz is
    the mask, its labels as they were, on the voxels of the atlas's file; Dice is counted on it. Of lungs that
    the field of view cuts, dice_* is that of the part that is shown, and whole_dice_* counts all.

    Args:
        mask: lungs of a scan, labels 1 right and 2 left, or 50 and 100.
        atlas: lungs of the atlas, likewise.
        out: folder, made when it is not there.
        settings: of the registration.
        limits: of quality.
        max_voxels: files that promise more are refused.

    Raises:
        ScanError: a file cannot be read or holds other labels; the lungs cannot be registered.
        ConfigError: `out` cannot be written.
    """
    import SimpleITK as sitk

    from ctssl.prepare.quality import verdict

    if (out / WARPED).resolve() in (mask.resolve(), atlas.resolve()):
        raise ConfigError(
            f"{out / WARPED} is one of the masks, and would be written over", "name another --out"
        )
    start = time.monotonic()
    (moving, ours), (fixed, theirs) = (_read(path, max_voxels) for path in (mask, atlas))
    scan, target = _lungs(moving, ours, mask.name), _lungs(fixed, theirs, atlas.name)
    with _folder(out):
        began = time.monotonic()
        numbers, to_scan = _aligned(scan, target, settings, out)
        seconds = time.monotonic() - began
    warped = _warped(moving, fixed, to_scan)
    sitk.WriteImage(warped, str(out / WARPED))
    whole = "whole_" if numbers["cut"] else ""  # of cut lungs the registration compares what is shown
    numbers |= {
        f"{whole}{key}": value for key, value in _dice((warped, ours), (fixed, theirs), numbers).items()
    }
    judged, reasons = verdict(numbers, limits)
    for reason in reasons:
        tell(f"{judged}: {reason}")
    numbers |= {"verdict": judged, "reasons": reasons}
    times = {"seconds": round(seconds, 2), "total_seconds": round(time.monotonic() - start, 2)}
    numbers = {**times, "threads": settings.threads, **numbers}
    (out / QUALITY).write_text(json.dumps(numbers, indent=1) + "\n")
    return numbers


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """A scratch folder in a folder, which is made where it is missing.

    Raises:
        ConfigError: it cannot be written into.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        scratch = TemporaryDirectory(dir=path, prefix=".ctssl-")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", "name another place") from error
    with scratch as name:
        yield Path(name)


def read_lungs(path: Path, max_voxels: int) -> "Lungs":
    """The lungs in a mask's file, on a grid of 1 mm (`ctssl.prepare.lungs.Lungs`).

    Raises:
        ScanError: it cannot be read, or holds other labels than 1 and 2, or 50 and 100.
    """
    return _lungs(*_read(path, max_voxels), path.name)


def _read(path: Path, max_voxels: int) -> tuple[Any, dict[int, int]]:
    """A SimpleITK label image, and label -> RIGHT or LEFT."""
    from ctssl.prepare.reading import read_labels

    try:
        image = read_labels(path, max_voxels)
    except ScanError as error:
        raise type(error)(f"the mask {path.name} cannot be used: {error.message}", error.advice) from error
    return image, _sides(image, path.name)


def _sides(image: Any, name: str) -> dict[int, int]:
    """File's label -> RIGHT or LEFT.

    Raises:
        ScanError: the labels are neither 1 and 2 nor 50 and 100.
    """
    import SimpleITK as sitk

    found = set(np.unique(sitk.GetArrayViewFromImage(image)).tolist()) - {0}
    for sides in _SIDES:
        if found and found <= set(sides):
            return sides
    raise ScanError(
        f"the mask {name} holds the labels {', '.join(f'{v:g}' for v in sorted(found)[:8]) or 'none'}",
        "a lung mask has 0 outside, and 1 right and 2 left, or 50 right and 100 left",
    )


def _lungs(image: Any, sides: dict[int, int], name: str) -> "Lungs":
    """The mask on a grid of 1 mm along its own axes, cut to the lungs as far as the image reaches."""
    from ctssl.prepare.chest import box_of_labels
    from ctssl.prepare.lungs import Lungs
    from ctssl.prepare.volume import frame_of, image_on_grid, seen_on_grid

    grid = frame_of(image, _GRID_MM, "LPS").part_around(box_of_labels(image), margin_voxels=2)
    values = image_on_grid(image, grid, outside=0, labels=True)
    labels = np.zeros(grid.shape, np.uint8)
    for value, side in sides.items():
        labels[values == value] = side
    check_sides(labels, grid, f"the mask {name}")
    check_mask(labels, grid.spacing_mm, _LEAST_L)
    return Lungs(labels, grid, seen=seen_on_grid(image, None, grid))


def _aligned(scan: "Lungs", target: "Lungs", settings: Registration, out: Path) -> tuple[dict[str, Any], Any]:
    """Numbers, and the SimpleITK transform from atlas to scan."""
    from ctssl.prepare.registration import register as align
    from ctssl.prepare.transforms import composite

    middle = target.grid.corners_mm().mean(0, keepdims=True)
    aligned = align(scan, target, middle, settings, out)
    return dict(aligned.numbers), composite([aligned.files["warp"], aligned.files["affine"]])


def _warped(moving: Any, fixed: Any, to_scan: Any) -> Any:
    """The moving mask on the voxels of the fixed one. Only the box that it fills is looked up in full."""
    import SimpleITK as sitk

    step = [max(1, int(_LOOK_MM / spacing)) for spacing in fixed.GetSpacing()]
    thin = sitk.Shrink(fixed, step)
    seen = sitk.GetArrayFromImage(sitk.Resample(moving, thin, to_scan, sitk.sitkNearestNeighbor, 0))
    out = sitk.Image(fixed.GetSize(), moving.GetPixelID())
    out.CopyInformation(fixed)
    if not seen.any():
        return out
    low, high = lung_box(seen, margin=2)
    first = [int(n) * s for n, s in zip(low[::-1], step, strict=True)]  # i, j, k
    size = [
        min(int(n) * s, whole) - f
        for n, s, whole, f in zip(high[::-1], step, fixed.GetSize(), first, strict=True)
    ]
    box = sitk.RegionOfInterest(fixed, size, first)
    part = sitk.Resample(moving, box, to_scan, sitk.sitkLabelLinear, 0)
    return sitk.Paste(out, part, part.GetSize(), [0, 0, 0], first)


def _dice(
    warped: tuple[Any, dict[int, int]], fixed: tuple[Any, dict[int, int]], numbers: dict[str, Any]
) -> dict[str, float | None]:
    """dice_right and dice_left of two label images on one grid; None of a lung that is missing."""
    import SimpleITK as sitk

    out: dict[str, float | None] = {}
    for name, side in (("right", RIGHT), ("left", LEFT)):
        if numbers[f"dice_{name}"] is None:
            out[f"dice_{name}"] = None
            continue
        ours, theirs = (
            sitk.GetArrayViewFromImage(image) == next(value for value in sides if sides[value] == side)
            for image, sides in (warped, fixed)
        )
        total = np.count_nonzero(ours) + np.count_nonzero(theirs)
        out[f"dice_{name}"] = round(2 * int(np.count_nonzero(ours & theirs)) / int(total), 4)
    return out
