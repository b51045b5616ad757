"""What methods share whose networks see windows over the lungs."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

TOGETHER_VOXELS = 1 << 20
"""Of windows that go through a network together; one window at least."""


def window_features(
    hu: Tensor, counts: Sequence[int], window_hu: tuple[int, int], network: Callable[[Tensor], Tensor]
) -> Tensor:
    """(B, F): the mean over each scan's windows of what a network gives of them.

    Published networks see arrays x, y, z, as their readers gave them; ours are z, y, x.

    Args:
        hu: (M, Z, Y, X) windows of all scans.
        counts: windows of each of the B scans.
        window_hu: becomes 0 to 1.
        network: (m, 1, X, Y, Z) in [0, 1] -> (m, F).
    """
    low, high = window_hu
    together = max(1, TOGETHER_VOXELS // hu[0].numel())
    found = []
    for part in hu.split(together):
        scaled = (part.float().clamp(low, high) - low) / (high - low)
        found.append(network(scaled.permute(0, 3, 2, 1)[:, None]).float())
    return torch.stack([each.mean(0) for each in torch.cat(found).split(list(counts))])
