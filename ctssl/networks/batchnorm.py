"""Batch normalisation over fixed groups of a batch, whatever the number of devices."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

LEAST = 4
"""Samples that a group has at least, in batches that have them: the trunk ends in one voxel a patch, so
two samples would be told their signs only, and a lone scan would lose its mean."""


def group_sizes(samples: int, groups: int) -> list[int]:
    """Sizes of nearly equal groups, larger ones first: `groups`, or fewer so that none is below LEAST."""
    count = max(1, min(groups, samples // LEAST))
    return [samples // count + (i < samples % count) for i in range(count)]


class GroupedBatchNorm(_BatchNorm):
    """Batch normalisation in which each group of a batch has its own statistics.

    Takes (B, C) or (B, C, ...). State and evaluation mode are those of torch's BatchNorm; while
    training, the running statistics move by the mean over the groups. A query can so not be matched to
    its key by the statistics that both saw, when keys are permuted between groups.

    Args:
        features: channels C.
        groups: groups of a batch that is given without sizes; fewer where they would be too small.

    Source: shuffled batch normalisation of MoCo (arXiv 1911.05722, section 3.3), groups for GPUs.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, features: int, groups: int) -> None:
        super().__init__(features)
        self.groups = groups

    def forward(self, x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
        """(B, C, ...) normalised; `sizes` are those of consecutive groups along the first axis.

        Raises:
            ValueError: a group has a single value per channel, whose variance says nothing.
        """
        if not self.training:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        sizes = sizes if sizes is not None else group_sizes(len(x), self.groups)
        parts, means, variances = [], [], []
        for part in x.split(list(sizes)):
            if part.numel() // part.shape[1] < 2:
                msg = (
                    f"a batch norm group needs at least 2 values a channel, but has shape {tuple(part.shape)}"
                )
                raise ValueError(msg)
            mean, variance = self.running_mean.clone(), self.running_var.clone()
            parts.append(
                functional.batch_norm(
                    part, mean, variance, self.weight, self.bias, True, self.momentum, self.eps
                )
            )
            means.append(mean)
            variances.append(variance)
        with torch.no_grad():
            self.running_mean.copy_(torch.stack(means).mean(0))
            self.running_var.copy_(torch.stack(variances).mean(0))
            self.num_batches_tracked.add_(1)
        return torch.cat(parts) if len(parts) > 1 else parts[0]
