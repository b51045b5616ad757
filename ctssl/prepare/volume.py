"""Reading a scan in any common format and putting it on the axes and spacing of the atlas."""

from pathlib import Path
from typing import Any

import numpy as np

from ctssl.errors import ScanError
from ctssl.prepare.dicom import slices
from ctssl.prepare.grid import Grid, covering_grid

_MAX_EXTENT_MM = 3000.0  # whole-body scans stay below

_FORMATS = "NIfTI (.nii, .nii.gz), NRRD, MHA/MHD or a folder of DICOM slices"


def read_image(path: Path, max_voxels: int) -> Any:
    """A SimpleITK image of dimension 3 with one finite value a voxel.

    Raises:
        ScanError: missing, unreadable, incomplete, not a volume, or larger than `max_voxels`.
    """
    import SimpleITK as sitk

    if not path.exists():
        raise ScanError(
            f"the image {path} does not exist", "correct the path in scans.csv or restore the file"
        )
    try:
        files = slices(path) if path.is_dir() else [str(path)]
        _check_header(files, max_voxels)
        image = sitk.ReadImage(files if path.is_dir() else files[0])
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ScanError(f"the image cannot be read: {reason}", f"give {_FORMATS}") from error
    if path.name.lower().endswith((".nii", ".nii.gz")):
        _check_nifti(path)
    elif "float" in image.GetPixelIDTypeAsString():
        _check_finite(sitk.GetArrayViewFromImage(image))
    _check_direction(np.array(image.GetDirection()).reshape(3, 3))
    return image


def image_on_grid(image: Any, grid: Grid, *, outside: float, labels: bool = False) -> np.ndarray:
    """(z, y, x) values of a SimpleITK image at the grid's voxels: linear float32, or nearest for labels."""
    import SimpleITK as sitk

    moved = sitk.Resample(
        image,
        grid.size,
        sitk.Transform(),
        sitk.sitkNearestNeighbor if labels else sitk.sitkLinear,
        grid.origin_mm,
        (grid.spacing_mm,) * 3,
        grid.direction.ravel().tolist(),
        outside,
        sitk.sitkUnknown if labels else sitk.sitkFloat32,  # integers would be cut off, not rounded
    )
    return sitk.GetArrayFromImage(moved)


def frame_of(image: Any, spacing_mm: float, axes: str) -> Grid:
    """The grid along the atlas's axes that covers a SimpleITK image."""
    size = np.array(image.GetSize())
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in size], indexing="ij")).reshape(3, -1).T
    direction = np.array(image.GetDirection()).reshape(3, 3)
    points = corners * np.array(image.GetSpacing()) @ direction.T + np.array(image.GetOrigin())
    return covering_grid(points, spacing_mm, axes)


def check_hu(hu: np.ndarray) -> None:
    """Nothing, when the values look like Hounsfield units of a body in air.

    Raises:
        ScanError: with the range that was found.
    """
    low, middle, high = np.percentile(hu[::2, ::2, ::2], (1, 50, 99.5))
    if low > -500 or high < -100:
        raise ScanError(
            f"the values do not look like Hounsfield units: 1 % lie below {low:.0f}, half below "
            f"{middle:.0f}, 0.5 % above {high:.0f}, where a chest CT has air near -1000 and tissue near 50",
            "apply the rescale slope and intercept once when exporting, and give CT, not a mask or an MR",
        )


def _check_header(files: list[str], max_voxels: int) -> None:
    """Nothing, when the header promises a volume of possible size. Reads no voxels."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(files[0])
    reader.ReadImageInformation()
    size, spacing, components = reader.GetSize(), reader.GetSpacing(), reader.GetNumberOfComponents()
    if len(files) > 1:
        size, spacing = (*size[:2], len(files)), spacing[:2]
    if len(size) != 3 or components != 1:
        raise ScanError(
            f"the image has {len(size)} dimensions and {components} values a voxel, a scan has 3 and 1",
            "give one CT volume",
        )
    if min(size) < 8:
        raise ScanError(f"the image has only {min(size)} voxels along one axis", "give a whole scan")
    if np.prod(size, dtype=float) > max_voxels:
        raise ScanError(
            f"the image has {' x '.join(map(str, size))} voxels, more than limits.max_voxels ({max_voxels})",
            "raise limits.max_voxels if the scan is really this large",
        )
    extent_mm = [n * step for n, step in zip(size, spacing, strict=False)]
    if max(extent_mm) > _MAX_EXTENT_MM:
        raise ScanError(
            f"the image measures {max(extent_mm):.0f} mm along one axis, more than any scanner sees",
            "correct the spacing in its header; is it in mm?",
        )


def _check_nifti(path: Path) -> None:
    """Nothing, when all voxels are in the file: ITK reads those that are missing, or NaN, as 0 (seen)."""
    import zlib

    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        stored: Any = nibabel.load(path)
        values = stored.dataobj.get_unscaled()
    except (EOFError, OSError, zlib.error, ImageFileError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the machine's fault
        reason = str(error).splitlines()[0]
        raise ScanError(f"the image file is damaged: {reason}", "copy or export it again") from error
    if np.issubdtype(values.dtype, np.floating):
        _check_finite(values)


def _check_finite(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ScanError("the image holds values that are not finite", "export the scan again")


def _check_direction(direction: np.ndarray) -> None:
    fault = np.abs(direction.T @ direction - np.eye(3)).max()
    if not fault < 1e-3:
        raise ScanError(
            f"the image's axes are not at right angles (off by {fault:.2g})",
            "a tilted gantry? Straighten the scan when exporting it (dcm2niix does)",
        )
