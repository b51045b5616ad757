"""Batch normalisation over fixed groups of a batch, whatever pass or device computes a group."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from ctssl.networks import columns

LEAST = 4
"""Samples that a group has at least, in batches that have them: the trunk ends in one voxel a patch, so
two samples would be told their signs only, and a lone scan would lose its mean."""


def group_sizes(samples: int, groups: int) -> list[int]:
    """Sizes of nearly equal groups, larger ones first: `groups`, or fewer so that none is below LEAST."""
    count = max(1, min(groups, samples // LEAST))
    return [samples // count + (i < samples % count) for i in range(count)]


class GroupedBatchNorm(_BatchNorm):
    """Batch normalisation in which each group of a batch has its own statistics.

    Takes (B, C) or (B, C, ...). State and evaluation mode are those of torch's BatchNorm. A query cannot be
    matched to its key by the statistics that both saw, when keys are permuted between groups.

    While training, a pass only notes the statistics of its groups; `settle` moves the running ones, once a
    step, by the mean over all groups of all passes and devices.

    Source: shuffled batch normalisation of MoCo (arXiv 1911.05722, section 3.3), groups for GPUs.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    noted: Tensor
    momentum: float

    def __init__(self, features: int) -> None:
        super().__init__(features)
        # sums over the groups since the last settling: means, variances, and in the last column their number
        self.register_buffer("noted", torch.zeros(2, features + 1), persistent=False)

    def forward(self, x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """(B, C, ...) normalised; `sizes` are those of consecutive groups along the first axis, or one group.

        Raises:
            ValueError: a group has a single value per channel, whose variance says nothing.
        """
        if not self.training:
            return self._known(x)
        parts = [self._normalised(part) for part in x.split(self._checked(x, sizes))]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def elu(self, x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """(B, C, ...): ELU of what `forward` gives, in one pass where that is faster.

        Raises:
            ValueError: as `forward`.
        """
        if not self.training or not columns.fits(x):
            return functional.elu(self(x, sizes), inplace=True)
        sizes = self._checked(x, sizes)
        values, means, variances = columns.NormElu.apply(x, self.weight, self.bias, sizes, self.eps)
        counts = torch.tensor(sizes, dtype=means.dtype) * math.prod(x.shape[2:])
        unbiased = variances * (counts / (counts - 1))[:, None]  # as torch's running variances are
        self._note(means.sum(0), unbiased.sum(0), len(sizes))
        return values

    def _known(self, x: Tensor) -> Tensor:
        """Normalised by the running statistics."""
        kinds = self.running_mean, self.running_var, self.weight, self.bias
        if columns.fits(x) and not torch.is_grad_enabled():
            return columns.norm(x, *kinds, self.eps)
        return functional.batch_norm(x, *kinds, eps=self.eps)

    def _checked(self, x: Tensor, sizes: Sequence[int] | None) -> list[int]:
        """The sizes of the groups, each of which has a variance."""
        found = list(sizes or [len(x)])
        if min(found) * math.prod(x.shape[2:]) < 2:
            shape = (min(found), *x.shape[1:])
            msg = f"a batch norm group needs at least 2 values a channel, but has shape {shape}"
            raise ValueError(msg)
        return found

    def _normalised(self, x: Tensor) -> Tensor:
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        # momentum 1: the two become the statistics of these values
        x = functional.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        self._note(mean, variance, 1)
        return x

    @torch.no_grad()
    def _note(self, mean: Tensor, variance: Tensor, groups: int) -> None:
        """Adds sums over so many groups to what is noted."""
        self.noted[0, :-1] += mean
        self.noted[1, :-1] += variance
        self.noted[:, -1] += groups


@torch.no_grad()
def settle(network: nn.Module, summed: Callable[[Tensor], Tensor], momentum: float | None = None) -> None:
    """Nothing; moves the running statistics of a network by the mean over the groups since the last time.

    Args:
        network: in whose batch norms passes were noted, here or on other devices.
        summed: a tensor -> its sum over all devices.
        momentum: how far they move, 1: they become that mean; None: as far as each norm says.
    """
    norms = list(_norms(network))
    if not norms:
        return
    noted = summed(torch.cat([norm.noted.flatten() for norm in norms]))
    for norm, sums in zip(norms, noted.split([norm.noted.numel() for norm in norms]), strict=True):
        means, variances = sums.view_as(norm.noted)
        groups, moved = means[-1].clamp_min(1), means[-1] > 0  # asked on the device: a GPU is not waited for
        far = moved * (norm.momentum if momentum is None else momentum)
        norm.running_mean.lerp_(means[:-1] / groups, far)
        norm.running_var.lerp_(variances[:-1] / groups, far)
        norm.num_batches_tracked.add_(moved)
        norm.noted.zero_()


def _norms(network: nn.Module) -> Iterator[GroupedBatchNorm]:
    return (module for module in network.modules() if isinstance(module, GroupedBatchNorm))
