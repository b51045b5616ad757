"""One picture a scan: CT at lung window, mask outline and landmarks in three planes."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ctssl.prepare.grid import LEFT, RIGHT, Grid

_WINDOW_HU = (-1150, 250)
_HEIGHT = 360
_HEAD = 46
_COLOURS = {RIGHT: (255, 90, 80), LEFT: (90, 160, 255)}
_VALID, _INVALID = (90, 230, 110), (255, 170, 0)


def draw_scan(
    path: Path,
    hu: np.ndarray,
    mask: np.ndarray,
    grid: Grid,
    landmarks: tuple[np.ndarray, np.ndarray],
    lines: tuple[str, str],
    near_voxels: float,
) -> None:
    """Nothing; writes a PNG: coronal, axial, and sagittal through the right and the left lung.

    Args:
        path: of the picture.
        hu: (z, y, x).
        mask: (z, y, x).
        grid: of both, along L or R, P or A, S or I.
        landmarks: (N, 3) x, y, z in LPS mm, and (N,) whether they are valid. Those `near_voxels`
            of a plane are drawn on it: discs valid, rings not.
        lines: two lines of text above.
        near_voxels: half a patch, so that each landmark is on the planes that its patch crosses.
    """
    from PIL import Image, ImageDraw

    positions, valid = grid.to_array(landmarks[0]), landmarks[1]
    middle = [round(c) for c in ndimage.center_of_mass(mask > 0)]
    planes = [(1, middle[1], "coronal"), (0, middle[0], "axial")]
    for label, name in ((RIGHT, "right lung"), (LEFT, "left lung")):
        if (mask == label).any():
            planes.append((2, round(ndimage.center_of_mass(mask == label)[2]), f"sagittal, {name}"))
    tiles = []
    for plane in planes:
        near = np.abs(positions[:, plane[0]] - plane[1]) <= near_voxels
        tiles.append(_plane(hu, mask, grid, (positions[near], valid[near]), plane))
    width = sum(t.width for t in tiles) + 6 * (len(tiles) - 1)
    sheet = Image.new("RGB", (width, _HEIGHT + _HEAD), (16, 16, 16))
    pen = ImageDraw.Draw(sheet)
    pen.text((6, 4), lines[0], fill=(255, 255, 255), font_size=15)
    pen.text((6, 24), lines[1], fill=(200, 200, 200), font_size=13)
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, _HEAD))
        left += tile.width + 6
    sheet.save(path)


def draw_exclusion(path: Path, scan: str, reason: str) -> None:
    """Nothing; writes a PNG that says why a scan has no picture."""
    import textwrap

    from PIL import Image, ImageDraw

    sheet = Image.new("RGB", (900, 160), (60, 16, 16))
    pen = ImageDraw.Draw(sheet)
    pen.text((10, 8), f"{scan}: excluded", fill=(255, 255, 255), font_size=18)
    pen.text((10, 40), "\n".join(textwrap.wrap(reason, 110)[:6]), fill=(230, 200, 200), font_size=14)
    sheet.save(path)


def _plane(
    hu: np.ndarray,
    mask: np.ndarray,
    grid: Grid,
    landmarks: tuple[np.ndarray, np.ndarray],
    plane: tuple[int, int, str],
) -> Any:
    from PIL import Image, ImageDraw

    axis, number, name = plane
    rows, columns = [d for d in range(3) if d != axis]
    flips = [grid.axes[2 - d] in "RAI" for d in (rows, columns)]
    flips[0] ^= rows == 0  # the head is up
    grey, labels = hu.take(number, axis), mask.take(number, axis)
    low, high = _WINDOW_HU
    picture = np.clip((grey.astype(float) - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    picture, labels = (np.flip(a, [d for d in (0, 1) if flips[d]]) for a in (picture, labels))
    zoom = _HEIGHT / picture.shape[0]
    size = (max(1, round(picture.shape[1] * zoom)), _HEIGHT)
    big = np.stack([np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize(size))] * 3, -1)
    large = np.asarray(Image.fromarray(np.ascontiguousarray(labels)).resize(size, Image.Resampling.NEAREST))
    for label, colour in _COLOURS.items():
        part = large == label
        big[part & ~ndimage.binary_erosion(part, iterations=2)] = colour
    tile = Image.fromarray(big)
    pen = ImageDraw.Draw(tile)
    for position, good in zip(*landmarks, strict=True):
        spot = [position[rows], position[columns]]
        spot = [n - 1 - s if f else s for s, n, f in zip(spot, picture.shape, flips, strict=True)]
        y, x = (s * zoom for s in spot)
        box = (x - 4, y - 4, x + 4, y + 4)
        pen.ellipse(box, fill=_VALID if good else None, outline=(0, 0, 0) if good else _INVALID, width=2)
    side = "" if axis == 2 else "R"
    pen.text((4, 2), name, fill=(255, 255, 0), font_size=13)
    pen.text((4, _HEIGHT // 2), side, fill=(255, 255, 0), font_size=13)
    return tile
