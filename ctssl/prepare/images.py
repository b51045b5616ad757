"""Arrays on grids to and from image files of our own: NIfTI, which is whole or an error.

ITK's NIfTI says nothing of a full disk, and reads the voxels that are missing as 0 (seen).
"""

import errno
import gzip
import os
import zlib
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from ctssl.errors import DamagedError, StoreError, is_memory
from ctssl.prepare.grid import Grid, axes_direction

_CHUNK = 1 << 24
_NIFTI = (".nii", ".nii.gz")
_HEADER_BYTES = 352  # of NIfTI in one file, as ITK writes it


def array_image(array: np.ndarray, grid: Grid) -> Any:
    """A SimpleITK image of an array (z, y, x)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetOrigin(grid.origin_mm)
    image.SetSpacing((grid.spacing_mm,) * 3)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def write_array(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Nothing; writes an array (z, y, x) with its place in space.

    Raises:
        OSError: the disk did not take all of it.
    """
    import SimpleITK as sitk

    sitk.WriteImage(array_image(array, grid), str(path))
    if path.name.endswith(_NIFTI):
        check_written(path, array.nbytes)


def check_written(path: Path, nbytes: int = 0) -> None:
    """Nothing, when a NIfTI file that a library wrote lies whole on the disk.

    Args:
        path: of the file, packed or not.
        nbytes: at least so many bytes of voxels are in it.

    Raises:
        OSError: it does not; the system's own word on why, as far as it can be had.
    """
    zipped = path.name.endswith(".gz")
    held = 0
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # a network drive may tell of a full disk only now
        with gzip.open(path) if zipped else path.open("rb") as file:
            while got := len(file.read(_CHUNK)):  # at its end, gzip compares length and checksum
                held += got
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise not_written(path, nbytes) from None
    if held < _HEADER_BYTES + nbytes:
        raise not_written(path, nbytes)


def not_written(path: Path, nbytes: int = 0) -> OSError:
    """Why a library could not write a file: the system's word on writing as much, or that it has none."""
    try:
        check_disk(path.parent, nbytes)
    except OSError as error:
        return OSError(error.errno, error.strerror, str(path.absolute()))
    return OSError(errno.EIO, os.strerror(errno.EIO), str(path.absolute()))


def check_disk(folder: Path, nbytes: int = 0) -> None:
    """Nothing, when a folder takes so many bytes, at least 16 MB.

    Raises:
        OSError: it does not.
    """
    with TemporaryFile(dir=folder) as file:
        for _ in range(0, max(nbytes, 1), _CHUNK):
            file.write(bytes(_CHUNK))
        file.flush()
        os.fsync(file.fileno())


def read_array(path: Path) -> tuple[np.ndarray, Grid]:
    """An array (z, y, x) and its grid, as `write_array` wrote them.

    Raises:
        StoreError: the file is not as it was written.
    """
    import SimpleITK as sitk

    from ctssl.prepare.voxels import Block, Packing, read_voxels

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        if path.name.endswith(_NIFTI):
            dtype = sitk.GetArrayViewFromImage(sitk.Image([1, 1, 1], reader.GetPixelID())).dtype
            packing: Packing = "gzip" if path.suffix == ".gz" else "raw"
            array = read_voxels(Block(path, _HEADER_BYTES, dtype, reader.GetSize(), packing))
        else:
            array = sitk.GetArrayFromImage(reader.Execute())
    except (RuntimeError, DamagedError) as error:
        if is_memory(error):
            raise
        raise StoreError(
            f"{path} is not as it was written", "delete its folder and run the same command again"
        ) from error
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    axes = "".join(_letter(direction[:, d]) for d in range(3))
    assert np.allclose(axes_direction(axes), direction, atol=1e-4), "grids run along the scanner's axes"
    x, y, z = reader.GetOrigin()
    i, j, k = reader.GetSize()
    return array, Grid((x, y, z), round(reader.GetSpacing()[0], 6), (i, j, k), axes)


def _letter(vector: np.ndarray) -> str:
    axis = int(np.abs(vector).argmax())
    return "LPS"[axis] if vector[axis] > 0 else "RAI"[axis]
