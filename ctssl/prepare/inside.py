"""Air inside the body: the lungs, the windpipe, gas in the belly.

Arrays are upright: z toward the head, y toward the back, x toward the subject's left.
"""

import numpy as np
from scipy import ndimage

AIR_HU = -400.0
"""Lung and air lie below, the body above: halfway from lung to tissue."""

IN_PLANE = np.zeros((3, 3, 3), bool)
"""Neighbours within a slice only, for ndimage.label."""
IN_PLANE[1] = ndimage.generate_binary_structure(2, 1)

_ROOM_HU = -940.0  # the mean of air in the room, also under the noise of a low dose
_ROOM_NOISE_HU = 40.0
_RIM_MM = 4.0  # what is left of the room at the skin, where a voxel holds both
_SHELL_MM = 3.0  # what is thinner than about twice this is no body


def inner_air(smooth: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) bool: dark voxels that body surrounds, or that a side of the image cuts off.

    So air around the body is left out, and foam in a table or a pillow.
    """
    dark = smooth < AIR_HU
    room = _room(smooth)
    rim = max(1, round(_RIM_MM / voxel_mm))
    inner = dark & ~ndimage.binary_dilation(room, iterations=rim, mask=dark | room)
    body = _body(smooth >= AIR_HU, voxel_mm)
    edge = np.zeros_like(body)  # where a side of the image cuts a lung, it stands for the chest wall
    for axis in (1, 2):
        for end in (0, -1):
            at = (slice(None),) * axis + (end,)
            edge[at] = inner[at]
    sides = np.zeros(smooth.shape, np.uint8)
    for axis in (1, 2):
        bodies = np.zeros(smooth.shape, bool)
        for flip in ((), (axis,)):
            seen = np.flip(np.logical_or.accumulate(np.flip(body, flip), axis), flip)
            bodies |= seen
            sides += seen | np.flip(np.logical_or.accumulate(np.flip(edge, flip), axis), flip)
        inner &= bodies
    return inner & (sides >= 3)


def _room(smooth: np.ndarray) -> np.ndarray:
    """(z, y, x) bool: air around the body, in each slice joined to a side of the image."""
    labels, count = ndimage.label(smooth < _ROOM_HU + _ROOM_NOISE_HU, IN_PLANE)
    sides = [labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]]
    at_side = np.zeros(count + 1, bool)
    at_side[np.unique(np.concatenate([side.ravel() for side in sides]))] = True
    flat = labels.ravel()
    mean = np.bincount(flat, smooth.ravel(), count + 1) / np.maximum(
        np.bincount(flat, minlength=count + 1), 1
    )
    at_side &= mean < _ROOM_HU
    at_side[0] = False
    return at_side[labels]


def _body(tissue: np.ndarray, voxel_mm: float) -> np.ndarray:
    """(z, y, x) bool: the largest thing that is not thin."""
    thick = ndimage.binary_opening(tissue, iterations=max(1, round(_SHELL_MM / voxel_mm)))
    labels, _ = ndimage.label(thick)
    size = np.bincount(labels.ravel())
    size[0] = 0
    return (labels == size.argmax()) & thick
