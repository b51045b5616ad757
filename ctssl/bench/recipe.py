"""The published recipe of training, as a baseline: float32, one patch after the other, full-size fields.

Source: transforms and order of batmanlab/Context_Aware_SSL@6fa7acb as MONAI 0.3.0 does them: gamma, noise,
then elastic and affine in one resampling; written here with torch alone.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def augmented(patch: Tensor, low: float, high: float) -> Tensor:
    """(1, 1, E, E, E) float32: one view of a patch (E, E, E) HU, axes z, y, x, window onto -1 to 1."""
    x = patch.float().clamp(low, high)
    if torch.rand(()) < 0.25:
        bottom, span = x.min(), x.max() - x.min()
        x = ((x - bottom) / (span + 1e-7)) ** float(torch.empty(()).uniform_(0.5, 4.5)) * span + bottom
    if torch.rand(()) < 0.25:
        x = x + torch.randn_like(x) * float(torch.rand(()) * 50)
    x = functional.grid_sample(
        x[None, None],
        _points(x.shape[-1])[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return (x - low) / ((high - low) / 2) - 1


def _points(edge: int) -> Tensor:
    """(E, E, E, 3): where each voxel of a view is read, x, y, z from -1 to 1."""
    line = torch.arange(edge) - (edge - 1) / 2
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"))
    field = torch.rand(3, 1, edge, edge, edge) * 2 - 1
    sigma = float(torch.empty(()).uniform_(8, 12))
    magnitude = float(torch.rand(()) * 1264)
    moved = grid + _smoothed(field, sigma)[:, 0] * magnitude
    angles = torch.empty(3).uniform_(-math.pi / 18, math.pi / 18)
    shift, scale = torch.empty(3).uniform_(-12, 12), torch.empty(3).uniform_(0.9, 1.1)
    turned = _rotation(angles) @ ((moved.flatten(1) * scale[:, None]) + shift[:, None])
    return turned.T.reshape(edge, edge, edge, 3).flip(-1) / ((edge - 1) / 2)


def _smoothed(field: Tensor, sigma: float) -> Tensor:
    """Three convolutions with erf taps, cut at 3 sigma."""
    tail = int(3 * sigma + 0.5)
    steps = torch.arange(-tail, tail + 1).float()
    taps = 0.5 * (torch.erf((steps + 0.5) / sigma / 2**0.5) - torch.erf((steps - 0.5) / sigma / 2**0.5))
    for axis in range(3):
        shape, pad = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[axis + 2], pad[axis] = len(taps), tail
        field = functional.conv3d(field, taps.view(shape), padding=pad)
    return field


def _rotation(angles: Tensor) -> Tensor:
    cos, sin = angles.cos().tolist(), angles.sin().tolist()
    about_z = torch.tensor([[1, 0, 0], [0, cos[0], -sin[0]], [0, sin[0], cos[0]]])
    about_y = torch.tensor([[cos[1], 0, sin[1]], [0, 1, 0], [-sin[1], 0, cos[1]]])
    about_x = torch.tensor([[cos[2], -sin[2], 0], [sin[2], cos[2], 0], [0, 0, 1]])
    return about_z @ about_y @ about_x
