"""Dense layers with batch norm between features and what is compared."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.networks.batchnorm import GroupedBatchNorm


class Projector(nn.Module):
    """Three dense layers, batch norm and ReLU after the first two; in float32.

    Args:
        features: that come in.
        size: P of each layer.

    Source: Luffy03/VoCo@ba7b7bd, whose batch norm has neither factors nor running statistics.
    """

    def __init__(self, features: int, size: int) -> None:
        super().__init__()
        self.dense1, self.bn1 = nn.Linear(features, size), GroupedBatchNorm(size)
        self.dense2, self.bn2 = nn.Linear(size, size), GroupedBatchNorm(size)
        self.dense3 = nn.Linear(size, size)

    def forward(self, x: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, P) of (B, features).

        Args:
            x: of any precision.
            groups: sizes of the batch norm groups while training; one group when None.
        """
        with torch.autocast(x.device.type, enabled=False):
            x = functional.relu(self.bn1(self.dense1(x.float()), groups))
            return self.dense3(functional.relu(self.bn2(self.dense2(x), groups)))
