"""Air inside the body: the lungs, the windpipe, gas in the belly.

Arrays are upright: z toward the head, y toward the back, x toward the subject's left.
"""

import numpy as np
from scipy import ndimage

from ctssl.prepare.upright import IN_PLANE

AIR_HU = -400.0
"""Lung and air lie below, the body above: halfway from lung to tissue."""

_ROOM_HU = -940.0  # the mean of air in the room, also under the noise of a low dose
_ROOM_NOISE_HU = 40.0
_ENCLOSED = 0.8  # share of a patch from which body lies on three sides; room between arm and chest less
_RIM_MM = 4.0  # what is left of the room at the skin, where a voxel holds both
_SHELL_MM = 3.0  # what is thinner than about twice this is no body


def inner_air(smooth: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) bool: dark voxels that body surrounds, or that a side of the image cuts off.

    So air around the body is left out, and foam in a table or a pillow.
    """
    dark = smooth < AIR_HU
    body = _body(~dark, voxel_mm)
    bodies = {(axis, end): _seen(body, axis, end) for axis in (1, 2) for end in (0, -1)}
    around = np.zeros(smooth.shape, np.uint8)
    for seen in bodies.values():
        around += seen
    room = _room(smooth, around >= 3)
    rim = max(1, round(_RIM_MM / voxel_mm))
    inner = dark & ~ndimage.binary_dilation(room, iterations=rim, mask=dark | room)
    edge = np.zeros_like(body)  # where a side of the image cuts a lung, it stands for the chest wall
    for axis, end in bodies:
        at = (slice(None),) * axis + (end,)
        edge[at] = inner[at]
    sides = np.zeros(smooth.shape, np.uint8)
    for (axis, end), seen in bodies.items():
        sides += seen | _seen(edge, axis, end)
    for axis in (1, 2):
        inner &= bodies[axis, 0] | bodies[axis, -1]
    return inner & (sides >= 3)


def _seen(what: np.ndarray, axis: int, end: int) -> np.ndarray:
    """(z, y, x) bool: the voxels from which `what` lies toward that end (0 or -1) of the axis."""
    flip = (axis,) if end else ()
    return np.flip(np.logical_or.accumulate(np.flip(what, flip), axis), flip)


def _room(smooth: np.ndarray, enclosed: np.ndarray) -> np.ndarray:
    """(z, y, x) bool: air around the body, in each slice joined to a side of the image.

    A side of the image may cut a lung, too, and emphysema is as dark as the room. But body encloses it on the
    other three sides, and it reaches no corner of the image.

    Args:
        smooth: (z, y, x) HU.
        enclosed: (z, y, x) bool, body on three sides or all four.
    """
    labels, count = ndimage.label(smooth < _ROOM_HU + _ROOM_NOISE_HU, IN_PLANE)
    flat = labels.ravel()
    size = np.maximum(np.bincount(flat, minlength=count + 1), 1)
    at_side = _held(count, labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])
    at_side &= np.bincount(flat, smooth.ravel(), count + 1) / size < _ROOM_HU
    at_side[0] = False
    open_air = np.bincount(flat, enclosed.ravel(), count + 1) / size < _ENCLOSED
    solid, solids = ndimage.label(at_side[labels])
    at_corner = _held(solids, solid[:, 0, 0], solid[:, 0, -1], solid[:, -1, 0], solid[:, -1, -1])
    at_corner[0] = False
    return (at_side & open_air)[labels] | at_corner[solid]


def _held(count: int, *parts: np.ndarray) -> np.ndarray:
    """(count + 1,) bool: the labels that these parts of an array hold."""
    held = np.zeros(count + 1, bool)
    for part in parts:
        held[part] = True
    return held


def _body(tissue: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) bool: the largest thing that is not thin."""
    thick = ndimage.binary_opening(tissue, iterations=max(1, round(_SHELL_MM / voxel_mm)))
    labels, _ = ndimage.label(thick)
    size = np.bincount(labels.ravel())
    size[0] = 0
    return (labels == size.argmax()) & thick
