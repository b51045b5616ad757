"""Small valid images of every format, and what a reading of them promises."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.kind import MANY, Kind, Part
from prepare.balls import body, straight
from prepare.dicom import write_slices

SIZE, SPACING_MM = (20, 18, 22), (10.0, 10.0, 12.0)
SLICES, SLICE_MM = 12, 22.0


def _nifti(folder: Path, name: str) -> None:
    import nibabel

    place = straight(SIZE, SPACING_MM)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = place.steps_mm, place.origin_mm
    values = body(place, SIZE).transpose(2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1, -1, 1, 1]) @ affine), folder / name)


def _itk(folder: Path, name: str, packed: bool = False, labels: bool = False) -> None:
    import SimpleITK as sitk

    place = straight(SIZE, SPACING_MM)
    values = body(place, SIZE)
    if labels:
        right = (np.arange(SIZE[0]) < SIZE[0] // 2)[None, None]
        values = np.where(values < -700, np.where(right, 1, 2), 0).astype(np.uint8)
    image = sitk.GetImageFromArray(values)
    image.SetOrigin(place.origin_mm.tolist())
    image.SetSpacing(place.spacing_mm.tolist())
    sitk.WriteImage(image, str(folder / name), useCompression=packed)


def _dicom(folder: Path) -> None:
    size = (*SIZE[:2], SLICES)
    place = straight(size, (*SPACING_MM[:2], SLICE_MM))
    write_slices(folder / "scan", body(place, size), place)


def _scan(folder: Path, name: str) -> None:
    """A scan, read; what a Reading promises holds whatever the file says."""
    import SimpleITK as sitk

    from ctssl.prepare.reading import read_scan

    reading = read_scan(folder / name, MANY)
    _check_image(reading.image)
    values = sitk.GetArrayViewFromImage(reading.image)
    assert values.dtype in (np.int16, np.float32)
    assert np.isfinite(values).all()
    assert values.min() < values.max()


def _check_image(image: Any) -> None:
    spacing, direction = np.array(image.GetSpacing()), np.array(image.GetDirection()).reshape(3, 3)
    assert image.GetDimension() == 3
    assert min(image.GetSize()) >= 8
    assert np.isfinite([*spacing, *image.GetOrigin()]).all()
    assert spacing.min() > 0
    assert (spacing * image.GetSize()).max() < 6000
    assert np.allclose(direction.T @ direction, np.eye(3), atol=1e-6)


def _mask(folder: Path, name: str) -> None:
    import SimpleITK as sitk

    from ctssl.prepare.mask import given_labels

    image = given_labels(folder / name, MANY)
    _check_image(image)
    assert set(np.unique(sitk.GetArrayViewFromImage(image))) <= {0, 1, 2}


def image_kinds() -> dict[str, Kind]:
    """Scans and masks."""
    nrrd = partial(Part, head=500, text=True)
    meta = partial(Part, head=300, text=True)

    def kind(make: Any, name: str, *parts: Part, read: Any = _scan, **options: Any) -> Kind:
        return Kind(
            partial(make, name=name, **options), parts or (Part(name, 352),), partial(read, name=name)
        )

    return {
        "nii": kind(_nifti, "a.nii"),
        "nii.gz packed": kind(_nifti, "a.nii.gz", Part("a.nii.gz", 64)),
        "nii.gz inside": kind(_nifti, "a.nii.gz", Part("a.nii.gz", 352, packed=True)),
        "nrrd raw": kind(_itk, "a.nrrd", nrrd("a.nrrd")),
        "nrrd gzip": kind(_itk, "a.nrrd", nrrd("a.nrrd"), packed=True),
        "nhdr": kind(_itk, "a.nhdr", nrrd("a.nhdr"), nrrd("a.nhdr"), Part("a.raw", 0)),
        "mha raw": kind(_itk, "a.mha", meta("a.mha")),
        "mha packed": kind(_itk, "a.mha", meta("a.mha"), packed=True),
        "mhd raw": kind(_itk, "a.mhd", meta("a.mhd"), meta("a.mhd"), Part("a.raw", 0)),
        "mhd zraw": kind(_itk, "a.mhd", meta("a.mhd"), meta("a.mhd"), Part("a.zraw", 64), packed=True),
        "mask nii.gz": kind(
            _itk, "m.nii.gz", Part("m.nii.gz", 352, packed=True), read=_mask, labels=True, packed=True
        ),
        "mask nrrd": kind(_itk, "m.nrrd", nrrd("m.nrrd"), read=_mask, labels=True),
        "mask mha": kind(_itk, "m.mha", meta("m.mha"), read=_mask, labels=True, packed=True),
        "dicom": Kind(
            _dicom, (Part("scan/*", 1100), Part("scan/*", 1100, True)), partial(_scan, name="scan")
        ),
    }
