"""Chests of two ellipsoids in a box of soft tissue: small, known exactly, without the phantom."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ctssl.prepare.grid import Grid

CENTRES = {1: (-70.0, 0.0, 0.0), 2: (72.0, 5.0, 4.0)}
RADII = {1: (52.0, 76.0, 112.0), 2: (46.0, 70.0, 104.0)}


def lungs(points_mm: np.ndarray, scale=(1.0, 1.0, 1.0), shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    """(...) uint8 1 right, 2 left; points (..., 3) of a person scaled and shifted from the pattern."""
    pattern = (points_mm - np.array(shift)) / np.array(scale)
    found = np.zeros(points_mm.shape[:-1], np.uint8)
    for label, centre in CENTRES.items():
        found[(((pattern - centre) / np.array(RADII[label])) ** 2).sum(-1) < 1] = label
    return found


def chest(
    spacing_mm: float = 5.0, scale=(1.0, 1.0, 1.0), shift=(0.0, 0.0, 0.0), bottom_mm: float = -150.0
) -> tuple[np.ndarray, np.ndarray, Grid]:
    """hu (z, y, x) int16, lungs uint8 and their LPS grid. A bottom above -110 cuts the lungs."""
    low = np.array([-170.0, -110.0, bottom_mm]) * scale + shift
    high = np.array([170.0, 115.0, 150.0]) * scale + shift
    size = tuple(int(n) for n in np.floor((high - low) / spacing_mm))
    grid = Grid(tuple(float(v) for v in low), spacing_mm, size, "LPS")
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), -1)
    points = grid.to_points(index.astype(float))
    mask = lungs(points, scale, shift)
    body = (((points - np.array(shift)) / scale / (165, 105, 1e9)) ** 2).sum(-1) < 1
    noise = np.random.default_rng(0).normal(0, 8, mask.shape)
    hu = np.where(mask > 0, -860, np.where(body, 40, -1000)) + noise
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16), mask, grid


def write(path: Path, array: np.ndarray, grid: Grid) -> Path:
    """An image file, by SimpleITK alone."""
    image = sitk.GetImageFromArray(array)
    image.SetOrigin(grid.origin_mm)
    image.SetSpacing((grid.spacing_mm,) * 3)
    image.SetDirection(grid.direction.ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path
