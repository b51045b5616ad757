"""The canonical chest as arrays: everything that all subjects share. Each subject is this one, deformed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from ctssl.cohorts.phantom import body, lungs, trees
from ctssl.cohorts.phantom.canvas import Canvas
from ctssl.cohorts.phantom.tubes import draw_tubes
from ctssl.prepare.grid import LEFT, RIGHT, Grid, covering_grid

AXES = "LPS"
PARENCHYMA_HU = -870.0
BLOOD_HU = 40.0
_WALL_HU = -80.0  # of airways: thinner than a voxel, never quite soft tissue
_FISSURE_HU, _FISSURE_MM = -560.0, 0.45
_TRACHEA = ((0.0, 14.0, 180.0), (0.0, 16.0, 48.0), 9.0)
_LARGE_MM = 4.2  # airways with a wider lumen are no lung in anybody's masks
_SEED_MM = 4.0  # the trees grow on points this far apart, whatever the grid of the arrays
_ARRAYS = ("hu", "lobes", "depth_mm", "branch_points_mm")


@dataclass(frozen=True)
class Chest:
    """The healthy canonical chest.

    Attributes:
        grid: of the arrays; LPS.
        hu: (z, y, x) int16; lung between the vessels is PARENCHYMA_HU everywhere.
        lobes: (z, y, x) uint8, named by `lungs.LOBES`; vessels inside the lungs belong to their lobe,
            trachea and main bronchi to none.
        depth_mm: (z, y, x) uint8, distance of lung voxels to the pleura, 0 outside.
        branch_points_mm: (B, 3) where arteries and veins divide, x, y, z; thickest vessels first.
    """

    grid: Grid
    hu: np.ndarray
    lobes: np.ndarray
    depth_mm: np.ndarray
    branch_points_mm: np.ndarray

    def lungs(self) -> np.ndarray:
        """(z, y, x) uint8: 1 in the right lung, 2 in the left."""
        return sides(self.lobes)

    def save(self, folder: Path) -> None:
        """Nothing; writes one .npy file for each array."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        np.save(folder / "spacing_mm.npy", np.array(self.grid.spacing_mm))


def load_chest(folder: Path) -> Chest:
    """The chest that `save` wrote; its arrays stay on disk and are shared by all processes that read them."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    spacing_mm = float(np.load(folder / "spacing_mm.npy", allow_pickle=False))
    return Chest(_grid(spacing_mm), **arrays)


def sides(lobes: np.ndarray) -> np.ndarray:
    """uint8 of any shape, 1 right and 2 left, from labels of lobes."""
    return np.array([0, RIGHT, RIGHT, RIGHT, LEFT, LEFT], np.uint8)[lobes]


def build_chest(spacing_mm: float) -> Chest:
    """The canonical chest on voxels of this size. The trees in it do not depend on the size."""
    canvas = Canvas(_grid(spacing_mm), 0)
    body.paint(canvas)
    canvas.blend(lungs.lung_margin, PARENCHYMA_HU)
    lobes = np.concatenate([lungs.lobes(canvas.x, canvas.y, z[None]) for z in canvas.z])
    inside = lobes > 0
    for fissure in (0, 1):
        _paint_fissure(canvas, inside, fissure)
    grown = grow()
    _paint_trees(canvas, grown)
    lobes[_large_airways(canvas, grown["airway"])] = 0
    depth = ndimage.distance_transform_edt(inside, sampling=spacing_mm)
    return Chest(
        canvas.grid,
        np.rint(canvas.hu).astype(np.int16),
        lobes,
        np.minimum(depth, 255).astype(np.uint8),
        _branch_points(grown),
    )


def grow() -> dict[str, trees.Tree]:
    """Airways, arteries and veins of the canonical lungs."""
    x, y, z = (np.arange(lungs.LOW_MM[d], lungs.HIGH_MM[d], _SEED_MM) for d in range(3))
    lobes = lungs.lobes(x[None, None], y[None, :, None], z[:, None, None])
    at = np.argwhere(lobes > 0)
    points = np.stack([x[at[:, 2]], y[at[:, 1]], z[at[:, 0]]], 1)
    return trees.grow_trees(points, lobes[lobes > 0])


def _grid(spacing_mm: float) -> Grid:
    return covering_grid(np.stack([lungs.LOW_MM, lungs.HIGH_MM]), spacing_mm, AXES)


def _paint_fissure(canvas: Canvas, inside: np.ndarray, which: int) -> None:
    """A thin sheet; the horizontal one only in front of the oblique one, in the right lung."""

    def margin(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        oblique, horizontal = lungs.fissures(x, y, z)
        if which == 0:
            return _FISSURE_MM - np.abs(oblique) / 1.5
        return np.where((x < 0) & (oblique > 0), _FISSURE_MM - np.abs(horizontal), -9.0)

    sheet = canvas.coverage(margin) * inside
    sheet *= min(1.0, 2 * _FISSURE_MM / canvas.grid.spacing_mm)
    canvas.hu += sheet * (_FISSURE_HU - canvas.hu)


def _paint_trees(canvas: Canvas, grown: dict[str, trees.Tree]) -> None:
    airway = grown["airway"]
    walls = airway.radii_mm + trees.wall_mm(airway.radii_mm)
    draw_tubes(canvas.hu, canvas.grid, airway.starts_mm, airway.ends_mm, walls, _WALL_HU)
    for kind in ("artery", "vein"):
        tree = grown[kind]
        draw_tubes(canvas.hu, canvas.grid, tree.starts_mm, tree.ends_mm, tree.radii_mm, BLOOD_HU)
    draw_tubes(canvas.hu, canvas.grid, airway.starts_mm, airway.ends_mm, airway.radii_mm, -1000.0)
    start, end, radius = _TRACHEA
    canvas.blend(*body.tube(start, end, radius + 1.6, 30.0))
    canvas.blend(*body.tube(start, end, radius, -1000.0))


def _branch_points(grown: dict[str, trees.Tree]) -> np.ndarray:
    vessels = [grown[kind] for kind in ("artery", "vein")]
    radii = np.concatenate([tree.radii_mm[tree.branching] for tree in vessels])
    points = np.concatenate([tree.branch_points_mm for tree in vessels])
    return points[np.argsort(-radii, kind="stable")]


def _large_airways(canvas: Canvas, airway: trees.Tree) -> np.ndarray:
    """(z, y, x) bool: inside trachea, main and intermediate bronchi, walls included."""
    large = airway.radii_mm > _LARGE_MM
    radii = airway.radii_mm + trees.wall_mm(airway.radii_mm)
    share = np.zeros(canvas.grid.shape, np.float32)
    draw_tubes(share, canvas.grid, airway.starts_mm[large], airway.ends_mm[large], radii[large], 1.0)
    return np.asarray(share > 0.5)
