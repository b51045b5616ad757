"""Pictures of phantoms beside a real scan: three planes at lung window, and the density of the lungs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

_SEED = 7
_OUTSIDE_HU = -1024.0
_SHOWN = ((7, "healthy"), (3, "emphysema"), (2, "ground glass"))


def compare(real: Path, folder: Path) -> None:
    """Nothing; writes `planes.png` and `histogram.png`: a real scan beside phantoms scanned like it.

    Args:
        real: a chest CT.
        folder: for the pictures.
    """
    from ctssl.cohorts.phantom.chest import build_chest
    from ctssl.cohorts.phantom.scan import make_scan
    from ctssl.cohorts.phantom.scanner import Scanner
    from ctssl.cohorts.phantom.subject import draw_subject
    from ctssl.prepare.reading import read_scan
    from ctssl.prepare.sharpen import sharpen
    from ctssl.prepare.threshold import threshold_mask
    from ctssl.prepare.volume import frame_of, image_on_grid, overview

    image = read_scan(real, 10**9).image
    step, _, slice_mm = image.GetSpacing()
    scanner = Scanner(max(step, 0.6), slice_mm, noise_hu=25)
    grid = frame_of(image, 1.0, "LPS")
    hu = image_on_grid(image, grid, outside=_OUTSIDE_HU)
    coarse_hu, coarse = overview(image, grid.axes, _OUTSIDE_HU)
    lungs = sharpen(threshold_mask(coarse_hu, coarse), coarse, hu, grid)
    shown = [(real.stem.split("_")[0], hu, lungs)]
    chest = build_chest(1.0)
    for number, what in _SHOWN:
        subject = draw_subject(_SEED, number)
        scan = make_scan(subject, scanner, chest)
        shown.append((f"phantom {number}, {what}", *_isotropic(scan.hu, scan.lungs, scan.spacing_mm)))
    folder.mkdir(parents=True, exist_ok=True)
    _draw_planes(shown, folder / "planes.png")
    _draw_histogram(shown, folder / "histogram.png")


_Shown = tuple[str, np.ndarray, np.ndarray]
_WINDOW_HU = (-1150, 250)


def _isotropic(hu: np.ndarray, mask: np.ndarray, spacing_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both (z, y, x) at 1 mm."""
    from scipy import ndimage

    factors = spacing_mm[::-1]
    return ndimage.zoom(hu.astype(np.float32), factors, order=1), ndimage.zoom(mask, factors, order=0)


def _draw_planes(shown: Sequence[_Shown], path: Path) -> None:
    """All at one scale: boxes of one size around the middle of the lungs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(shown), 9.2), layout="constrained", facecolor="black")
    for column, (name, hu, mask) in enumerate(shown):
        low, high = np.argwhere(mask > 0).min(0), np.argwhere(mask > 0).max(0)
        middle = ((low + high) / 2).astype(int)
        right = int(np.argwhere(mask == 1)[:, 2].mean())
        tiles = (
            ("axial", _cut(hu, middle, 0)),
            ("coronal", _cut(hu, middle + np.array([0, 5, 0]), 1)[::-1]),
            ("sagittal, right lung", _cut(hu, np.array([middle[0], middle[1], right]), 2)[::-1]),
        )
        for row, (plane, tile) in enumerate(tiles):
            axis = figure.add_subplot(3, len(shown), row * len(shown) + column + 1)
            axis.imshow(tile, cmap="gray", vmin=_WINDOW_HU[0], vmax=_WINDOW_HU[1])
            axis.set_title(f"{name}, {plane}", color="white", fontsize=10)
            axis.axis("off")
    figure.savefig(path, dpi=90)


def _cut(hu: np.ndarray, middle: np.ndarray, axis: int) -> np.ndarray:
    """The plane through a voxel z, y, x, across `axis`, in a box of 320 x 270 x 360 mm around it."""
    half = np.array([160, 135, 180])
    padded = np.pad(hu, [(n, n) for n in half], constant_values=_WINDOW_HU[0])
    box = padded[tuple(slice(m, m + 2 * n) for m, n in zip(middle, half, strict=True))]
    return box.take(half[axis], axis)


def _draw_histogram(shown: Sequence[_Shown], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.add_subplot()
    bins = np.arange(-1050, 151, 10)
    for name, hu, mask in shown:
        share, _ = np.histogram(hu[mask > 0], bins)
        axis.plot(
            bins[:-1] + 5, 100 * share / share.sum(), label=name, linewidth=2.4 if "lung" in name else 1.2
        )
    axis.set(xlabel="HU", ylabel="% of lung voxels per 10 HU", xlim=(-1050, 150))
    axis.legend(frameon=False)
    figure.savefig(path, dpi=110)
