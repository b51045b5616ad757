"""Batch norm and ELU in one, on the CPU, of maps whose channels lie next to each other in memory.

torch computes such maps voxel by voxel, channel by channel. Of 8 channels that leaves most of a processor's
width idle: ten times slower than it could be (seen: torch 2.13). Here a map is read as a matrix with the
channels of some voxels side by side, about WIDTH columns, whose statistics are put together afterwards.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WIDTH = 64
"""Columns of the matrix."""

_TYPES = (torch.float32, torch.bfloat16, torch.float16)
_aten = torch.ops.aten


def fits(x: Tensor) -> bool:
    """Whether x (B, C, Z, Y, X) lies on the CPU in channels_last_3d, in float32 or half of it."""
    if x.dim() != 5 or x.device.type != "cpu" or x.dtype not in _TYPES:
        return False
    return x.is_contiguous(memory_format=torch.channels_last_3d)


def norm(x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """x (B, C, Z, Y, X) normalised by (C,) means and variances that are known; no gradient."""
    slope = weight * (variance + eps).rsqrt()
    return _linear(x, slope[None], (bias - mean * slope)[None], [len(x)])


class NormElu(torch.autograd.Function):
    """ELU(BN(x)) with statistics of each group of samples; differentiated once.

    `apply(x, weight, bias, sizes, eps)` gives the (B, C, Z, Y, X) values and (G, C) means and variances of
    the groups, in float32 and without gradient. `sizes` are samples of consecutive groups.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, sizes: Sequence[int], eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values, means, variances."""
        means, variances = _statistics(x, sizes)
        slopes = weight * (variances + eps).rsqrt()
        out = torch.nn.functional.elu_(_linear(x, slopes, bias - means * slopes, sizes))
        ctx.save_for_backward(x, out, weight, means, variances)
        ctx.sizes, ctx.eps = sizes, eps
        ctx.mark_non_differentiable(means, variances)
        return out, means, variances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias."""
        x, out, weight, means, variances = ctx.saved_tensors
        inverse = (variances + ctx.eps).rsqrt()
        given = gradients[0].contiguous(memory_format=torch.channels_last_3d)
        inner = torch.empty_like(x)  # the gradient of what went into ELU
        _aten.elu_backward.grad_input(given, 1.0, 1.0, 1.0, True, out, grad_input=inner)
        by_weight, by_bias = _weight_gradients(inner, x, means, inverse, ctx.sizes)
        # dx = w / sd (g - mean g - x' mean(g x')) is linear in g and in x
        voxels = math.prod(x.shape[2:])
        counts = torch.tensor(ctx.sizes, dtype=weight.dtype)[:, None] * voxels
        factors = weight * inverse
        slopes = -factors * inverse * by_weight / counts
        shifts = -factors * by_bias / counts - slopes * means
        result = _linear(inner, factors, torch.zeros_like(factors), ctx.sizes)
        result += _linear(x, slopes, shifts, ctx.sizes)
        return result, by_weight.sum(0), by_bias.sum(0), None, None


def _groups(x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """(rows, about WIDTH) views of x (B, C, Z, Y, X), one a group; columns are C, C, ... of neighbours."""
    voxels, channels = math.prod(x.shape[2:]), x.shape[1]
    side_by_side = math.gcd(voxels, max(1, WIDTH // channels))
    columns = x.permute(0, 2, 3, 4, 1).reshape(-1, channels * side_by_side)
    return columns.split([voxels // side_by_side * size for size in sizes])


def _statistics(x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(G, C) means and variances, those of a channel's columns put together."""
    parts = _groups(x, sizes)
    mean, variance = torch.zeros(2, parts[0].shape[1])  # unused; without, the values' precision would be kept
    found = zip(*(torch.batch_norm_update_stats(part, mean, variance, 0.0) for part in parts), strict=True)
    means, variances = (torch.stack(kind).view(len(sizes), -1, x.shape[1]) for kind in found)
    together = means.mean(1, keepdim=True)
    return together[:, 0], (variances + (means - together).square()).mean(1)


def _weight_gradients(
    gradient: Tensor, x: Tensor, means: Tensor, inverse: Tensor, sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """(G, C) sums of g x' and of g, where x' are the normalised values."""
    parts = list(zip(_groups(gradient, sizes), _groups(x, sizes), strict=True))
    width = parts[0][0].shape[1]
    ones, known = torch.ones(width), (_repeated(means, width), _repeated(inverse, width))
    found = [
        _aten.native_batch_norm_backward(g, v, ones, None, None, m, i, True, 0.0, [False, True, True])[1:]
        for (g, v), m, i in zip(parts, *known, strict=True)
    ]
    kinds = (torch.stack(kind).view(len(sizes), -1, x.shape[1]) for kind in zip(*found, strict=True))
    by_weight, by_bias = (kind.sum(1) for kind in kinds)
    return by_weight, by_bias


def _linear(x: Tensor, slopes: Tensor, shifts: Tensor, sizes: Sequence[int]) -> Tensor:
    """(B, C, Z, Y, X) slope * x + shift of each group's (G, C), computed in float32, rounded once."""
    out = torch.empty_like(x)
    parts = _groups(x, sizes)
    width = parts[0].shape[1]
    known = torch.zeros(width), torch.ones(width)
    unused = dict.fromkeys(("save_mean", "save_invstd"), torch.empty(0))
    kinds = _repeated(slopes, width), _repeated(shifts, width)
    for part, slope, shift, into in zip(parts, *kinds, _groups(out, sizes), strict=True):
        # batch norm by a mean of 0 and a variance of 1: the one pass of torch that mixes bfloat16 and float32
        _aten.native_batch_norm.out(part, slope, shift, *known, False, 0.0, 0.0, out=into, **unused)
    return out


def _repeated(channels: Tensor, width: int) -> Tensor:
    """(G, width) of (G, C), C after C."""
    return channels.repeat(1, width // channels.shape[1])
