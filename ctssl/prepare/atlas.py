"""The atlas: an artefact with an id that every volume, store and model names."""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from ctssl.config.prepare import Atlas as AtlasSettings
from ctssl.errors import StoreError
from ctssl.log import Progress
from ctssl.prepare.graph import pairs_within
from ctssl.prepare.grid import Grid, covering_grid
from ctssl.prepare.images import write_array
from ctssl.prepare.landmarks import extract_patches

AXES = "LPS"

CARD = "atlas.json"
MASK = "mask.nii.gz"


@dataclass(frozen=True)
class Atlas:
    """The chest that scans are registered to.

    Attributes:
        id: digest of mask and landmarks; things made with different atlases do not mix.
        axes: the letter toward which each array axis x, y, z grows, e.g. LPS.
        spacing_mm: spacing of every volume and patch.
        pitch_mm: distance between neighbouring landmarks on the grid.
        landmarks_mm: (N, 3) patch centres, x, y, z in LPS mm of the atlas.
        neighbours: (E, 2) pairs of landmarks that are neighbours on the grid.
    """

    id: str
    axes: str
    spacing_mm: float
    pitch_mm: float
    landmarks_mm: np.ndarray
    neighbours: np.ndarray

    def coordinates(self) -> np.ndarray:
        """(N, 3) landmark coordinates in [0, 1]: each column from its minimum to its maximum."""
        low, high = self.landmarks_mm.min(0), self.landmarks_mm.max(0)
        return (self.landmarks_mm - low) / np.maximum(high - low, 1e-9)


def read_atlas(folder: Path) -> Atlas:
    """The atlas in this folder.

    Raises:
        StoreError: the folder holds no atlas.
    """
    try:
        card = json.loads((folder / CARD).read_text())
        return Atlas(
            id=card["id"],
            axes=card["axes"],
            spacing_mm=card["spacing_mm"],
            pitch_mm=card["pitch_mm"],
            landmarks_mm=np.array(card["landmarks_mm"], float).reshape(-1, 3),
            neighbours=np.array(card["neighbours"], int).reshape(-1, 2),
        )
    except (OSError, ValueError, KeyError) as error:
        raise StoreError(f"{folder} holds no atlas: {error}", "run the workflow, which makes it") from error


def build_atlas(folder: Path, settings: AtlasSettings) -> Atlas:
    """The built-in atlas, written into a folder as `atlas.json` and `mask.nii.gz`.

    Its anatomy is the phantom's canonical chest. Landmarks are the centres of patches on a regular grid
    around the middle of the lungs whose share of lung is above `min_lung_fraction`.
    """
    from ctssl.cohorts.phantom import anatomy

    grid = covering_grid(np.stack([anatomy.LOW_MM, anatomy.HIGH_MM]), settings.spacing_mm, AXES)
    rows, columns = np.meshgrid(*map(np.arange, grid.shape[1:]), indexing="ij")
    planes = []
    with Progress("atlas", grid.shape[0], "slices") as progress:
        for z in range(grid.shape[0]):
            positions = np.stack([np.full_like(rows, z), rows, columns], -1)
            planes.append(anatomy.lungs(grid.to_points(positions)))
            progress.advance()
    mask = np.stack(planes)
    landmarks = grid_landmarks(mask > 0, grid, settings.pitch_mm, settings.min_lung_fraction)
    neighbours = pairs_within(landmarks, 1.2 * settings.pitch_mm)
    state = sha256(np.packbits(mask).tobytes() + np.round(landmarks, 4).tobytes())
    state.update(repr((grid, settings)).encode())
    atlas = Atlas(state.hexdigest()[:16], AXES, settings.spacing_mm, settings.pitch_mm, landmarks, neighbours)
    folder.mkdir(parents=True, exist_ok=True)
    write_array(folder / MASK, mask, grid)
    card = {
        "id": atlas.id,
        "axes": atlas.axes,
        "source": settings.source,
        "spacing_mm": atlas.spacing_mm,
        "pitch_mm": atlas.pitch_mm,
        "landmarks_mm": np.round(landmarks, 4).tolist(),
        "neighbours": neighbours.tolist(),
    }
    (folder / CARD).write_text(json.dumps(card) + "\n")
    return read_atlas(folder)


def grid_landmarks(lungs: np.ndarray, grid: Grid, pitch_mm: float, min_lung_fraction: float) -> np.ndarray:
    """(N, 3) patch centres x, y, z in LPS mm: x slowest, z fastest.

    Args:
        lungs: (z, y, x) bool on `grid`.
        grid: the atlas's grid.
        pitch_mm: distance of neighbours along each axis.
        min_lung_fraction: a patch with this share of lung or less gives no landmark.
    """
    inside = grid.to_points(np.argwhere(lungs).astype(float))
    low, high = inside.min(0), inside.max(0)
    count = np.ceil((high - low) / pitch_mm).astype(int) + 1
    axes = [(low[d] + high[d]) / 2 + pitch_mm * (np.arange(n) - (n - 1) / 2) for d, n in enumerate(count)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    share = extract_patches(lungs.astype(np.float32), grid, points, outside=0).mean((1, 2, 3))
    return points[share > min_lung_fraction]
