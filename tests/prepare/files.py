"""Image files with chosen values and places, written by libraries or by hand."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk

from ctssl.prepare.geometry import Place

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_of(place: Place) -> np.ndarray:
    """(4, 4) as NIfTI has it: indices i, j, k to points in RAS mm."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = place.steps_mm, place.origin_mm
    return TO_RAS @ affine


def write_nifti(path: Path, values: np.ndarray, place: Place, **header: Any) -> Path:
    """An array (z, y, x), by nibabel."""
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine_of(place), dtype=values.dtype)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def write_itk(path: Path, values: np.ndarray, place: Place, *, packed: bool = True) -> Path:
    """An array (z, y, x), by SimpleITK, which writes left-handed and sheared directions as they are."""
    image = sitk.GetImageFromArray(values)
    image.SetOrigin(place.origin_mm.tolist())
    image.SetSpacing(place.spacing_mm.tolist())
    image.SetDirection(place.directions.ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=packed)
    return path


def write_nrrd(
    path: Path,
    values: np.ndarray,
    place: Place,
    space: str = "left-posterior-superior",
    fields: dict[str, Any] | None = None,
) -> Path:
    """An array (z, y, x), by hand: no library decides what the header says."""
    signs = {"left-posterior-superior": (1, 1, 1), "right-anterior-superior": (-1, -1, 1), "LAS": (1, -1, 1)}
    steps, origin = place.steps_mm.T * signs[space], place.origin_mm * signs[space]
    lines = {
        "type": "short",
        "dimension": 3,
        "space": space,
        "sizes": " ".join(map(str, values.shape[::-1])),
        "space directions": " ".join("({:.8f},{:.8f},{:.8f})".format(*step) for step in steps),
        "endian": "little",
        "encoding": "raw",
        "space origin": "({:.8f},{:.8f},{:.8f})".format(*origin),
    } | (fields or {})
    text = "".join(f"{name}: {value}\n" for name, value in lines.items() if value is not None)
    path.write_bytes(b"NRRD0004\n" + text.encode() + b"\n" + values.astype("<i2").tobytes())
    return path


def skewed(place: Place, size: tuple[int, ...], change: np.ndarray) -> Place:
    """The same centre of an image of this size (i, j, k), other steps."""
    steps = place.steps_mm + change
    half = (np.array(size) - 1) / 2
    return Place(place.origin_mm + (place.steps_mm - steps) @ half, steps)
