"""The atlas: an artefact with an id that every volume, store and model names.

Runs with numpy and scipy alone; only the writing of images needs more.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctssl.cards import read_card
from ctssl.errors import ConfigError, StoreError
from ctssl.prepare.graph import grid_neighbours
from ctssl.prepare.grid import Grid
from ctssl.prepare.landmarks import grid_landmarks, main_labels

if TYPE_CHECKING:
    from ctssl.cohorts.phantom.chest import Chest

CARD = "atlas.json"
_MOST_VOXELS = 256  # along a patch
MASK, CT, LOBES = "mask.nii.gz", "ct.nii.gz", "lobes.nii.gz"


@dataclass(frozen=True)
class Anatomy:
    """The chest of an atlas, as arrays z, y, x on one grid.

    Attributes:
        grid: its axes and spacing are those of every volume and patch.
        lungs: uint8, 1 right, 2 left.
        hu: int16, or None where there is no CT.
        lobes: uint8, 1 to 5 as in ctssl.cohorts.phantom.lungs.LOBES, or None where nobody knows them.
    """

    grid: Grid
    lungs: np.ndarray
    hu: np.ndarray | None = None
    lobes: np.ndarray | None = None


@dataclass(frozen=True)
class Atlas:
    """The chest that scans are registered to.

    Attributes:
        id: digest of mask, grid, landmarks and patch size; things of different atlases do not mix.
        axes: the letter toward which each array axis x, y, z grows, e.g. LPS.
        spacing_mm: spacing of every volume and patch.
        pitch_mm: distance between neighbouring landmarks on the grid.
        landmarks_mm: (N, 3) patch centres, x, y, z in LPS mm of the atlas.
        neighbours: (E, 2) pairs of landmarks that are neighbours on the grid.
        patch_voxels: edge of a patch.
        lobes: (N,) the lobe that fills most of each patch, 0 none; or None where lobes are not known.
    """

    id: str
    axes: str
    spacing_mm: float
    pitch_mm: float
    landmarks_mm: np.ndarray
    neighbours: np.ndarray
    patch_voxels: int = 32
    lobes: np.ndarray | None = None

    def coordinates(self) -> np.ndarray:
        """(N, 3) landmark coordinates in [0, 1]: each column from its minimum to its maximum."""
        low, high = self.landmarks_mm.min(0), self.landmarks_mm.max(0)
        return (self.landmarks_mm - low) / np.maximum(high - low, 1e-9)


def builtin_atlas(
    spacing_mm: float, patch_voxels: int, pitch_mm: float, min_lung_fraction: float
) -> tuple[Atlas, "Chest"]:
    """The built-in atlas and its chest, the phantom's canonical one. Writes nothing.

    Landmarks are the centres of patches on a regular grid around the middle of the lungs whose share of
    lung is above `min_lung_fraction`. The workflow's atlas of the same settings has the same id.
    """
    from ctssl.cohorts.phantom.chest import build_chest

    chest = build_chest(spacing_mm)
    atlas = landmarked(
        anatomy_of(chest), patch_voxels=patch_voxels, pitch_mm=pitch_mm, min_lung_fraction=min_lung_fraction
    )
    return atlas, chest


def anatomy_of(chest: "Chest") -> Anatomy:
    """The phantom's canonical chest as the anatomy of an atlas."""
    return Anatomy(chest.grid, chest.lungs(), chest.hu, chest.lobes)


def landmarked(
    anatomy: Anatomy,
    *,
    patch_voxels: int,
    pitch_mm: float,
    min_lung_fraction: float | None = None,
    landmarks_mm: np.ndarray | None = None,
    files: Mapping[str, str] | None = None,
) -> Atlas:
    """The atlas of an anatomy: its landmarks, who neighbours whom, its id.

    Args:
        anatomy: the chest.
        patch_voxels: edge of a patch.
        pitch_mm: of the grid of landmarks; landmarks closer than 1.2 pitches are neighbours.
        min_lung_fraction: landmarks are laid on a grid where patches hold more lung than this, ...
        landmarks_mm: ... unless they are given: (N, 3) patch centres, kept as they are.
        files: what the anatomy was read from, name to sha256; part of the id.

    Raises:
        ConfigError: fewer than two landmarks.
    """
    lungs, grid = anatomy.lungs, anatomy.grid
    if landmarks_mm is None:
        assert min_lung_fraction is not None, "a grid of landmarks needs min_lung_fraction"
        landmarks_mm = grid_landmarks(
            lungs, grid, edge=patch_voxels, pitch_mm=pitch_mm, min_lung_fraction=min_lung_fraction
        )
    if len(landmarks_mm) < 2:
        raise ConfigError(
            f"the atlas has {len(landmarks_mm)} landmarks where two are needed",
            "lower atlas.pitch_mm or atlas.min_lung_fraction",
        )
    landmarks_mm = np.round(landmarks_mm, 4) + 0.0  # as on the card; no negative zeros
    lobes = anatomy.lobes
    return Atlas(
        id=_digest(anatomy, landmarks_mm, (patch_voxels, pitch_mm), files or {}),
        axes=grid.axes,
        spacing_mm=float(grid.spacing_mm),
        pitch_mm=float(pitch_mm),
        landmarks_mm=landmarks_mm,
        neighbours=grid_neighbours(landmarks_mm, pitch_mm),
        patch_voxels=patch_voxels,
        lobes=None if lobes is None else main_labels(lobes, grid, landmarks_mm, edge=patch_voxels),
    )


def _digest(
    anatomy: Anatomy, landmarks_mm: np.ndarray, numbers: tuple[int, float], files: Mapping[str, str]
) -> str:
    grid = anatomy.grid
    about = [np.round(grid.origin_mm, 4).tolist(), float(grid.spacing_mm), grid.size, grid.axes]
    state = sha256(json.dumps([about, numbers[0], float(numbers[1]), sorted(files.items())]).encode())
    state.update(np.ascontiguousarray(anatomy.lungs, np.uint8).tobytes())
    state.update(landmarks_mm.astype("<f8").tobytes())
    return state.hexdigest()[:16]


def write_atlas(folder: Path, atlas: Atlas, anatomy: Anatomy, about: Mapping[str, Any]) -> None:
    """Write mask, CT and lobes as images, as far as they are known, and then the card.

    Args:
        folder: is made.
        atlas: of the anatomy.
        anatomy: the chest.
        about: where it comes from (`source`, ...); joins the card.
    """
    from ctssl.prepare.images import write_array

    folder.mkdir(parents=True, exist_ok=True)
    for name, array in ((MASK, anatomy.lungs), (CT, anatomy.hu), (LOBES, anatomy.lobes)):
        if array is not None:
            write_array(folder / name, array, anatomy.grid)
    write_card(folder, atlas, about)


def write_card(folder: Path, atlas: Atlas, about: Mapping[str, Any]) -> None:
    """Write `atlas.json` alone, which is all that stores and training need of an atlas."""
    card = {
        "id": atlas.id,
        **about,
        "axes": atlas.axes,
        "spacing_mm": atlas.spacing_mm,
        "patch_voxels": atlas.patch_voxels,
        "pitch_mm": atlas.pitch_mm,
        "landmarks_mm": atlas.landmarks_mm.tolist(),
        "lobes": None if atlas.lobes is None else atlas.lobes.tolist(),
        "neighbours": atlas.neighbours.tolist(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CARD).write_text(json.dumps(card) + "\n")


def read_atlas(folder: Path) -> Atlas:
    """The atlas in this folder.

    Raises:
        StoreError: the folder holds no atlas, or one of an older version.
    """
    try:
        card = read_card(folder / CARD)
        atlas = Atlas(
            id=card["id"],
            axes=card["axes"],
            spacing_mm=card["spacing_mm"],
            pitch_mm=card["pitch_mm"],
            landmarks_mm=np.array(card["landmarks_mm"], float).reshape(-1, 3),
            neighbours=np.array(card["neighbours"], np.int64).reshape(-1, 2),
            patch_voxels=card["patch_voxels"],
            lobes=None if card["lobes"] is None else np.array(card["lobes"], np.int64),
        )
        fault = next(_faults(atlas), None)
    except (FileNotFoundError, NotADirectoryError, *_DAMAGE) as error:
        raise StoreError(f"{folder} holds no atlas: {error}", _REMAKE) from error
    if fault is not None:
        raise StoreError(f"the atlas in {folder} cannot be used: {fault}", _REMAKE)
    return atlas


_DAMAGE = (ValueError, KeyError, TypeError, OverflowError)
_REMAKE = "run the workflow, which makes it; or copy it again if it was made elsewhere"


def _faults(atlas: Atlas) -> Iterator[str]:
    """What no atlas says, whoever made it."""
    count = len(atlas.landmarks_mm)
    if not (isinstance(atlas.id, str) and isinstance(atlas.axes, str)):
        yield "id and axes should be texts"
    if count < 2 or not np.isfinite(atlas.landmarks_mm).all():
        yield f"its {count} landmarks should be two points or more"
    if not (type(atlas.patch_voxels) is int and 2 <= atlas.patch_voxels <= _MOST_VOXELS):
        yield f"patch_voxels is {str(atlas.patch_voxels)[:20]}"
    for name, size in (("spacing_mm", atlas.spacing_mm), ("pitch_mm", atlas.pitch_mm)):
        if not (type(size) in (int, float) and 0 < size < np.inf):
            yield f"{name} is {str(size)[:20]}"
    if not ((atlas.neighbours >= 0) & (atlas.neighbours < count)).all():
        yield "neighbours name landmarks that are not there"
    if atlas.lobes is not None and atlas.lobes.shape != (count,):
        yield f"lobes are known of {atlas.lobes.shape} landmarks, not of {count}"
