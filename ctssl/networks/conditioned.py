"""The location-conditioned patch encoder: convolutions are mixtures of experts, chosen by the place."""

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from ctssl.networks.batchnorm import GroupedBatchNorm
from ctssl.networks.conv3d import SAFE_EDGE, dense_head


class Routing(nn.Module):
    """How much of each expert a place gets: sigmoid(A p + a)."""

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3, experts)

    def forward(self, places: Tensor) -> Tensor:
        """(R, experts) in (0, 1) of places (R, 3); shares of experts need not sum to 1."""
        return torch.sigmoid(self.fc(places))


class ConditionedConv3d(nn.Module):
    """A 3 x 3 x 3 convolution whose kernel depends on the place: W(p) = sum over e of r(p)_e W_e.

    Each expert starts as torch's own convolutions do. (The released code takes the outputs for inputs, and
    so starts with weights smaller by the root of their number.)

    Args:
        inputs: channels.
        outputs: channels.
        stride: of the convolution.
        experts: how many kernels are mixed; they share one bias.

    Source: CondConv (arXiv 1904.04971) with places in place of features, as in batmanlab/DrasCLR@899e313.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, experts: int) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs, 3, 3, 3))
        self.bias = nn.Parameter(torch.empty(outputs))
        self._routing_fn = Routing(experts)
        for expert in self.weight:
            nn.init.kaiming_uniform_(expert, a=math.sqrt(5))
        bound = 1 / math.sqrt(inputs * 27)
        nn.init.uniform_(self.bias, -bound, bound)

    def kernels(self, places: Tensor) -> Tensor:
        """(R, outputs, inputs, 3, 3, 3): the kernel of each place (R, 3), mixed in float32."""
        with torch.autocast(places.device.type, enabled=False):
            mixed = self._routing_fn(places.float()) @ self.weight.flatten(1)
        return mixed.view(len(places), *self.weight.shape[1:])

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """(B, outputs, Z', Y', X') of x (B, inputs, Z, Y, X).

        Args:
            x: maps.
            places: (1, 3), that of all maps, or (B, 3), one each. x, y, z in [-1, 1].
        """
        kernels = self.kernels(places)
        if len(kernels) == 1:
            # the order of a kernel's values decides that of the maps, on which the speed of training rests
            kernel = kernels[0].to(memory_format=torch.channels_last_3d)
            return functional.conv3d(x, kernel, self.bias, self.stride, padding=1)
        count = len(x)  # groups of one convolution: a third of the time of a loop on the CPU (seen)
        side_by_side = x.reshape(1, -1, *x.shape[2:])
        biases = self.bias.repeat(count)
        made = functional.conv3d(side_by_side, kernels.flatten(0, 1), biases, self.stride, 1, groups=count)
        return made.view(count, -1, *made.shape[2:])


class ConditionedHalving(nn.Module):
    """Three conditioned convolutions, each with batch norm and ELU, the last of stride 2."""

    def __init__(self, inputs: int, outputs: int, experts: int) -> None:
        super().__init__()
        self.conv1 = ConditionedConv3d(inputs, outputs, 1, experts)
        self.bn1 = GroupedBatchNorm(outputs)
        self.conv2 = ConditionedConv3d(outputs, outputs, 1, experts)
        self.bn2 = GroupedBatchNorm(outputs)
        self.conv3 = ConditionedConv3d(outputs, outputs, 2, experts)
        self.bn3 = GroupedBatchNorm(outputs)

    def layers(self) -> Iterator[tuple[ConditionedConv3d, GroupedBatchNorm]]:
        """Convolutions with their batch norms, in order."""
        yield from ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3))


class ConditionedEncoder(nn.Module):
    """A dense head on a trunk of 13 conditioned convolutions. Module names are those of the released weights.

    Args:
        features: width F of h, the trunk's output, and of the projection.
        experts: kernels that each convolution mixes.

    Source: layers of batmanlab/DrasCLR@899e313; the trunk is that of ctssl.networks.conv3d.PatchEncoder.
    """

    def __init__(self, features: int, experts: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = ConditionedConv3d(1, 8, 1, experts), GroupedBatchNorm(8)
        self.conv2, self.bn2 = ConditionedConv3d(8, 8, 2, experts), GroupedBatchNorm(8)
        self.downsample1 = ConditionedHalving(8, 16, experts)
        self.downsample2 = ConditionedHalving(16, 32, experts)
        self.downsample3 = ConditionedHalving(32, 64, experts)
        self.conv3, self.bn3 = ConditionedConv3d(64, features, 1, experts), GroupedBatchNorm(features)
        self.conv4, self.bn4 = ConditionedConv3d(features, features, 2, experts), GroupedBatchNorm(features)
        self.fc = dense_head(features, features, 2)

    def layers(self) -> Iterator[tuple[ConditionedConv3d, GroupedBatchNorm]]:
        """The trunk's convolutions with their batch norms, in order."""
        yield from ((self.conv1, self.bn1), (self.conv2, self.bn2))
        for halving in (self.downsample1, self.downsample2, self.downsample3):
            yield from halving.layers()
        yield from ((self.conv3, self.bn3), (self.conv4, self.bn4))

    def trunk(self, patches: Tensor, places: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, F): h of patches (B, 1, E, E, E) in [-1, 1], axes z, y, x.

        Made for E = 32, of which one voxel is left. Of more voxels the mean is taken; that is ours.

        Args:
            patches: in channels_last_3d they are fastest at one place.
            places: (1, 3), that of all patches, or (B, 3), one each. x, y, z in [-1, 1] of the atlas.
            groups: sizes of the batch norm groups while training; one group when None.

        Raises:
            ValueError: neither one place nor one for each patch.
        """
        if places.shape not in {(1, 3), (len(patches), 3)}:
            msg = f"{len(patches)} patches need (1, 3) or ({len(patches)}, 3) places, not {(*places.shape,)}"
            raise ValueError(msg)
        x = patches
        for convolution, norm in self.layers():
            small = x.shape[-1] < SAFE_EDGE
            with torch.autocast(x.device.type, enabled=False) if small else nullcontext():
                x = norm.elu(convolution(x.float() if small else x, places), groups)
        return x.flatten(2).mean(2)

    def forward(self, patches: Tensor, places: Tensor, groups: Sequence[int] | None = None) -> Tensor:
        """(B, F): the projection of patches (B, 1, E, E, E); arguments as of `trunk`."""
        return self.project(self.trunk(patches, places, groups))

    def project(self, features: Tensor) -> Tensor:
        """(B, F): the head on trunk features (B, F)."""
        return self.fc(features)
