"""An atlas that comes as files: a lung mask and, maybe, its CT and its own list of landmarks.

The published COPDGene atlas is one: axes L-A-S, 581 landmarks given as corners of cubes of 32 voxels.
"""

import csv
import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib.format import read_array_header_1_0, read_array_header_2_0, read_magic
from scipy.spatial import cKDTree

from ctssl.config.prepare import Atlas as Settings
from ctssl.errors import ConfigError, ScanError
from ctssl.log import tell
from ctssl.prepare.atlas import Anatomy
from ctssl.prepare.graph import grid_neighbours
from ctssl.prepare.grid import LEFT, RIGHT, Grid, axes_direction
from ctssl.prepare.landmarks import lung_fraction
from ctssl.prepare.reading import read_labels, read_scan
from ctssl.prepare.volume import frame_of, image_on_grid
from ctssl.table import CONTROL

PUBLISHED_EDGE = 32
"""Edge in voxels of the cubes whose corners the published list gives."""

_APART_MM = 30.0  # of the centres of two lungs, from right to left, at least
_FAR = 1e6  # neither millimetres nor voxels reach so far
_AIR_HU = -1024
_INT16 = (-32768, 32767)
_HEADERS: dict[Any, Callable[..., Any]] = {(1, 0): read_array_header_1_0, (2, 0): read_array_header_2_0}
_MOST_BYTES, _MOST_HEADER = 1 << 26, 1000
_COLUMNS = (["x", "y", "z"], ["x_mm", "y_mm", "z_mm"])


def read_files(settings: Settings, max_voxels: int) -> tuple[Anatomy, dict[str, Any]]:
    """The anatomy on the file's own axes and the atlas's spacing, and what `landmarked` is given of files.

    The mask is looked up at the nearest voxel: where its spacing is the atlas's it stays as it is.
    Landmarks keep number and order.

    Raises:
        ConfigError: names the key of the file that cannot be used.
    """
    assert settings.mask is not None, "the config sees to that"
    image = _read("mask", settings.mask, read_labels, max_voxels)
    grid = frame_of(image, settings.spacing_mm, _axes_of(image, settings.mask))
    lungs = _sides(image_on_grid(image, grid, outside=0, labels=True), grid, settings.mask)
    hu = None
    if settings.ct is not None:
        ct = _read("ct", settings.ct, read_scan, max_voxels)
        values = image_on_grid(ct.image, grid, outside=_AIR_HU)
        hu = np.clip(np.rint(values), *_INT16).astype(np.int16)
        _check_ct(hu, lungs, settings.ct)
    given: dict[str, Any] = {"files": {"mask": _sha256(settings.mask)}}
    if settings.landmarks is not None:
        points = read_points(settings.landmarks)
        if settings.landmark_points == "corners":
            points = centres_of_corners(points, image, settings.landmarks)
        _check_landmarks(points, lungs, grid, settings)
        given["landmarks_mm"] = points
        given["files"]["landmarks"] = _sha256(settings.landmarks)
    return Anatomy(grid, lungs, hu), given


def read_points(path: Path) -> np.ndarray:
    """(N, 3) x, y, z of a .npy array, or of a .csv table with these columns, in the file's order.

    Raises:
        ConfigError: unreadable, or not two or more finite points, or one point twice.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size >> 20} MB, which no list of landmarks has")
        points = _array(path) if path.suffix.lower() == ".npy" else _table(path)
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise ConfigError(f"atlas.landmarks {path} cannot be read: {str(error)[:300]}", _POINTS) from error
    if points.ndim != 2 or points.shape[1] != 3:
        raise ConfigError(f"atlas.landmarks {path} holds {points.shape} values, not N points", _POINTS)
    if len(points) < 2:
        raise ConfigError(f"atlas.landmarks {path} holds {len(points)} points, two are needed", _POINTS)
    if not (np.abs(points) < _FAR).all():  # written so that it is true of NaN
        raise ConfigError(f"atlas.landmarks {path} holds values that are not finite, or no points", _POINTS)
    _, first, times = np.unique(np.round(points, 4), axis=0, return_index=True, return_counts=True)
    if len(first) < len(points):
        raise ConfigError(
            f"atlas.landmarks {path} holds {len(points) - len(first)} of its {len(points)} points again, "
            f"e.g. {points[first[times.argmax()]].tolist()}",
            "give each landmark once; those after a row that is taken out get other numbers",
        )
    return points


def _array(path: Path) -> np.ndarray:
    """A .npy array of numbers; the header is believed when the file has the bytes that it promises."""
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            raise ValueError("it is an archive of arrays (.npz), not one array")
        file.seek(0)
        try:
            version = read_magic(file)
            shape, _, dtype = _HEADERS[version](file, max_header_size=_MOST_HEADER)
        except (ValueError, KeyError, TokenError) as error:  # numpy's words advise to unpickle it
            raise ValueError("it is no .npy file, or its header is damaged or of an unknown kind") from error
        if dtype.kind not in "iuf":
            raise ValueError(f"it holds values of type {dtype}, not numbers")
        promised, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - file.tell()
        if min(shape, default=0) < 0 or promised > there:
            raise ValueError(f"its header promises an array {shape}, but {there} bytes follow")
        file.seek(0)
        return np.load(file, allow_pickle=False).astype(float)


def _table(path: Path) -> np.ndarray:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        names = [name.strip().lower() for name in next(reader, [])]
        found = [columns for columns in _COLUMNS if all(names.count(name) == 1 for name in columns)]
        if len(found) != 1:
            told = ", ".join(names)[:200] or "none"
            raise ValueError(f"its columns are {CONTROL.sub('?', told)}")
        places = [names.index(name) for name in found[0]]
        rows = []
        for row in filter(None, reader):
            if any(CONTROL.search(cell) for cell in row) or any("_" in row[place] for place in places):
                raise ValueError(f"line {reader.line_num} holds a line break in quotes, or no number")
            rows.append([float(row[place]) for place in places])
    return np.array(rows).reshape(-1, 3)


_POINTS = "give .npy with shape (N, 3), or .csv with the columns x, y, z or x_mm, y_mm, z_mm"


def centres_of_corners(corners: np.ndarray, image: Any, path: Path) -> np.ndarray:
    """(N, 3) in LPS mm: middles of cubes of 32 voxels of the image, given by their lowest index x, y, z.

    A corner is an index, so the cube reaches along the image's own axes. The middle is the same point
    whatever axes an array has.

    Raises:
        ConfigError: corners that are not whole numbers.
    """
    if not np.array_equal(corners, np.rint(corners)):
        raise ConfigError(
            f"atlas.landmarks {path} are corners, but not whole numbers of voxels",
            "points in mm go with landmark_points: centres",
        )
    middle = corners + (PUBLISHED_EDGE - 1) / 2
    direction = np.array(image.GetDirection()).reshape(3, 3)
    return middle * np.array(image.GetSpacing()) @ direction.T + np.array(image.GetOrigin())


def _read(key: str, path: Path, reader: Callable[[Path, int], Any], max_voxels: int) -> Any:
    if not path.exists():
        raise ConfigError(
            f"atlas.{key} is {path}, which does not exist", "relative paths start at the working directory"
        )
    try:
        return reader(path, max_voxels)
    except ScanError as error:
        raise ConfigError(f"atlas.{key} {path} cannot be used: {error.message}", error.advice) from error


def _axes_of(image: Any, path: Path) -> str:
    """The letters toward which the image's axes grow, e.g. LAS."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    axes = "".join("LPS"[d] if direction[d, d] > 0 else "RAI"[d] for d in range(3))
    if not np.allclose(axes_direction(axes), direction, atol=1e-3):
        raise ConfigError(
            f"the axes of atlas.mask {path} do not run along the body from side to side, front to back and "
            f"foot to head, in this order: its direction is {np.round(direction, 3).tolist()}",
            "resample it onto such axes (LPS, LAS, RAS, ...), and its CT and landmarks with it",
        )
    return axes


def _sides(labels: np.ndarray, grid: Grid, path: Path) -> np.ndarray:
    """(z, y, x) uint8, 1 right and 2 left, of two values above 0: the right lung has the lower x."""
    values = [value for value in np.unique(labels) if value != 0]
    if len(values) != 2:
        raise ConfigError(
            f"beside 0, atlas.mask {path} holds {', '.join(f'{v:g}' for v in values[:8]) or 'no value'}",
            "give 0 outside and one value for each lung, e.g. 1 right and 2 left",
        )
    middles = [float(grid.to_points(np.argwhere(labels == v).astype(float))[:, 0].mean()) for v in values]
    (right_mm, right), (left_mm, left) = sorted(zip(middles, values, strict=True))
    if left_mm - right_mm < _APART_MM:
        raise ConfigError(
            f"the two values of atlas.mask {path} have their middles {left_mm - right_mm:.0f} mm apart from "
            "right to left, which is not where two lungs lie",
            "give one value for each lung; is the orientation in the file's header right?",
        )
    tell(f"atlas mask: value {right:g} is the right lung, {left:g} the left, by their places")
    return np.where(labels == right, RIGHT, np.where(labels == left, LEFT, 0)).astype(np.uint8)


def _check_ct(hu: np.ndarray, lungs: np.ndarray, path: Path) -> None:
    """Nothing, when the lungs lie where the mask says."""
    typical = float(np.median(hu[lungs > 0]))
    if not -1000 < typical < -500:
        raise ConfigError(
            f"atlas.ct {path} has a median of {typical:.0f} HU inside the mask, where lung has about -850",
            "give the CT that the mask was drawn on, with the same place in space",
        )


def _check_landmarks(points_mm: np.ndarray, lungs: np.ndarray, grid: Grid, settings: Settings) -> None:
    """Nothing, when the points lie where landmarks can lie, a pitch from their neighbours."""
    low, high = np.sort(grid.corners_mm(), 0)
    outside = int((~((points_mm >= low) & (points_mm <= high)).all(1)).sum())
    empty = float((lung_fraction(lungs, grid, points_mm, edge=settings.patch_voxels) == 0).mean())
    if outside or empty > 0.5:
        raise ConfigError(
            f"of {len(points_mm)} points in atlas.landmarks {settings.landmarks}, {outside} lie outside the "
            f"mask's image, and {100 * empty:.0f} % have no lung in their patch",
            f"are they {settings.landmark_points}, in the order x, y, z? Corners count voxels of the mask; "
            "centres are mm, x to the left, y to the back, z to the head",
        )
    alone = 1 - len(np.unique(grid_neighbours(points_mm, settings.pitch_mm))) / len(points_mm)
    if alone > 0.5:
        nearest = cKDTree(points_mm).query(points_mm, k=2)[0][:, 1]
        raise ConfigError(
            f"of {len(points_mm)} points in atlas.landmarks {settings.landmarks}, {100 * alone:.0f} % have "
            f"no neighbour: the median distance to the nearest point is {np.median(nearest):.4g} mm, and "
            f"atlas.pitch_mm is {settings.pitch_mm:g}",
            "set atlas.pitch_mm to the distance of neighbours in the list",
        )


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
