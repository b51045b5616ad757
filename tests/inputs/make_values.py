"""How values are changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from inputs.good import any_format, hu, itk, lungs, patched, place, size
from prepare.balls import points_mm
from prepare.files import affine_of, write_nifti

from ctssl.prepare.geometry import Place

_SLOPE = 112  # byte of a NIfTI header
FORMATS = ("a.nii", "a.nii.gz", "a.nrrd", "a.mha")


def holding(change: Callable[[np.ndarray], np.ndarray], name: str = "a.nii") -> Callable[[Path], Path]:
    """The good chest's values, changed."""
    return lambda folder: any_format(folder / name, change(hu()))


def one_voxel(value: float, name: str = "a.nii", kind: str = "f4") -> Callable[[Path], Path]:
    def changed(values: np.ndarray) -> np.ndarray:
        out = values.astype(kind)
        out[30, 30, 40] = value
        return out

    return holding(changed, name)


def sloped(
    slope: float, intercept: float, stored: Callable[[np.ndarray], np.ndarray], kind: Any = np.int16
) -> Callable[[Path], Path]:
    """A NIfTI with this slope and intercept in its header."""

    def make(folder: Path) -> Path:
        image = nibabel.Nifti1Image(
            stored(hu().astype(float)).astype(kind).transpose(2, 1, 0), affine_of(place())
        )
        nibabel.save(image, folder / "a.nii")
        order = image.header.endianness
        return patched(folder / "a.nii", _SLOPE, np.array([slope, intercept], f"{order}f4"))

    return make


def padded(value: int) -> Callable[[Path], Path]:
    def changed(values: np.ndarray) -> np.ndarray:
        out = values.copy()
        rim = np.hypot(*np.meshgrid(*(np.linspace(-1, 1, n) for n in out.shape[1:]), indexing="ij")) > 1.1
        out[:, rim] = value
        return out

    return holding(changed)


def part(low: int, high: int, axis: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        where = (slice(None),) * axis + (slice(low, high),)
        origin = place().origin_mm + place().steps_mm[:, 2 - axis] * low
        return any_format(folder / "a.nii", hu()[where], Place(origin, place().steps_mm))

    return make


def right_lung_alone() -> tuple[int, int, int]:
    """From where to where along x the right lung and the spine lie."""
    columns = np.flatnonzero((lungs() == 1).any((0, 1)))
    return max(columns[0] - 6, 0), (np.flatnonzero((lungs() == 2).any((0, 1)))[0]), 2


def body(
    inside: Callable[[np.ndarray], np.ndarray], radii: tuple[float, float, float]
) -> Callable[[Path], Path]:
    """Another part of the body: an ellipsoid of muscle in fat in air, with something in it."""

    def make(folder: Path) -> Path:
        middle = Place(-place().steps_mm @ (np.array(size()) - 1) / 2, place().steps_mm)
        at = points_mm(size(), middle)
        values = np.full(hu().shape, -1000.0)
        for scale, value in ((1.0, -105), (0.9, 45)):
            values[((at / np.array(radii) / scale) ** 2).sum(-1) < 1] = value
        values = inside(at, values) + np.random.default_rng(0).normal(0, 9, hu().shape)
        return write_nifti(folder / "a.nii", np.rint(values).astype(np.int16), middle)

    return make


def head(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    r = ((at / (70, 85, 100)) ** 2).sum(-1)
    values = np.where((r < 1) & (r > 0.85), 1200, values)  # the skull
    values = np.where(r < 0.85, 35, values)
    for x in (-22, 22):  # sinuses
        values = np.where(np.linalg.norm(at - (x, -55, -30), axis=-1) < 14, -990, values)
    return values


def belly(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    for x, y, z in ((-60, -40, 20), (10, -50, -60), (70, -35, 0)):  # gas in the bowel
        values = np.where(np.linalg.norm(at - (x, y, z), axis=-1) < 18, -990, values)
    return values


def colon(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Filled with gas for a colonography."""
    for x in (-90, 90):
        values = np.where((np.hypot(at[..., 0] - x, at[..., 1]) < 32) & (abs(at[..., 2]) < 120), -990, values)
    return values


def bottle(at: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.where(values > -500, 0, values)


def mr(values: np.ndarray) -> np.ndarray:
    """Air dark, fat bright, muscle between, lungs dark; Rician noise."""
    bright = np.interp(
        values, [-1000, -700, -200, -105, 0, 45, 200, 1000], [0, 20, 600, 900, 350, 300, 250, 20]
    )
    a, b = np.random.default_rng(0).normal(0, 12, (2, *values.shape))
    return np.hypot(bright + a, b).astype(np.int16)


def itk_swapped(path: Path) -> Path:
    raw = itk(path, packed=False).read_bytes()
    path.write_bytes(raw[: -hu().nbytes] + hu().astype(">i2").tobytes())
    return path
