"""The canonical lungs, as functions of x, y, z in LPS mm (arrays that broadcast).

The origin lies mid-chest between the hila: x grows to the subject's left, y to the back, z to the head.
A margin is about the distance in mm from a surface: positive inside, negative outside.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator

from ctssl.prepare.grid import LEFT, RIGHT

LOW_MM = np.array([-190.0, -110.0, -170.0])
HIGH_MM = np.array([190.0, 132.0, 165.0])
"""The box that holds the canonical chest up to its muscles; fat lies beyond."""

LOBES = ("none", "right upper", "right middle", "right lower", "left upper", "left lower")
"""Names of the labels of `lobes`."""

HEART = ((24.0, -30.0, -46.0), (63.0, 46.0, 50.0))
"""Centre and radii in mm, along `HEART_AXES`."""

HEART_AXES = np.array([[0.80, -0.38, -0.46], [0.35, 0.92, -0.15], [0.48, -0.04, 0.87]])
"""Rows: from base to apex (left, front, down), and two across."""

_HEIGHTS = [-170.0, -60, 0, 40, 70, 95, 115, 130, 150]
_HALF_WIDTH = PchipInterpolator(_HEIGHTS, [131, 135, 132, 123, 109, 92, 74, 58, 30])
_FRONT = PchipInterpolator(_HEIGHTS, [-93, -95, -90, -77, -61, -42, -22, -4, 24])
_BACK = PchipInterpolator(_HEIGHTS, [90, 94, 95, 92, 86, 77, 66, 54, 36])
_APEX_MM = ((-47.0, 136.0), (46.0, 134.0))  # x and z of the top of each lung


def cage_wall(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half width, front and back (y) in mm of the inner chest wall at heights z."""
    z = np.clip(z, _HEIGHTS[0], _HEIGHTS[-1])
    return tuple(f(z).astype(np.float32) for f in (_HALF_WIDTH, _FRONT, _BACK))


def cage(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Margin of the space inside the ribs."""
    half, front, back = cage_wall(z)
    depth = (back - front) / 2
    across, along = np.abs(x) / half, np.abs(y - (front + back) / 2) / depth
    return (1 - (across**2.5 + along**2.3) ** (1 / 2.4)) * np.minimum(half, depth)


def heart(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Margin of the heart with its sac."""
    centre, radii = HEART
    moved = (x - centre[0], y - centre[1], z - centre[2])
    parts = [sum(a * m for a, m in zip(axis, moved, strict=True)) for axis in HEART_AXES]
    norm = np.sqrt(sum((p / r) ** 2 for p, r in zip(parts, radii, strict=True)))
    return (1 - norm) * 50


def diaphragm(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Margin of the space above the diaphragm: two domes that fall toward the wall, most at the back."""
    share = _ramp(x, -30, 26)  # one dome passes into the other under the heart
    height = (1 - share) * dome_height(x, y, RIGHT) + share * dome_height(x, y, LEFT)
    return 0.8 * (z - height)


def dome_height(x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
    """Height z in mm of one dome over x, y."""
    outward = -x - 68 if side == RIGHT else x - 72
    backward = y + 12
    across, fall_across = outward / 66, np.where(outward > 0, 44.0, 14.0)
    along, fall_along = backward / np.where(backward > 0, 104.0, 82.0), np.where(backward > 0, 70.0, 20.0)
    share = across**2 + along**2
    fall = (fall_across * across**2 + fall_along * along**2) * share**0.15
    return (-66.0 if side == RIGHT else -80.0) - fall


def mediastinum(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Margin of what lies between the lungs, without the heart."""
    hilar = np.exp(-(((z - 18) / 24) ** 2)) * np.exp(-(((y - 10) / 20) ** 2))
    middle = _ramp(y, -92, -52)
    behind = _ramp(y, 40, 62)
    upper = _ramp(z, 60, 110)
    atrium = np.exp(-(((z + 38) / 34) ** 2)) * np.exp(-(((y + 18) / 34) ** 2))
    cava = np.exp(-(((y + 18) / 13) ** 2)) * _ramp(z, 0, 40)
    right = 7 + (17 - 4 * upper) * middle - 4 * behind + 17 * hilar + 11 * atrium + 6 * cava
    arch = np.exp(-(((z - 66) / 16) ** 2)) * np.exp(-(((y - 8) / 42) ** 2))
    aorta = np.exp(-(((y - 52) / 17) ** 2)) * _ramp(-z, -72, -52)
    left = 7 + (16 - 2 * upper) * middle - 2 * behind + 15 * hilar + 14 * arch + 13 * aorta
    spine = 29 - np.hypot(x, (y - spine_back(z) - 4) * 1.05)
    return np.maximum(np.where(x < 0, right + x, left - x), spine)


def spine_back(z: np.ndarray) -> np.ndarray:
    """y in mm of the middle of the vertebral bodies: the back is round."""
    return 70 - 0.0007 * (z - 5) ** 2


def rounding(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Margin that takes the corners off each lung where it turns toward the mediastinum, most at the back."""
    half, front, back = cage_wall(z)
    depth, middle = (back - front) / 2, (front + back) / 2
    centre = (half + 6) / 2
    across, along = np.abs(np.abs(x) - centre) / (half - centre + 4), np.abs(y - middle) / depth
    power = np.where(y > middle, 3.0, 5.0)
    medial = np.abs(x) < centre
    return np.where(medial, (1 - (across**power + along**power) ** (1 / power)) * 60, 60.0)


def lung_margin(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Margin of both lungs: inside the ribs, above the diaphragm, beside heart and mediastinum."""
    apex_x, apex_z = (np.where(x < 0, r, left) for r, left in zip(*_APEX_MM, strict=True))
    bend = np.where(np.abs(x) < np.abs(apex_x), 0.021, 0.004)  # the chest wall bounds the lateral side
    dome = 0.7 * (apex_z - bend * (x - apex_x) ** 2 - z)
    parts = [cage(x, y, z), diaphragm(x, y, z), dome, -heart(x, y, z), -mediastinum(x, y, z)]
    parts.append(rounding(x, y, z))
    margin = parts[0]
    for part in parts[1:]:
        margin = np.minimum(margin, part)
    return margin


def lungs(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """uint8: 1 in the right lung, 2 in the left, 0 elsewhere."""
    return np.where(lung_margin(x, y, z) > 0, np.where(x < 0, RIGHT, LEFT), 0).astype(np.uint8)


def fissures(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heights in mm above the oblique fissure, and above the horizontal one (right lung only)."""
    lateral = np.abs(x) - 70
    wave = 5 * np.sin(y / 32 + np.where(x < 0, 0.0, 0.9))
    oblique = np.where(x < 0, 62 - 1.06 * (84 - y), 70 - 1.13 * (84 - y)) + wave - 0.14 * lateral
    horizontal = 2 - 0.08 * (y + 30) - 0.0018 * lateral**2 + 3 * np.sin(x / 22)
    return z - oblique, z - horizontal


def lobes(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """uint8 labels, named by LOBES; 0 outside the lungs."""
    side = lungs(x, y, z)
    oblique, horizontal = fissures(x, y, z)
    right = np.where(oblique < 0, 3, np.where(horizontal < 0, 2, 1))
    left = np.where(oblique < 0, 5, 4)
    return np.where(side == RIGHT, right, np.where(side == LEFT, left, 0)).astype(np.uint8)


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
