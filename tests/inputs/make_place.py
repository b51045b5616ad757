"""How sizes, spacings and directions are spoilt."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from inputs.good import any_format, hu, itk, nifti, patched, place, replaced, size
from prepare.chest import grid_of, scan, turned
from prepare.files import affine_of, skewed, write_nrrd

from ctssl.prepare.geometry import Place

PIXDIM, SFORM, QUATERN = 80, 280, 256  # bytes of a NIfTI header


def scaled(factor: float | tuple[float, float, float]) -> Place:
    """Spacings wrong by a factor; the origin too."""
    return Place(place().origin_mm * factor, place().steps_mm * factor)


def crooked(*rows: tuple[float, float, float]) -> Place:
    return skewed(place(), size(), np.array(rows))


def at(name: str, where: Callable[[], Place]) -> Callable[[Path], Path]:
    return lambda folder: any_format(folder / name, None, where())


def along(name: str, axes: str) -> Callable[[Path], Path]:
    """The chest, stored along other axes."""

    def make(folder: Path) -> Path:
        values, grid = turned(hu(), grid_of(scan(1, 0, 5.0)), axes)
        steps = grid.direction * grid.spacing_mm
        return any_format(folder / name, values, Place(np.array(grid.origin_mm), steps))

    return make


def oblique(degrees: float) -> Callable[[Path], Path]:
    """The chest, resampled onto axes that are turned about its middle."""

    def make(folder: Path) -> Path:
        image = sitk.ReadImage(str(itk(folder / "straight.mha")))
        turn = sitk.Euler3DTransform()
        turn.SetRotation(*np.radians([degrees, -degrees / 2, degrees / 3]))
        matrix = np.array(turn.GetMatrix()).reshape(3, 3)
        there = Place(np.zeros(3), matrix * place().spacing_mm)
        middle = place().origin_mm + place().steps_mm @ (np.array(size()) - 1) / 2
        origin = middle - there.steps_mm @ (np.array(size()) - 1) / 2
        moved = sitk.Resample(
            image,
            size(),
            sitk.Transform(),
            sitk.sitkLinear,
            origin.tolist(),
            image.GetSpacing(),
            matrix.ravel().tolist(),
            -1000,
        )
        sitk.WriteImage(moved, str(folder / "a.nii"))
        return folder / "a.nii"

    return make


def tilted(name: str, degrees: float) -> Callable[[Path], Path]:
    """Each slice moved along y against the one before, and the directions say so."""

    def make(folder: Path) -> Path:
        shift = round(np.tan(np.radians(degrees)) * 5.0, 6)
        there = Place(place().origin_mm, place().steps_mm + np.array([[0, 0, 0], [0, 0, shift], [0, 0, 0]]))
        values = np.full_like(hu(), -1000)
        for k, plane in enumerate(hu()):
            start = k * shift / 5.0  # voxels
            rows = np.arange(plane.shape[0]) + start
            low = np.floor(rows).astype(int)
            part = (rows - low)[:, None]
            wide = np.concatenate([plane, np.full((len(plane) + 90, plane.shape[1]), -1000)]).astype(float)
            values[k] = np.rint(wide[low] * (1 - part) + wide[low + 1] * part)
        return any_format(folder / name, values, there)

    return make


def header(name: str = "a.nii", **fields: Any) -> Callable[[Path], Path]:
    return lambda folder: nifti(folder / name, **fields)


def bytes_at(offset: int, values: Any, kind: str = "<f4") -> Callable[[Path], Path]:
    return lambda folder: patched(nifti(folder / "a.nii"), offset, np.array(values, kind).reshape(-1))


def forms(
    sform: np.ndarray | None, qform: np.ndarray | None, qfac: float | None = None
) -> Callable[[Path], Path]:
    """Two orientations in one header; None: a code of 0. Matrices are in RAS, on top of the true one."""

    def make(folder: Path) -> Path:
        image = nibabel.Nifti1Image(hu().transpose(2, 1, 0), affine_of(place()))
        for name, change in (("sform", sform), ("qform", qform)):
            affine = None if change is None else change @ affine_of(place())
            getattr(image, f"set_{name}")(affine, 0 if affine is None else 1)
        nibabel.save(image, folder / "a.nii")
        if qfac is not None:
            patched(folder / "a.nii", 76, np.array([qfac], "<f4"))
        return folder / "a.nii"

    return make


def nrrd(**fields: Any) -> Callable[[Path], Path]:
    named = {name.replace("_", " "): value for name, value in fields.items()}
    return lambda folder: write_nrrd(folder / "a.nrrd", hu(), place(), fields=named)


def meta(old: str, new: str) -> Callable[[Path], Path]:
    return lambda folder: replaced(itk(folder / "a.mha", packed=False), old.encode(), new.encode())


def part(name: str, count: int, axis: int = 0) -> Callable[[Path], Path]:
    values = (slice(None),) * axis + (slice(30, 30 + count),)
    return lambda folder: any_format(folder / name, hu()[values])


def dimensions(name: str, *more: int) -> Callable[[Path], Path]:
    """The chest in all of more dimensions."""

    def make(folder: Path) -> Path:
        if name.endswith(".nii"):
            values = hu().transpose(2, 1, 0)
            whole = np.broadcast_to(values[(...,) + (None,) * len(more)], (*values.shape, *more))
            nibabel.save(nibabel.Nifti1Image(whole, affine_of(place())), folder / name)
        else:
            sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(hu())] * more[0]), str(folder / name))
        return folder / name

    return make


def flat(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        sitk.WriteImage(sitk.GetImageFromArray(hu()[30]), str(folder / name))
        return folder / name

    return make


def many_values(name: str, kind: str) -> Callable[[Path], Path]:
    """More than a number a voxel."""

    def make(folder: Path) -> Path:
        if kind == "complex":
            nibabel.save(
                nibabel.Nifti1Image(hu().astype(np.complex64).transpose(2, 1, 0), affine_of(place())),
                folder / name,
            )
        else:
            values = np.stack([hu().clip(0, 255).astype(np.uint8 if kind == "colour" else np.int16)] * 3, -1)
            sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(folder / name))
        return folder / name

    return make


def second_version(folder: Path) -> Path:
    image = nibabel.Nifti2Image(hu().transpose(2, 1, 0), affine_of(place()))
    nibabel.save(image, folder / "a.nii.gz")
    return folder / "a.nii.gz"


def with_notes(folder: Path) -> Path:
    image = nibabel.Nifti1Image(hu().transpose(2, 1, 0), affine_of(place()))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a note" * 400))
    nibabel.save(image, folder / "a.nii")
    return folder / "a.nii"
