"""Arrays turned upright and back: z toward the head, y toward the back, x toward the subject's left."""

import numpy as np
from scipy import ndimage

IN_PLANE = np.zeros((3, 3, 3), bool)
"""Neighbours within an upright slice only, for ndimage.label."""
IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)

_GROUPS = ("SI", "PA", "LR")  # of z, y, x; the first letter is where upright axes point


def to_upright(array: np.ndarray, axes: str) -> np.ndarray:
    """View (z, y, x) along S, P, L of an array z, y, x along a grid's `axes`, any of the 48."""
    order, flips = _turn(axes)
    return np.flip(array.transpose(order), flips)


def from_upright(array: np.ndarray, axes: str) -> np.ndarray:
    """View of an upright array along a grid's `axes`: undoes `to_upright`."""
    order, flips = _turn(axes)
    return np.flip(array, flips).transpose(np.argsort(order))


def _turn(axes: str) -> tuple[list[int], list[int]]:
    """Order of the array's axes for transpose, then axes to flip."""
    at = [next(d for d, letter in enumerate(axes) if letter in group) for group in _GROUPS]
    return [2 - d for d in at], [n for n, d in enumerate(at) if axes[d] != _GROUPS[n][0]]
