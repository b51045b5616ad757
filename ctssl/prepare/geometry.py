"""Where the voxels of a file lie, and how they come onto axes at right angles.

Files hold steps: the way from one voxel to the next along each stored axis. SimpleITK wants lengths and a
rotation or reflection, so steps that are nearly at right angles are turned into some, and slices that a
tilted gantry shifted against each other are put back. Axes keep the order and the senses of the file.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ctssl.errors import ScanError

_MIN_VOXELS = 8
_MAX_EXTENT_MM = 3000.0  # whole-body scans stay below
_MAX_ORIGIN_MM = 1e5  # scanners' tables are metres long; far from zero, small numbers lose their digits
_MIN_EXTENT_MM = 50.0  # one lung of a child is larger
_ROUNDING = 1e-4  # cosines that headers round; not worth a word
_MAX_MOVE_MM = 1.0  # voxels may move so far for the sake of right angles; more is resampled
_FLAT = 0.01  # cosine: the two axes of a slice are at right angles
_MAX_TILT_DEG = 35.0  # gantries tilt up to 30


@dataclass(frozen=True)
class Place:
    """Where the voxels of an array (z, y, x) lie; its indices are k, j, i.

    Attributes:
        origin_mm: (3,) x, y, z of the first voxel's centre, LPS.
        steps_mm: (3, 3) column d leads from one voxel to the next along i, j, k; x, y, z in LPS mm.
    """

    origin_mm: np.ndarray
    steps_mm: np.ndarray

    @property
    def spacing_mm(self) -> np.ndarray:
        """(3,) length of a step along i, j, k."""
        return np.linalg.norm(self.steps_mm, axis=0)

    @property
    def directions(self) -> np.ndarray:
        """(3, 3) the steps as unit vectors."""
        return self.steps_mm / self.spacing_mm

    @property
    def skew(self) -> float:
        """The largest cosine between two axes: 0 at right angles."""
        return float(np.abs(self.directions.T @ self.directions - np.eye(3)).max())


@dataclass(frozen=True)
class Stored:
    """What a file holds.

    Attributes:
        values: (z, y, x) as the axes are stored, rescaled once; int16 or float32.
        place: of the voxels.
        repairs: what was mended so far, one sentence each.
        padding: whether the header named voxels as padding; they hold hounsfield.PADDING_HU.
        about: format, and for DICOM the scanner.
    """

    values: np.ndarray
    place: Place
    repairs: tuple[str, ...]
    padding: bool
    about: dict[str, Any]


def check_place(size: tuple[int, ...], place: Place, max_voxels: int) -> None:
    """Nothing, when a volume of this size (i, j, k) can be a scan. Reads no voxels.

    Raises:
        ScanError: too few or too many voxels, steps that are no lengths in mm.
    """
    if min(size) < _MIN_VOXELS:
        raise ScanError(
            f"the image has only {min(size)} voxels along one axis, a scan has {_MIN_VOXELS} or more",
            "give a whole scan",
        )
    if np.prod(size, dtype=float) > max_voxels:
        raise ScanError(
            f"the image has {' x '.join(map(str, size))} voxels, more than limits.max_voxels ({max_voxels})",
            "raise limits.max_voxels if the scan is really this large",
        )
    spacing = place.spacing_mm
    if not (np.isfinite(place.origin_mm).all() and np.isfinite(spacing).all() and spacing.min() > 0):
        raise ScanError(
            f"the spacing is {_lengths(spacing)} mm, a scan has three lengths above 0, and a finite origin",
            "correct the spacing in the header, or export the scan again",
        )
    extent_mm = np.array(size) * spacing
    if extent_mm.max() > _MAX_EXTENT_MM:
        raise ScanError(
            f"the image measures {extent_mm.max():.0f} mm along one axis, more than any scanner sees",
            "correct the spacing in its header; is it in mm?",
        )
    if extent_mm.max() < _MIN_EXTENT_MM:
        raise ScanError(
            f"the image measures only {_lengths(extent_mm)} mm, less than a lung",
            "correct the spacing in its header to mm; is it in metres or centimetres?",
        )
    if (far_mm := np.abs(place.origin_mm).max()) > _MAX_ORIGIN_MM:
        raise ScanError(
            f"the image lies {far_mm / 1e6:.3g} km away from the scanner's origin",
            "correct the origin in its header; is it in mm?",
        )


def straighten(
    values: np.ndarray, place: Place, *, outside: float, labels: bool = False
) -> tuple[np.ndarray, Place, tuple[str, ...]]:
    """Values (z, y, x) on axes at right angles, their place, and what was mended.

    Args:
        values: the array. It comes back as it is when nothing must be resampled.
        place: of its voxels.
        outside: what a resampled array holds where the slices saw nothing. Voxels that touch it become it.
        labels: values are labels, which are not mixed.

    Raises:
        ScanError: skewed axes that are not those of a tilted gantry.
    """
    repairs: tuple[str, ...] = ()
    size = values.shape[::-1]
    if _move_mm(place, size) > _MAX_MOVE_MM:
        values, place, repairs = _untilted(values, place, outside, labels)
        size = values.shape[::-1]
    if place.skew > _ROUNDING:
        moved = f"the axes were not quite at right angles (cosine {place.skew:.2g})"
        repairs += (f"{moved}: made so, which moves voxels by at most {_move_mm(place, size):.2f} mm",)
    place = _at_right_angles(place, size)
    return values, place, repairs


def to_image(values: np.ndarray, place: Place) -> Any:
    """The SimpleITK image of an array (z, y, x) whose axes are at right angles."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(values)
    image.SetOrigin(place.origin_mm.tolist())
    image.SetSpacing(place.spacing_mm.tolist())
    image.SetDirection(place.directions.ravel().tolist())
    return image


def _at_right_angles(place: Place, size: tuple[int, ...]) -> Place:
    """The nearest place with orthonormal directions; the image's centre stays."""
    left, _, right = np.linalg.svd(place.directions)
    steps = left @ right * place.spacing_mm
    half = (np.array(size) - 1) / 2
    return Place(place.origin_mm + (place.steps_mm - steps) @ half, steps)


def _move_mm(place: Place, size: tuple[int, ...]) -> float:
    """How far the corner moves most that `_at_right_angles` moves."""
    change = _at_right_angles(place, size).steps_mm - place.steps_mm
    signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1)
    return float(np.linalg.norm(change @ (signs * (np.array(size)[:, None] - 1) / 2), axis=0).max())


def _untilted(
    values: np.ndarray, place: Place, outside: float, labels: bool
) -> tuple[np.ndarray, Place, tuple[str, ...]]:
    """Slices moved in their own planes until they stand above each other. Nothing seen is lost."""
    stack = _stack_axis(place)
    a, b = (d for d in range(3) if d != stack)
    step, directions, spacing = place.steps_mm[:, stack], place.directions, place.spacing_mm
    plane = np.stack([directions[:, a], directions[:, b]], 1)
    along = np.linalg.lstsq(plane, step, rcond=None)[0]  # mm by which a slice is shifted along a and b
    normal = step - plane @ along
    tilt_deg = float(np.degrees(np.arctan2(np.linalg.norm(plane @ along), np.linalg.norm(normal))))
    if tilt_deg > _MAX_TILT_DEG:
        raise ScanError(
            f"the slices are shifted against each other as by a gantry tilted by {tilt_deg:.0f} degrees, "
            f"but no gantry tilts more than {_MAX_TILT_DEG:.0f}",
            "correct the directions in the header, or convert the original DICOM series again",
        )
    slices = np.moveaxis(values, 2 - stack, 0)  # then b, a or, as k, j, i go, the higher index first
    shifts = np.arange(len(slices))[:, None] * along[::-1] / spacing[[b, a]]  # (S, 2) voxels, for b and a
    resampled, low = _shifted(slices, shifts, outside, labels)
    origin = place.origin_mm + place.steps_mm[:, [b, a]] @ low
    steps = place.steps_mm.copy()
    steps[:, stack] = normal
    apart_mm = np.linalg.norm(plane @ along)
    record = (
        f"each slice was shifted by {apart_mm:.2f} mm against the one before, a gantry "
        f"tilted by {tilt_deg:.1f} degrees: resampled onto straight axes"
    )
    return np.moveaxis(resampled, 0, 2 - stack), replace(place, origin_mm=origin, steps_mm=steps), (record,)


def _stack_axis(place: Place) -> int:
    """Which index counts slices: the coarsest whose other two axes are at right angles."""
    cosines = place.directions.T @ place.directions
    possible = [d for d in range(3) if abs(np.delete(np.delete(cosines, d, 0), d, 1)[0, 1]) < _FLAT]
    if not possible:
        found = _lengths(np.abs(cosines[np.tril_indices(3, -1)]))
        raise ScanError(
            f"none of the image's axes are at right angles (cosines {found})",
            "this is more than a tilted gantry; convert the original DICOM series again",
        )
    return max(possible, key=lambda d: (round(float(place.spacing_mm[d]), 4), d))


def _shifted(
    slices: np.ndarray, shifts: np.ndarray, outside: float, labels: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Slices (S, b, a), each moved by shifts (S, 2) voxels, and the new first voxel's (2,) indices b, a."""
    low = np.floor(shifts.min(0))
    shape = np.array(slices.shape[1:]) + np.ceil(shifts.max(0) - low).astype(int)
    out = np.full((len(slices), *shape), outside, slices.dtype)
    for here, plane, start in zip(out, slices, low - shifts, strict=True):
        moved = _moved(plane, np.rint(start) if labels else start, shape, outside)
        here[...] = np.rint(moved) if np.issubdtype(out.dtype, np.integer) else moved
    return out, low


def _moved(plane: np.ndarray, start: np.ndarray, shape: np.ndarray, outside: float) -> np.ndarray:
    """(b, a) values of a slice from the position `start` (2,) on, linear; `outside` where it is mixed in."""
    whole = np.floor(start).astype(int)
    mixed = np.full(shape + 1, outside, np.float32)
    low, high = np.maximum(-whole, 0), np.minimum(shape + 1, plane.shape - whole)
    inner = tuple(slice(lo, hi) for lo, hi in zip(low, high, strict=True))
    mixed[inner] = plane[tuple(slice(lo, hi) for lo, hi in zip(low + whole, high + whole, strict=True))]
    for axis, part in enumerate((start - whole).astype(np.float32)):
        first, second = (np.take(mixed, range(k, shape[axis] + k), axis) for k in (0, 1))
        unseen = (first == outside) | ((second == outside) & (part > 0))
        mixed = np.where(unseen, np.float32(outside), (1 - part) * first + part * second)
    return mixed


def _lengths(numbers: np.ndarray) -> str:
    return " x ".join(f"{n:.3g}" for n in numbers)
