"""One picture a scan: its CT with mask and landmarks, and on the atlas's grid how well it fits the atlas."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ctssl.prepare.grid import LEFT, RIGHT, Grid
from ctssl.prepare.planes import AXES, Upright, box, centre, grey, plane, resized

_HEIGHT, _GAP, _HEAD, _STRIP = 360, 6, 68, 22  # pixels: a tile, between tiles, text above, legend
_SQUARE_MM, _MARGIN_MM = 30, 15
_BACKGROUND = (16, 16, 16)
_OUTLINES = {RIGHT: (255, 90, 80), LEFT: (90, 160, 255)}
_VALID, _INVALID, _NAME = (90, 230, 110), (255, 170, 0), (255, 255, 0)
# Colours of Okabe and Ito, which colour-blind people tell apart.
_BOTH, _SCAN, _ATLAS, _OTHER = (130, 130, 130), (230, 120, 0), (86, 180, 233), (240, 228, 66)


@dataclass(frozen=True)
class Views:
    """What a picture shows. Arrays are z, y, x along the axes of their grid, which may be any.

    Attributes:
        hu: the scan.
        mask: its lungs, 1 right, 2 left.
        grid: of both.
        landmarks_mm: (N, 3) x, y, z in LPS mm, in the scan.
        valid: (N,) whether they are.
        near_mm: half a patch; a landmark is on the planes that its patch crosses.
        atlas_hu: the atlas's CT, or None where it has none.
        atlas_mask: its lungs.
        warped_hu: the scan in the atlas.
        warped_mask: its lungs in the atlas.
        atlas_grid: of these four; it may be coarser than the atlas's own.
    """

    hu: np.ndarray
    mask: np.ndarray
    grid: Grid
    landmarks_mm: np.ndarray
    valid: np.ndarray
    near_mm: float
    atlas_hu: np.ndarray | None
    atlas_mask: np.ndarray
    warped_hu: np.ndarray
    warped_mask: np.ndarray
    atlas_grid: Grid


def draw_scan(path: Path, views: Views, lines: tuple[str, ...]) -> None:
    """Nothing; writes a PNG, head up, the subject's right on the left.

    Above: the scan's CT, mask outline and landmarks (discs valid, rings not), coronal, axial, sagittal
    through each lung. Below, on the atlas's grid: checkerboards of scan and atlas (its mask, where it has
    no CT), and the difference of the masks.

    Args:
        path: of the picture.
        views: what to show.
        lines: up to three lines of text above, as `caption` gives them.
    """
    from PIL import Image

    above = _scan_tiles(views)
    width = sum(tile.width for tile in above) + _GAP * (len(above) - 1)
    below = _atlas_tiles(views, width)
    depth = max(tile.height for tile in below)
    sheet = Image.new("RGB", (width, _HEAD + _HEIGHT + _STRIP + depth), _BACKGROUND)
    _write_lines(sheet, lines)
    _write_legend(sheet, _HEAD + _HEIGHT)
    for tiles, top in ((above, _HEAD), (below, _HEAD + _HEIGHT + _STRIP)):
        left = 0
        for tile in tiles:
            sheet.paste(tile, (left, top))
            left += tile.width + _GAP
    sheet.save(path)


def caption(scan: str, numbers: dict[str, Any]) -> tuple[str, str, str]:
    """The text above a picture: id, what was measured, what is unusual. What is not known is left out.

    Args:
        scan: its id.
        numbers: as for `quality.verdict`, with rung and repairs.
    """
    texts = {
        "dice_right": "Dice right {dice_right:.3f}",
        "dice_left": "Dice left {dice_left:.3f}",
        "min_jacobian": "minimum Jacobian {min_jacobian:.2f}",
        "inverse_mm_p95": "there and back {inverse_mm_p95:.1f} mm (95 %)",
        "right_l": "right {right_l:.2f} l",
        "left_l": "left {left_l:.2f} l",
        "valid": "{valid} of {landmarks} landmarks valid",
        "rung": "start: {rung}",
    }
    found = [text.format_map(numbers) for key, text in texts.items() if numbers.get(key) is not None]
    unusual = [f"{numbers['missing']} lung missing"] if numbers.get("missing") else []
    unusual += [f"cut: {numbers['cut']}"] if numbers.get("cut") else []
    unusual += [*(numbers.get("mask_doubts") or ()), *(numbers.get("repairs") or ())]
    return scan, ", ".join(found), "; ".join(unusual)


def draw_exclusion(path: Path, scan: str, reason: str) -> None:
    """Nothing; writes a PNG that says why a scan has no picture."""
    import textwrap

    from PIL import Image, ImageDraw

    sheet = Image.new("RGB", (900, 160), (60, 16, 16))
    pen = ImageDraw.Draw(sheet)
    pen.text((10, 8), f"{scan}: excluded", fill=(255, 255, 255), font_size=18)
    pen.text((10, 40), "\n".join(textwrap.wrap(reason, 110)[:6]), fill=(230, 200, 200), font_size=14)
    sheet.save(path)


def _scan_tiles(views: Views) -> list[Any]:
    upright = Upright(views.grid)
    hu, mask = upright.array(views.hu), upright.array(views.mask)
    middle = centre(mask, (RIGHT, LEFT)) or [n // 2 for n in mask.shape]
    chosen = [("coronal", middle[1], "coronal"), ("axial", middle[0], "axial")]
    for label, side in ((RIGHT, "right"), (LEFT, "left")):
        lung = centre(mask, (label,))
        chosen += [("sagittal", lung[2], f"sagittal, {side} lung")] if lung else []
    positions, near = upright.positions(views.landmarks_mm), views.near_mm / views.grid.spacing_mm
    tiles = []
    for name, number, title in chosen:
        shown = np.abs(positions[:, AXES[name]] - number) <= near
        spots = np.delete(positions[shown], AXES[name], axis=1), views.valid[shown]
        tile = _scan_tile(plane(hu, name, number), plane(mask, name, number), spots)
        tiles.append(_titled(tile, title))
    return tiles


def _scan_tile(hu: np.ndarray, labels: np.ndarray, spots: tuple[np.ndarray, np.ndarray]) -> Any:
    """The CT of one plane, (rows, columns), with the mask's outline and the landmarks near it.

    Args:
        hu: of the plane.
        labels: of its mask.
        spots: (S, 2) rows and columns of landmarks, and (S,) whether they are valid.
    """
    from PIL import Image, ImageDraw

    zoom = _HEIGHT / len(hu)
    size = (max(1, round(hu.shape[1] * zoom)), _HEIGHT)
    big = np.stack([resized(grey(hu), size)] * 3, -1)
    large = resized(labels, size, sharp=True)
    for label, colour in _OUTLINES.items():
        part = large == label
        big[part & ~ndimage.binary_erosion(part, iterations=2)] = colour
    tile = Image.fromarray(big)
    pen = ImageDraw.Draw(tile)
    for (row, column), good in zip(*spots, strict=True):
        y, x = (row + 0.5) * zoom, (column + 0.5) * zoom
        edge = (x - 4, y - 4, x + 4, y + 4)
        pen.ellipse(edge, fill=_VALID if good else None, outline=(0, 0, 0) if good else _INVALID, width=2)
    return tile


def _atlas_tiles(views: Views, width: int) -> list[Any]:
    """Three checkerboards and three differences of the masks, `width` pixels together."""
    from PIL import Image

    upright, spacing_mm = Upright(views.atlas_grid), views.atlas_grid.spacing_mm
    atlas, scan = upright.array(views.atlas_mask), upright.array(views.warped_mask)
    scan_hu = upright.array(views.warped_hu)
    atlas_hu = None if views.atlas_hu is None else upright.array(views.atlas_hu)
    middle = centre(atlas, (RIGHT, LEFT)) or [n // 2 for n in atlas.shape]
    side = centre(scan, (RIGHT,)) or centre(scan, (LEFT,)) or middle
    chosen = {"coronal": middle[1], "axial": middle[0], "sagittal": side[2]}
    edges = box(np.maximum(atlas, scan), round(_MARGIN_MM / spacing_mm))
    columns = [edges[d].stop - edges[d].start for d in (2, 2, 1)]  # of the planes in their order
    zoom = (width - 5 * _GAP) / (2 * sum(columns))
    boards, differences = [], []
    for name, number in chosen.items():
        part = tuple(edge for d, edge in enumerate(edges) if d != AXES[name])
        here, there = plane(scan, name, number)[part], plane(atlas, name, number)[part]
        ours = grey(plane(scan_hu, name, number)[part])
        theirs = _drawn(there) if atlas_hu is None else grey(plane(atlas_hu, name, number)[part])
        rows, columns_here = here.shape
        size = (max(1, int(columns_here * zoom)), max(1, int(rows * zoom)))
        board = _checkerboard(resized(ours, size), resized(theirs, size), zoom * _SQUARE_MM / spacing_mm)
        difference = _difference(resized(here, size, sharp=True), resized(there, size, sharp=True))
        boards.append(_titled(Image.fromarray(board), name))
        differences.append(_titled(Image.fromarray(difference), name))
    return boards + differences


def _drawn(mask: np.ndarray) -> np.ndarray:
    """(rows, columns) uint8: a mask in the greys of lung and of what is around it."""
    return np.where(mask > 0, 70, 170).astype(np.uint8)


def _checkerboard(scan: np.ndarray, atlas: np.ndarray, side: float) -> np.ndarray:
    """(rows, columns, 3): squares of `side` pixels, by turns the scan and, bluish, the atlas."""
    rows, columns = (np.arange(n) // max(side, 1) for n in scan.shape)
    of_atlas = ((rows[:, None] + columns) % 2).astype(bool)[..., None]
    bluish = atlas[..., None] * (0.45 + 0.55 * np.array(_ATLAS) / 255)
    return np.where(of_atlas, bluish, scan[..., None]).astype(np.uint8)


def _difference(scan: np.ndarray, atlas: np.ndarray) -> np.ndarray:
    """(rows, columns, 3): where both masks, one of them, or the other one's other lung is."""
    colours = np.full((*scan.shape, 3), _BACKGROUND, np.uint8)
    colours[(scan > 0) & (atlas == 0)] = _SCAN
    colours[(scan == 0) & (atlas > 0)] = _ATLAS
    colours[(scan > 0) & (atlas > 0)] = _OTHER
    colours[(scan > 0) & (atlas == scan)] = _BOTH
    return colours


def _titled(tile: Any, title: str) -> Any:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(tile)
    how: dict[str, Any] = {"fill": _NAME, "font_size": 13, "stroke_width": 2, "stroke_fill": (0, 0, 0)}
    pen.text((5, 2), title, **how)
    if not title.startswith("sagittal"):
        pen.text((5, tile.height // 2), "R", **how)
    return tile


def _write_lines(sheet: Any, lines: tuple[str, ...]) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(sheet)
    room = sheet.width - 12
    fonts = ((15, (255, 255, 255)), (13, (200, 200, 200)), (13, _INVALID))
    for line, top, (size, colour) in zip(lines, (4, 25, 45), fonts, strict=False):
        while (length := pen.textlength(line, font_size=size)) > room:
            line = f"{line[: int(len(line) * room / length) - 1]}…"
        pen.text((6, top), line, fill=colour, font_size=size)


def _write_legend(sheet: Any, top: int) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(sheet)
    left = 6.0
    legend = {"squares: scan": (220, 220, 220), "atlas    ": _ATLAS, "masks: both": _BOTH}
    legend |= {"scan alone": _SCAN, "atlas alone": _ATLAS, "one's right on the other's left": _OTHER}
    for words, colour in legend.items():
        pen.text((left, top + 3), words, fill=colour, font_size=13)
        left += pen.textlength(f"{words}   ", font_size=13)
