"""Hard cases: scans that a pipeline meets and that are easy to get wrong.

Each is a name. Some alter the anatomy, some the image, some the field of view or how the body lies.
`points` are canonical x, y, z in LPS mm; `lungs` is 1 right, 2 left.
"""

from collections.abc import Collection

import numpy as np
from scipy import ndimage

from ctssl.errors import ConfigError
from ctssl.prepare.grid import LEFT, RIGHT

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Ascending, evenly spaced centres of the voxels along x, y, z, LPS mm. A scan's array is z, y, x."""

HARD_CASES = {
    "one-lung-right": "the right lung was taken out, fluid fills its place",
    "one-lung-left": "the left lung was taken out, fluid fills its place",
    "pneumothorax": "air in front of and above a right lung that has partly collapsed",
    "motion": "breathing and heartbeat: double contours in some slices",
    "metal": "screws and rods in the spine, a pacemaker; streaks in their slices",
    "cut-bottom": "the field of view ends above the lung bases",
    "cut-top": "the field of view ends below the apices",
    "cut-side": "the field of view ends inside the right lung",
    "tilt": "the subject lies turned about the long axis",
    "low-dose": "four times the noise",
}

FLUID_HU = 20.0
METAL_HU = 8000.0  # a scanner's scale ends far below: it shows its largest value
LOW_DOSE_NOISE = 4.0
TILT_DEG = 22.0
_APART = (
    {"one-lung-right", "one-lung-left"},
    {"one-lung-right", "pneumothorax"},
)
_CUT = {
    "cut-bottom": (2, 0, 0.3),
    "cut-top": (2, 1, 0.2),
    "cut-side": (0, 0, 0.12),
}  # axis, side, share of lungs
_GAP_MM = 8.0  # half the width of the bronchi and vessels that a lung closes around
_RIM_MM = 45.0  # thickest air of the pneumothorax
_SHIFT_MM = 7.0, 3.0  # motion along z, y
_PERIOD_MM = 45.0  # the table's way in one breath
_STREAK_HU, _STREAK_MM = 450.0, 25.0  # height of a streak at the metal, distance at which half is left
_BONE_TOP_HU = 2000.0  # no tissue is denser: what is, is metal

# Rods in mm: from, to, radius. The first three pairs are screws beside the spinal canal, the last joins them.
_RODS = [
    *(((s * 20.0, 112.0, z), (s * 9.0, 66.0, z), 3.0) for z in (-30.0, 5.0, 40.0) for s in (-1, 1)),
    *(((s * 20.0, 112.0, -40.0), (s * 20.0, 112.0, 50.0), 3.0) for s in (-1, 1)),
]
_PACEMAKER = ((82.0, -67.0, 90.0), (24.0, 6.0, 20.0))  # centre, radii
_CHEST_SLOPE = 0.55  # the front of the chest goes back as it rises
_HILUM_MM = (-38.0, 10.0, 18.0)  # where the collapsed lung hangs


def check(hard: Collection[str]) -> None:
    """Nothing.

    Raises:
        ConfigError: a name that is no hard case, or cases that one body cannot have together.
    """
    unknown = [name for name in hard if name not in HARD_CASES]
    if unknown:
        raise ConfigError(
            f"hard cases are {', '.join(HARD_CASES)}, but there came {', '.join(unknown)}",
            "correct the name",
        )
    for pair in _APART:
        if pair <= set(hard):
            raise ConfigError(
                f"one lung stays, and only a lung can collapse, but there came {' and '.join(sorted(pair))}",
                "drop one of the two",
            )


def extra_rotation_deg(hard: Collection[str]) -> np.ndarray:
    """(3,) degrees about x, y, z by which the body lies turned."""
    check(hard)
    return np.array([0.0, 0.0, TILT_DEG if "tilt" in hard else 0.0])


def cut_box(
    low_mm: np.ndarray,
    high_mm: np.ndarray,
    lungs_low_mm: np.ndarray,
    lungs_high_mm: np.ndarray,
    hard: Collection[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (3,), (3,) of the field of view, x, y, z in LPS mm, cut off inside the box of the lungs."""
    check(hard)
    box = np.array([low_mm, high_mm], float)
    for name in (name for name in _CUT if name in hard):
        axis, side, share = _CUT[name]
        wall, far = (lungs_low_mm, lungs_high_mm)[:: 1 - 2 * side]
        box[side, axis] = wall[axis] + share * (far[axis] - wall[axis])
    return box[0], box[1]


def alter_anatomy(
    hu: np.ndarray,
    lungs: np.ndarray,
    points_mm: np.ndarray,
    hard: Collection[str],
) -> tuple[np.ndarray, np.ndarray]:
    """The scene (z, y, x) float32 and its lungs (z, y, x) uint8 after an operation or a leak.

    The inputs are left as they are.

    Args:
        hu: (z, y, x).
        lungs: (z, y, x), 1 right, 2 left.
        points_mm: (z, y, x, 3) canonical x, y, z of the voxels.
        hard: names of hard cases; those that do not concern the anatomy are passed over.
    """
    check(hard)
    hu, lungs = hu.astype(np.float32), lungs.copy()
    if "pneumothorax" in hard and (lungs == RIGHT).any():
        _collapse(hu, lungs, points_mm)
    for name, label in (("one-lung-right", RIGHT), ("one-lung-left", LEFT)):
        if name in hard:
            _fill(hu, lungs, label, points_mm)
            lungs[lungs == label] = 0
    if "metal" in hard:
        metal = _implants(points_mm) & (lungs == 0) & (hu > -500)  # in tissue, not in air
        hu[metal] = METAL_HU
    return hu, lungs


def _place(lungs: np.ndarray, label: int, spacing_mm: list[float]) -> np.ndarray:
    """(z, y, x) bool: a lung with the vessels and bronchi in it, which its mask may leave out."""
    return _closed(lungs == label, spacing_mm) & (lungs != RIGHT + LEFT - label)


def _closed(part: np.ndarray, spacing_mm: list[float]) -> np.ndarray:
    """(z, y, x) bool: the part with its gaps narrower than twice _GAP_MM, whatever the voxels."""
    out = part.copy()
    if not part.any():
        return out
    pad = [int(np.ceil(_GAP_MM / step)) + 1 for step in spacing_mm]
    box = tuple(
        slice(max(found.start - n, 0), found.stop + n)
        for found, n in zip(ndimage.find_objects(part.astype(np.uint8))[0], pad, strict=True)
    )
    wide = ndimage.distance_transform_edt(~part[box], spacing_mm) <= _GAP_MM
    out[box] |= True if wide.all() else ndimage.distance_transform_edt(wide, spacing_mm) > _GAP_MM
    return out


def _collapse(hu: np.ndarray, lungs: np.ndarray, points_mm: np.ndarray) -> None:
    """Nothing; air takes the front and the top of the right lung, the rest keeps all of its tissue."""
    spacing_mm = _spacing_mm(points_mm)
    right, place = lungs == RIGHT, _place(lungs, RIGHT, spacing_mm)
    depth_mm = ndimage.distance_transform_edt(place, spacing_mm)
    points = points_mm[right]
    front, top = np.clip((20 - points[:, 1]) / 100, 0, 1), np.clip((points[:, 2] - 10) / 110, 0, 1)
    hangs = np.clip((np.linalg.norm(points - np.array(_HILUM_MM, np.float32), axis=1) - 15) / 40, 0, 1)
    rim = _RIM_MM * np.minimum(0.65 * front + 0.65 * top, 1) * hangs
    air = right.copy()
    air[right] = depth_mm[right] < rim
    rest = right & ~air
    soft = rest & (hu < -500)
    hu[soft] = -1000 + (hu[soft] + 1000) * right.sum() / max(rest.sum(), 1)
    hu[air | (_closed(air, spacing_mm) & place & ~right)] = -1000  # no vessels in the air
    lungs[air] = 0


def _fill(hu: np.ndarray, lungs: np.ndarray, label: int, points_mm: np.ndarray) -> None:
    """Nothing; fluid takes a lung's place, up to the voxels that hold its edge in part."""
    place = _place(lungs, label, _spacing_mm(points_mm))
    edge = ndimage.binary_dilation(place) & (lungs != RIGHT + LEFT - label) & (hu < -110)
    hu[place | edge] = FLUID_HU


def _spacing_mm(points_mm: np.ndarray) -> list[float]:
    """Distance of neighbouring voxels along z, y, x, at the middle of the scan."""
    middle = tuple(n // 2 for n in points_mm.shape[:3])
    here = points_mm[middle]
    before = [tuple(m - (a == axis) for a, m in enumerate(middle)) for axis in range(3)]
    return [float(np.linalg.norm(here - points_mm[index])) for index in before]


def _implants(points_mm: np.ndarray) -> np.ndarray:
    """(z, y, x) bool: inside a rod or the pacemaker."""
    centre, radii = np.array(_PACEMAKER, np.float32)
    inside = np.zeros(points_mm.shape[:3], bool)
    near = np.flatnonzero((np.abs(points_mm - centre) < radii * [1, 4, 1]).all(-1))
    away = points_mm.reshape(-1, 3)[near] - centre
    away[:, 1] -= _CHEST_SLOPE * away[:, 2]
    inside.reshape(-1)[near] = ((away / radii) ** 4).sum(-1) < 1  # a rounded box
    spine = (np.abs(points_mm[..., 0]) < 25) & (points_mm[..., 1] > 60) & (points_mm[..., 1] < 120)
    near = np.flatnonzero(spine)
    at = points_mm.reshape(-1, 3)[near]
    for start, end, radius in _RODS:
        axis = np.subtract(end, start)
        along = np.clip((at - start) @ axis / (axis @ axis), 0, 1)
        off = at - start - along[:, None] * axis
        inside.reshape(-1)[near[(off**2).sum(-1) < radius**2]] = True
    return inside


def move(hu: np.ndarray, axes_mm: Axes, hard: Collection[str], rng: np.random.Generator) -> np.ndarray:
    """(z, y, x) float32: with `motion`, double contours; without, as it came.

    Each slice is mixed with itself a few mm further up and forward; how much follows the breath along z.
    """
    check(hard)
    if "motion" not in hard:
        return hu
    _, y_mm, z_mm = axes_mm
    moved = hu
    for axis, centres, shift_mm in ((0, z_mm, _SHIFT_MM[0]), (1, y_mm, _SHIFT_MM[1])):
        at = np.interp(centres + shift_mm, centres, np.arange(len(centres)))
        low = np.minimum(at.astype(int), len(centres) - 2)
        share = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        moved = np.take(moved, low, axis) * (1 - share) + np.take(moved, low + 1, axis) * share
    breath = np.sin(np.pi * z_mm / _PERIOD_MM + rng.uniform(0, np.pi)) ** 2
    weight = (0.5 * breath).astype(np.float32)[:, None, None]
    return hu + weight * (moved - hu)


def streak(hu: np.ndarray, axes_mm: Axes, hard: Collection[str], rng: np.random.Generator) -> np.ndarray:
    """(z, y, x) float32: with `metal`, its streaks; without, as it came.

    Dark and bright rays run through each piece of metal in a slice, the same on both sides of it, weaker
    with distance.
    """
    check(hard)
    if "metal" not in hard:
        return hu
    out = hu.copy()
    x_mm, y_mm = axes_mm[0], axes_mm[1][:, None]
    angles = 360
    for k in np.flatnonzero((hu > _BONE_TOP_HU).any((1, 2))):
        pieces, count = ndimage.label(hu[k] > _BONE_TOP_HU)
        for row, column in ndimage.center_of_mass(pieces > 0, pieces, range(1, count + 1)):
            x = x_mm - np.interp(column, np.arange(len(x_mm)), x_mm)
            y = y_mm - np.interp(row, np.arange(len(y_mm)), y_mm[:, 0])
            rays = ndimage.gaussian_filter1d(rng.standard_normal(angles), 3.0, mode="wrap")
            rays *= _STREAK_HU / np.abs(rays).max()
            turn = np.floor(np.arctan2(y, x) * angles / np.pi).astype(int) % angles
            out[k] += rays[turn] / (1 + np.hypot(x, y) / _STREAK_MM)
    return np.where(hu > _BONE_TOP_HU, hu, out)
