"""Putting a scan on the axes and spacing of the atlas; and what of space the scan saw."""

from typing import Any

import numpy as np

from ctssl.prepare.grid import Grid, covering_grid

_OVERVIEW_MM = (2.0, 6.0)
_RIM = 0.25  # 1.6 mm is taken in ones, 1.1 mm in twos


def frame_of(image: Any, spacing_mm: float, axes: str) -> Grid:
    """The grid along the atlas's axes that covers a SimpleITK image."""
    size = np.array(image.GetSize())
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in size], indexing="ij")).reshape(3, -1).T
    direction = np.array(image.GetDirection()).reshape(3, 3)
    points = corners * np.array(image.GetSpacing()) @ direction.T + np.array(image.GetOrigin())
    return covering_grid(points, spacing_mm, axes)


def image_on_grid(image: Any, grid: Grid, *, outside: float, labels: bool = False) -> np.ndarray:
    """(z, y, x) values of a SimpleITK image at the grid's voxels: linear float32; or of labels the likeliest.

    Between voxels of unlike labels the one wins that linear interpolation gives the most weight, so that
    thick slices do not become steps.
    """
    import SimpleITK as sitk

    moved = sitk.Resample(
        image,
        grid.size,
        sitk.Transform(),
        sitk.sitkLabelLinear if labels else sitk.sitkLinear,
        grid.origin_mm,
        (grid.spacing_mm,) * 3,
        grid.direction.ravel().tolist(),
        outside,
        sitk.sitkUnknown if labels else sitk.sitkFloat32,  # integers would be cut off, not rounded
    )
    return sitk.GetArrayFromImage(moved)


def overview(image: Any, axes: str, outside: float) -> tuple[np.ndarray, Grid]:
    """(z, y, x) float32 of the whole image on a grid of about 2 mm, and the grid.

    Voxels are first averaged in blocks of up to that size, so that noise and thin things count as much as
    they fill. An image whose voxels are larger along all axes keeps their smallest edge, up to 6 mm.
    """
    import SimpleITK as sitk

    spacing_mm = float(np.clip(min(image.GetSpacing()), *_OVERVIEW_MM))
    factors = [max(1, int(spacing_mm / step + _RIM)) for step in image.GetSpacing()]
    factors = [min(factor, size) for factor, size in zip(factors, image.GetSize(), strict=True)]
    blocks = sitk.BinShrink(image, factors)
    grid = frame_of(image, spacing_mm, axes)
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(grid.size)
    resampler.SetOutputOrigin(grid.origin_mm)
    resampler.SetOutputSpacing((spacing_mm,) * 3)
    resampler.SetOutputDirection(grid.direction.ravel().tolist())
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetOutputPixelType(sitk.sitkFloat32)
    resampler.UseNearestNeighborExtrapolatorOn()  # the half block beyond the outermost centres
    hu = sitk.GetArrayFromImage(resampler.Execute(blocks))
    seen = seen_on_grid(image, None, grid)
    if seen is not None:
        hu[~seen] = outside
    return hu, grid


def seen_on_grid(image: Any, padding_hu: float | None, grid: Grid) -> np.ndarray | None:
    """(z, y, x) bool: where the scanner saw something; None when it saw all of the grid.

    It saw nothing beyond the image's own box, which is not the grid's where the image lies askew, and nothing
    where the image holds padding.

    Args:
        image: SimpleITK.
        padding_hu: the value of voxels that hold no measurement, or None.
        grid: inside the box around the image.
    """
    import SimpleITK as sitk

    askew = np.abs(np.array(image.GetDirection())).reshape(3, 3).max(0).min() < 1 - 1e-6
    if not askew and padding_hu is None:
        return None
    if padding_hu is None:
        filled = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
        filled.CopyInformation(image)
    else:
        filled = sitk.Cast(image != padding_hu, sitk.sitkUInt8)
    seen = image_on_grid(filled, grid, outside=0, labels=True) > 0
    return None if seen.all() else seen
