"""Planes of a scan at places of the atlas, found by the landmarks that the scan shows.

A box has the atlas's axes and spacing, and is not registered. Where a place of the atlas lies in it, the
scan's own landmarks say: they were mapped by its registration.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

import numpy as np

from ctssl.errors import CohortError, StoreError
from ctssl.prepare.grid import Grid
from ctssl.recipes import RECIPES
from ctssl.store.boxes import Box
from ctssl.store.reader import Store
from ctssl.store.volumes import around, kept

View = Literal["sagittal", "coronal", "axial"]

NORMALS: dict[View, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
"""Which of x, y, z stands on a plane."""

NEAR = 0.2
"""How far a landmark counts, as a Gaussian's sigma in the landmarks' range: two or three of their distances.
Few of a scan's landmarks then suffice, and far ones say little of how the lung breathes here."""


@dataclass(frozen=True)
class Plane:
    """A view of the atlas.

    Attributes:
        view: along which axes it lies.
        middle: x, y, z as shares of the landmarks' range: from the right, the front, the bottom.
    """

    view: View
    middle: tuple[float, float, float]


@dataclass(frozen=True)
class Planes:
    """Square planes of a scan, one a view.

    Attributes:
        views: where.
        voxels: along both edges.
        field_mm: that they show along both edges.
        slab_mm: across each, of which it is the mean.
        coordinates: (N, 3) of the atlas's landmarks, x, y, z in [0, 1], as `Atlas.coordinates` gives them.
    """

    views: tuple[Plane, ...]
    voxels: int
    field_mm: float
    slab_mm: float
    coordinates: np.ndarray = field(compare=False)

    number = 1

    @property
    def extent(self) -> tuple[int, int, int]:
        """Planes, and voxels along their edges."""
        return len(self.views), self.voxels, self.voxels


def planes(box: Box, store: Store, cut: Planes, cache: Path | None) -> np.ndarray:
    """(V, E, E) int16 HU of a scan's planes, axes view and, of z, y, x, the two in the plane.

    Args:
        box: of the scan.
        store: of the scan, which has its landmarks.
        cut: which planes.
        cache: folder of volumes on other voxels; None: none are kept.

    Raises:
        CohortError: the scan shows no landmark.
        StoreError: nobody knows where the box lies.
    """
    if not store.valid.any():
        raise CohortError(
            f"planes are found by landmarks, but scan {store.scan} shows none", "exclude it in the manifest"
        )
    about = [[p.view, p.middle] for p in cut.views], cut.voxels, cut.field_mm, cut.slab_mm
    made_of = [box.card["digest"], store.card["digest"], box.card["atlas"], RECIPES["box"], *about]
    name = sha256(json.dumps(made_of).encode()).hexdigest()
    return kept(cache, f"planes-{name}", cut.extent, lambda: _planes(box, store, cut))


def _planes(box: Box, store: Store, cut: Planes) -> np.ndarray:
    grid = _grid(box)
    shown = store.valid
    known = cut.coordinates[shown], np.asarray(store.landmarks_mm)[shown]
    return np.stack([_plane(box, grid, p.view, mapped(p.middle, *known), cut) for p in cut.views])


def mapped(place: Sequence[float], coordinates: np.ndarray, landmarks_mm: np.ndarray) -> np.ndarray:
    """(3,) x, y, z in LPS mm: where a place of the atlas lies in a scan.

    That is what the affine map says which takes the landmarks of the atlas to those of the scan, near ones
    most: least squares, weights of a Gaussian of NEAR.

    Args:
        place: x, y, z as shares of the landmarks' range.
        coordinates: (n, 3) of landmarks in the atlas, in the same measure.
        landmarks_mm: (n, 3) of the same in the scan, x, y, z in LPS mm.
    """
    away = coordinates - place
    squared = (away**2).sum(1)
    root = np.exp((squared.min() - squared) / (4 * NEAR**2))  # of the weights, that of the nearest being 1
    terms = np.column_stack([np.ones(len(away)), away]) * root[:, None]
    middle = landmarks_mm.mean(0)  # so that what few landmarks leave open stays near them
    solution = np.linalg.lstsq(terms, (landmarks_mm - middle) * root[:, None], rcond=None)[0]
    return np.asarray(solution[0] + middle)


def _plane(box: Box, grid: Grid, view: View, middle_mm: np.ndarray, cut: Planes) -> np.ndarray:
    """(E, E) one plane around a point."""
    normal = int(np.flatnonzero(grid.direction[NORMALS[view]])[0])
    across = 2 - normal  # the array's axes are those of the grid in reverse
    extent, sizes = [cut.voxels] * 3, [cut.field_mm] * 3
    extent[across], sizes[across] = 1, cut.slab_mm
    corner = 0.5  # the grid's numbers are those of voxels' centres
    middle = grid.to_array(middle_mm) + corner
    return around(box, middle, extent, np.array(sizes) / box.spacing_mm).squeeze(across)


def _grid(box: Box) -> Grid:
    origin, axes = box.card.get("origin_mm", []), box.card.get("axes")
    known = isinstance(origin, list) and [type(n) in (int, float) for n in origin] == [True] * 3
    if not known or not isinstance(axes, str):
        raise StoreError(
            f"planes need to know where the box of scan {box.scan} lies, but its card has origin_mm "
            f"{str(origin)[:60]} and axes {str(axes)[:20]}",
            "delete this box and run the workflow, whose rule box writes both",
        )
    z, y, x = box.shape
    return Grid((origin[0], origin[1], origin[2]), box.spacing_mm, (x, y, z), axes)
