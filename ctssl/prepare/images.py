"""Arrays on grids to and from image files."""

from pathlib import Path
from typing import Any

import numpy as np

from ctssl.prepare.grid import Grid, axes_direction


def array_image(array: np.ndarray, grid: Grid) -> Any:
    """A SimpleITK image of an array (z, y, x)."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    image.SetOrigin(grid.origin_mm)
    image.SetSpacing((grid.spacing_mm,) * 3)
    image.SetDirection(grid.direction.ravel().tolist())
    return image


def write_array(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Nothing; writes an array (z, y, x) with its place in space."""
    import SimpleITK as sitk

    sitk.WriteImage(array_image(array, grid), str(path))


def read_array(path: Path) -> tuple[np.ndarray, Grid]:
    """An array (z, y, x) and its grid, as `write_array` wrote them."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    direction = np.array(image.GetDirection()).reshape(3, 3)
    axes = "".join(_letter(direction[:, d]) for d in range(3))
    assert np.allclose(axes_direction(axes), direction, atol=1e-4), "grids run along the scanner's axes"
    x, y, z = image.GetOrigin()
    i, j, k = image.GetSize()
    return sitk.GetArrayFromImage(image), Grid((x, y, z), round(image.GetSpacing()[0], 6), (i, j, k), axes)


def _letter(vector: np.ndarray) -> str:
    axis = int(np.abs(vector).argmax())
    return "LPS"[axis] if vector[axis] > 0 else "RAI"[axis]
